"""Losses against torch's own and against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical
from torch.distributions import kl_divergence as torch_kl
from torch.nn import functional as F

from rlseq.objectives.logits import IMPOSSIBLE, is_possible
from rlseq.objectives.losses import entropy, kl_divergence, label_smoothing, negative_log_likelihood, weighted_nll


def logits(seed: int = 0, rows: int = 5, choices: int = 4) -> torch.Tensor:
    return torch.randn(rows, choices, generator=torch.Generator().manual_seed(seed)) * 2


TARGETS = torch.tensor([0, 3, 1, 2, 0])


def smoothed(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    return negative_log_likelihood(logits, targets) + smoothing * label_smoothing(logits, targets)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_torchs_where_all_choices_are_possible(smoothing: float) -> None:
    ours = smoothed(logits(), TARGETS, smoothing)
    expected = F.cross_entropy(logits(), TARGETS, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_projection_with_a_barred_choice_has_the_gradient_of_its_logits(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    features, weight = (torch.randn(rows, 4, generator=generator, requires_grad=True) for rows in (6, 3))
    bias = torch.tensor([IMPOSSIBLE, 0.2, 0.1], requires_grad=True)
    targets, weights = torch.tensor([1, 2, 1, 1, 2, 2]), torch.rand(6, generator=generator)
    fused = weighted_nll(features, (weight, bias), targets, weights, smoothing)[0]
    plain = weighted_nll(F.linear(features, weight, bias), None, targets, weights, smoothing)[0]
    torch.testing.assert_close(fused, plain)
    leaves = (features, weight, bias)
    for ours, theirs in zip(torch.autograd.grad(fused, leaves), torch.autograd.grad(plain, leaves), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_label_smoothing_spreads_over_possible_choices_alone() -> None:
    distribution = torch.tensor([0.5, 0.25, 0.25])
    masked = torch.tensor([[*distribution.log().tolist(), IMPOSSIBLE, IMPOSSIBLE]], requires_grad=True)
    loss = smoothed(masked, torch.tensor([1]), 0.3)
    # 0.7 · ln 4 + 0.3 · (ln 2 + ln 4 + ln 4) / 3
    assert loss.item() == pytest.approx(0.7 * math.log(4) + 0.1 * 5 * math.log(2), abs=1e-6)
    loss.sum().backward()
    # Its gradient is the distribution less the smoothed target, and nothing at the impossible.
    expected = distribution - torch.tensor([0.1, 0.8, 0.1])
    torch.testing.assert_close(masked.grad, torch.tensor([[*expected.tolist(), 0.0, 0.0]]))


def test_what_is_impossible_stays_so_under_every_distribution_and_has_no_probability() -> None:
    scores = torch.tensor([3.0, -40.0, IMPOSSIBLE])
    for changed in (scores, scores / 5, scores * 10, scores.log_softmax(-1), scores + 1000):
        assert is_possible(changed).tolist() == [True, True, False]
    assert scores.softmax(-1)[2] == 0


def test_kl_and_entropy_are_those_of_torchs_distributions() -> None:
    p, q = Categorical(logits=logits(1)), Categorical(logits=logits(2))
    torch.testing.assert_close(kl_divergence(logits(1), logits(2)), torch_kl(p, q))
    torch.testing.assert_close(entropy(logits(1)), p.entropy())


def test_impossible_choices_add_nothing_to_kl_and_entropy_nor_to_their_gradients() -> None:
    plain = [logits(seed).requires_grad_() for seed in (1, 2)]
    wide = [F.pad(logits(seed), (0, 3), value=IMPOSSIBLE).requires_grad_() for seed in (1, 2)]
    for parts in (plain, wide):
        (kl_divergence(*parts) + entropy(parts[0])).sum().backward()
    torch.testing.assert_close(kl_divergence(*wide), kl_divergence(*plain))
    torch.testing.assert_close(entropy(wide[0]), entropy(plain[0]))
    for ours, theirs in zip(wide, plain, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad[:, :4], theirs.grad, atol=1e-6, rtol=0)
        assert not ours.grad[:, 4:].any()
