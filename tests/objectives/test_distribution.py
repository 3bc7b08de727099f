"""The distribution that is sampled from: its support against plain definitions, its gradient with support fixed."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlseq.objectives import distribution as module
from rlseq.objectives.distribution import POLICY, SamplingDistribution
from rlseq.objectives.logits import IMPOSSIBLE, is_possible
from rlseq.objectives.losses import entropy, weighted_nll

distributions = st.builds(
    SamplingDistribution,
    st.sampled_from([0.5, 1.0, 2.0]),
    st.none() | st.integers(1, 9),
    st.just(1.0) | st.floats(0.01, 0.999),
)
rows = st.lists(st.integers(-40, 40).map(lambda tenths: tenths / 10), min_size=1, max_size=8, unique=True)


def support(distribution: SamplingDistribution, logits: list[float]) -> set[int]:
    kept = is_possible(distribution.logits(torch.tensor([logits], dtype=torch.float64))[0])
    return set(kept.nonzero()[:, 0].tolist())


def softmax(logits: list[float]) -> list[float]:
    masses = [math.exp(logit - max(logits)) for logit in logits]
    return [mass / math.fsum(masses) for mass in masses]


def hugging_face(distribution: SamplingDistribution, logits: list[float]) -> tuple[set[int], float]:
    """TemperatureLogitsWarper, TopKLogitsWarper and TopPLogitsWarper, in lists; and how near the nucleus' edge is."""
    scores, edge = [logit / distribution.temperature for logit in logits], 1.0
    if distribution.top_k is not None:
        threshold = sorted(scores)[-min(distribution.top_k, len(scores))]
        scores = [-math.inf if score < threshold else score for score in scores]
    if distribution.top_p < 1.0:
        order, cumulative, masses = sorted(range(len(scores)), key=scores.__getitem__), 0.0, softmax(scores)
        for index in order[:-1]:  # min_tokens_to_keep is 1
            cumulative += masses[index]
            edge = min(edge, abs(cumulative - (1.0 - distribution.top_p)))
            if cumulative <= 1.0 - distribution.top_p:
                scores[index] = -math.inf
    return {index for index, score in enumerate(scores) if score > -math.inf}, edge


@settings(max_examples=300, deadline=None)
@given(distribution=distributions, logits=rows)
@example(distribution=SamplingDistribution(1.0, 50, 0.9), logits=[0.0, 1.0, 2.0])
@example(distribution=SamplingDistribution(1.0, 1, 0.01), logits=[0.0, 1.0, 2.0])
def test_the_support_is_that_of_hugging_faces_definition(
    distribution: SamplingDistribution, logits: list[float]
) -> None:
    expected, edge = hugging_face(distribution, logits)
    assume(edge > 1e-9)
    assert support(distribution, logits) == expected


@settings(max_examples=100, deadline=None)
@given(logits=rows, mass=st.floats(0.01, 0.999))
def test_the_nucleus_is_the_smallest_set_that_holds_the_mass(logits: list[float], mass: float) -> None:
    probabilities = softmax(logits)
    sizes = range(1, len(logits) + 1)
    subsets = [subset for size in sizes for subset in itertools.combinations(range(len(logits)), size)]
    assume(all(abs(math.fsum(probabilities[i] for i in subset) - mass) > 1e-9 for subset in subsets))
    enough = [subset for subset in subsets if math.fsum(probabilities[i] for i in subset) >= mass]
    fewest = [subset for subset in enough if len(subset) == len(enough[0])]
    best = max(fewest, key=lambda subset: math.fsum(probabilities[i] for i in subset))
    assert support(SamplingDistribution(top_p=mass), logits) == set(best)


@settings(max_examples=100, deadline=None)
@given(
    distribution=distributions,
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=8),
    random=st.randoms(),
)
def test_equals_stay_or_go_together_wherever_they_stand(
    distribution: SamplingDistribution, values: list[float], random: object
) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    kept = support(distribution, values)
    assert {values[i] for i in kept}.isdisjoint(values[i] for i in order if i not in kept)
    assert {order[i] for i in support(distribution, [values[i] for i in order])} == kept


def test_ties_by_hand() -> None:
    logits = [1.0, 3.0, 1.0, 2.0, 1.0]
    assert support(SamplingDistribution(top_k=2), logits) == {1, 3}
    assert support(SamplingDistribution(top_k=3), logits) == {0, 1, 2, 3, 4}
    halves = [math.log(p) for p in (0.125, 0.5, 0.125, 0.25)]
    assert support(SamplingDistribution(top_p=0.75), halves) == {1, 3}
    assert support(SamplingDistribution(top_p=0.76), halves) == {0, 1, 2, 3}


def test_the_nucleus_is_of_what_top_k_left() -> None:
    logits = [math.log(p) for p in (0.4, 0.3, 0.2, 0.1)]
    assert support(SamplingDistribution(top_p=0.55), logits) == {0, 1}
    assert support(SamplingDistribution(top_k=2, top_p=0.55), logits) == {0}  # 4/7 of what is left


@pytest.mark.parametrize("mass", [0.2, 0.9, 0.999])
@pytest.mark.parametrize("first", [1, 3, 64])
def test_a_nucleus_of_many_choices_is_found_however_few_are_looked_at_first(
    mass: float, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NUCLEUS", first)
    logits = torch.randn(6, 1000, generator=torch.Generator().manual_seed(0)).double()
    logits[:2] *= torch.tensor([[5.0], [0.1]])
    ours = is_possible(SamplingDistribution(top_p=mass).logits(logits))
    for row, kept in zip(logits, ours, strict=True):
        assert set(kept.nonzero()[:, 0].tolist()) == hugging_face(SamplingDistribution(top_p=mass), row.tolist())[0]
    assert len(set(ours.sum(1).tolist())) > 2


def test_the_policys_own_distribution_costs_nothing() -> None:
    logits = torch.randn(3, 5)
    assert POLICY.logits(logits) is logits and POLICY.tempered(logits) is logits
    assert SamplingDistribution(top_p=1.0).logits(logits, torch.zeros(3, dtype=torch.int64)) is logits


def test_what_is_impossible_stays_so_and_what_was_sampled_is_possible() -> None:
    logits = torch.tensor([[IMPOSSIBLE, 2.0, 1.0, 0.0, IMPOSSIBLE]])
    for distribution in (
        SamplingDistribution(top_k=4),
        SamplingDistribution(top_p=0.9999),
        SamplingDistribution(0.5, 4, 0.99),
    ):
        assert distribution.logits(logits).softmax(-1)[0, [0, 4]].tolist() == [0.0, 0.0]
    sampled = SamplingDistribution(top_k=1).logits(logits, torch.tensor([3]))
    torch.testing.assert_close(sampled, torch.tensor([[IMPOSSIBLE, 2.0, IMPOSSIBLE, 0.0, IMPOSSIBLE]]))


# ------------------------------------------------------------------------------------------------------------- scoring
LAWS = [
    SamplingDistribution(),
    SamplingDistribution(0.6),
    SamplingDistribution(1.3, 3),
    SamplingDistribution(1.0, None, 0.7),
    SamplingDistribution(0.8, 4, 0.8),
]


def head(rows: int = 300, size: int = 5, choices: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, size), (choices, size), (choices,))
    return [torch.randn(shape, generator=generator).double().requires_grad_() for shape in shapes]


def plain_loss(distribution: SamplingDistribution, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Row by row, over the choices of the support alone."""
    total = logits.new_zeros(())
    for row, target, weight in zip(logits, targets.tolist(), weights, strict=True):
        kept = sorted(hugging_face(distribution, row.tolist())[0] | {target})
        total = total - weight * (row[kept] / distribution.temperature).log_softmax(-1)[kept.index(target)]
    return total


@pytest.mark.parametrize("distribution", LAWS)
@pytest.mark.parametrize("fused", [True, False])
def test_loss_and_gradients_are_those_of_the_support_alone(distribution: SamplingDistribution, fused: bool) -> None:
    features, weight, bias = inputs = head()
    targets = torch.arange(len(features)) % 7
    weights = torch.randn(len(features), generator=torch.Generator().manual_seed(1)).double()
    logits = torch.nn.functional.linear(features, weight, bias)
    expected = torch.autograd.grad(plain_loss(distribution, logits, targets, weights), inputs, retain_graph=True)
    found = weighted_nll(
        features if fused else logits, (weight, bias) if fused else None, targets, weights, distribution=distribution
    )
    loss, nll = found
    torch.testing.assert_close(loss, plain_loss(distribution, logits, targets, weights))
    torch.testing.assert_close((nll * weights).sum(), loss)
    for ours, theirs in zip(torch.autograd.grad(loss, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("distribution", LAWS[2:])
def test_the_entropy_is_that_of_the_support_and_moves_nothing_outside(distribution: SamplingDistribution) -> None:
    logits = torch.randn(20, 7, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    found = entropy(distribution.logits(logits))
    found.sum().backward()
    assert logits.grad is not None
    for row, value, grad in zip(logits.detach(), found.tolist(), logits.grad, strict=True):
        kept = sorted(hugging_face(distribution, row.tolist())[0])
        log_p = (row[kept] / distribution.temperature).log_softmax(-1)
        assert value == pytest.approx(float(-(log_p.exp() * log_p).sum()))
        assert len(kept) < 7 and not grad[[i for i in range(7) if i not in kept]].any()
