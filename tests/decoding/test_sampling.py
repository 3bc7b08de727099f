"""Greedy and sampled decoding against plain loops and enumerated distributions."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlseq.decoding import sampling
from rlseq.decoding.sampling import Decoded, Drawing, decode, inverse_cdf
from rlseq.models.policy import SequencePolicy, length_mask
from rlseq.objectives.distribution import SamplingDistribution
from rlseq_envs.counters import counter_uniforms
from tests.support import attention_policy, every_sequence, padded, pointer_policy, sources

ALMOST_ONE = 1 - 2**-53
LENGTHS = [5, 3, 1, 4, 5, 2]
KINDS = {
    "attention": lambda: attention_policy(vocabulary=4, feed_context=True),
    "attention-plain": lambda: attention_policy(vocabulary=4, feed_context=False),
    "pointer": lambda: pointer_policy(),
    "pointer-masked": lambda: pointer_policy(mask_revisits=True, feed_context=True),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def uniforms(rows: int, samples: int, length: int, update: int = 0) -> Tensor:
    return torch.from_numpy(counter_uniforms(0, update, np.arange(rows), samples, length))


def decoded(policy: SequencePolicy, limits: list[int] | None = None, samples: int = 3, **keys: Any) -> Decoded:
    memory = policy.encode(sources(policy, LENGTHS))
    bounds = torch.tensor(limits or [length + 1 for length in LENGTHS])
    draws = uniforms(len(LENGTHS), samples, int(bounds.max())) if samples else None
    return decode(policy, memory, bounds, Drawing(uniforms=draws, **keys))


# -------------------------------------------------------------------------------------------------------- inverse CDF
def drawn_from(distribution: Tensor, uniform: float) -> int:
    return int(inverse_cdf(distribution[None], torch.tensor([uniform], dtype=torch.float64), torch.tensor([0])))


def test_every_threshold_of_a_distribution_is_met_exactly() -> None:
    distribution = torch.tensor([0, 4, 0, 8, 3, 1, 0]) / 16
    drawn = inverse_cdf(
        distribution[None], torch.arange(32, dtype=torch.float64) / 32, torch.zeros(32, dtype=torch.int64)
    )
    assert drawn.tolist() == [1] * 8 + [3] * 16 + [4] * 6 + [5] * 2


@settings(max_examples=100, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0.0, 0.0, 1e-30, 1e-9, 0.1, 1.0, 3.0]), min_size=1, max_size=12),
    uniform=st.sampled_from([0.0, 2**-53, 0.5, ALMOST_ONE]) | st.floats(0, ALMOST_ONE),
    kind=st.sampled_from([torch.float32, torch.float64]),
)
def test_what_cannot_happen_is_never_drawn(weights: list[float], uniform: float, kind: torch.dtype) -> None:
    distribution = torch.tensor([*weights, 0.0, 1.0, 0.0], dtype=kind)
    distribution /= distribution.sum()
    for probabilities in (
        distribution,
        distribution.flip(0),
        torch.nn.functional.one_hot(distribution.argmax(), len(distribution)).to(kind),
    ):
        choice = drawn_from(probabilities, uniform)
        assert 0 <= choice < len(distribution) and probabilities[choice] > 0
        below, upto = float(probabilities[:choice].sum()), float(probabilities[: choice + 1].sum())
        assert below - 1e-6 <= uniform <= upto + 1e-6


def test_a_distribution_that_does_not_quite_sum_to_one_is_drawn_in_proportion() -> None:
    distribution = torch.tensor([[0.25, 0.25, 0.5]]) * (1 - 1e-3)
    for uniform, choice in ((0.2499, 0), (0.2501, 1), (0.4999, 1), (0.5001, 2), (ALMOST_ONE, 2)):
        assert drawn_from(distribution[0], uniform) == choice


def test_no_rows_give_no_draws() -> None:
    assert inverse_cdf(torch.ones(2, 3), torch.zeros(0), torch.zeros(0, dtype=torch.int64)).shape == (0,)


# ------------------------------------------------------------------------------------------------------------ greedy
def plain_greedy(policy: SequencePolicy, row: int, limit: int) -> list[int]:
    """One instance, one token at a time."""
    source = sources(policy, LENGTHS)
    memory = policy.encode(source.part(row, row + 1))
    state, tokens = policy.initial_state(memory), [0]
    for time in range(limit):
        logits, state, _ = policy.step(torch.tensor(tokens[-1:]), time, state, memory)
        tokens.append(int(logits.argmax()))
        if tokens[-1] == 0:
            break
    return tokens[1:]


@every_kind
@pytest.mark.parametrize("seed", range(3))
def test_greedy_takes_the_likeliest_token_step_by_step(kind: str, seed: int) -> None:
    policy = attention_policy(4, seed) if kind.startswith("attention") else pointer_policy(seed)
    limits = [4, 6, 2, 5, 1, 3]
    out = decoded(policy, limits, samples=0)
    assert out.sequences.shape[:2] == (len(LENGTHS), 1)
    for row, limit in enumerate(limits):
        expected = plain_greedy(policy, row, limit)
        assert int(out.lengths[row, 0]) == len(expected)
        assert out.sequences[row, 0].tolist() == expected + [0] * (out.sequences.shape[2] - len(expected))


# ---------------------------------------------------------------------------------------------------- log-probabilities
@every_kind
@pytest.mark.parametrize("temperature", [1.0, 0.6, 2.0])
def test_log_probabilities_are_those_that_scoring_gives_the_tokens(kind: str, temperature: float) -> None:
    policy = KINDS[kind]()
    source = sources(policy, LENGTHS)
    out = decoded(policy, samples=3, distribution=SamplingDistribution(temperature))
    for column in range(4):
        sequences, lengths = out.sequences[:, column], out.lengths[:, column]
        logits = policy.token_logits(policy.encode(source), sequences, lengths).detach()
        scale = temperature if column < 3 else 1.0
        real = length_mask(lengths, sequences.shape[1])
        expected = (logits / scale).log_softmax(-1).gather(1, sequences[real][:, None])[:, 0]
        torch.testing.assert_close(out.log_probs[:, column][real], expected, atol=1e-5, rtol=0)
        assert not out.log_probs[:, column][~real].any()
        assert not sequences[~real].any()


def test_no_graph_is_built() -> None:
    out = decoded(attention_policy(4), with_attention=True)
    assert out.attention is not None and not (out.log_probs.requires_grad or out.attention.requires_grad)


# --------------------------------------------------------------------------------------------------------- distribution
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sequences_are_drawn_as_often_as_their_distribution_says(temperature: float) -> None:
    policy, limit, count = attention_policy(vocabulary=3), 3, 20000
    source = sources(policy, [4])
    found = every_sequence(3, limit)
    rows, lengths = padded(found)
    repeated = policy.encode(source).select(torch.zeros(len(found), dtype=torch.int64))
    logits = policy.token_logits(repeated, rows, lengths).detach() / temperature
    taken = logits.log_softmax(-1).gather(1, rows[length_mask(lengths, limit)][:, None])[:, 0]
    distribution = [float(part.sum().exp()) for part in taken.split(lengths.tolist())]
    assert math.isclose(sum(distribution), 1.0, abs_tol=1e-5)
    out = decode(
        policy,
        policy.encode(source),
        torch.tensor([limit]),
        Drawing(uniforms=uniforms(1, count, limit), distribution=SamplingDistribution(temperature), greedy=False),
    )
    drawn = Counter(tuple(row[:n].tolist()) for row, n in zip(out.sequences[0], out.lengths[0], strict=True))
    assert set(drawn) <= set(found)
    for sequence, probability in zip(found, distribution, strict=True):
        spread = 4 * math.sqrt(probability * (1 - probability) / count) + 2 / count
        assert abs(drawn[sequence] / count - probability) < spread


def test_a_masked_pointer_never_draws_a_point_twice_nor_padding() -> None:
    policy = pointer_policy(mask_revisits=True)
    out = decoded(policy, samples=50)
    for row, count in enumerate(LENGTHS):
        for sequence, length in zip(out.sequences[row], out.lengths[row], strict=True):
            points = [token for token in sequence[:length].tolist() if token]
            assert len(set(points)) == len(points) and max(points, default=0) <= count


# ---------------------------------------------------------------------------------------------- truncated distributions
TRUNCATED = [SamplingDistribution(1.0, 2), SamplingDistribution(0.7, None, 0.8), SamplingDistribution(1.5, 3, 0.9)]


@every_kind
@pytest.mark.parametrize("distribution", TRUNCATED)
def test_samples_are_of_the_support_and_scored_as_they_were_drawn(
    kind: str, distribution: SamplingDistribution
) -> None:
    """With packed weights drawn, with torch's own scored; greedy ones stay under the policy's distribution."""
    policy = KINDS[kind]()
    source = sources(policy, LENGTHS)
    out, plain = decoded(policy, samples=8, distribution=distribution), decoded(policy, samples=0)
    for column in range(9):
        sequences, lengths = out.sequences[:, column], out.lengths[:, column]
        real = length_mask(lengths, sequences.shape[1])
        logits = policy.token_logits(policy.encode(source), sequences, lengths).detach()
        expected = (
            (distribution.logits(logits) if column < 8 else logits).log_softmax(-1).gather(1, sequences[real][:, None])
        )
        torch.testing.assert_close(out.log_probs[:, column][real], expected[:, 0], atol=1e-5, rtol=0)
    assert_same(Decoded(out.sequences[:, 8:, : plain.sequences.shape[2]], out.lengths[:, 8:], plain.log_probs), plain)


@every_kind
def test_the_likeliest_choice_alone_is_greedy(kind: str) -> None:
    policy = KINDS[kind]()
    for distribution in (
        SamplingDistribution(top_k=1),
        SamplingDistribution(top_p=1e-6),
        SamplingDistribution(3.0, 1, 0.5),
    ):
        out = decoded(policy, samples=2, distribution=distribution)
        assert (out.sequences == out.sequences[:, 2:]).all() and (out.lengths == out.lengths[:, 2:]).all()
        assert not out.log_probs[:, :2].any()


@pytest.mark.parametrize("distribution", TRUNCATED)
def test_tokens_are_drawn_as_often_as_the_truncated_distribution_says(distribution: SamplingDistribution) -> None:
    policy, count = attention_policy(vocabulary=6, seed=2), 20000
    memory = policy.encode(sources(policy, [4]))
    logits = (
        policy.step(torch.tensor([0]), 0, policy.initial_state(memory), memory)[0].detach()[0]
        / distribution.temperature
    )
    masses = logits.softmax(-1).tolist()
    kept = sorted(range(6), key=lambda token: -masses[token])[: distribution.top_k]
    within = sum(masses[token] for token in kept)
    kept = [t for place, t in enumerate(kept) if sum(masses[k] for k in kept[:place]) < distribution.top_p * within]
    assert 1 < len(kept) < 6
    out = decode(
        policy,
        memory,
        torch.tensor([1]),
        Drawing(uniforms=uniforms(1, count, 1), distribution=distribution, greedy=False),
    )
    drawn = out.sequences[0, :, 0].bincount(minlength=6) / count
    for token in range(6):
        expected = masses[token] / sum(masses[k] for k in kept) if token in kept else 0.0
        assert abs(float(drawn[token]) - expected) <= 4 * math.sqrt(expected * (1 - expected) / count)


# ------------------------------------------------------------------------------------------------------ minimum length
@every_kind
@pytest.mark.parametrize("distribution", [SamplingDistribution(), SamplingDistribution(0.7, 2)])
def test_nothing_ends_before_the_minimum_length_unless_nothing_else_is_left(
    kind: str, distribution: SamplingDistribution
) -> None:
    policy = KINDS[kind]()
    limits = [6, 6, 6, 3, 6, 6]
    free, out = (
        decoded(policy, limits, samples=8, distribution=distribution),
        decoded(policy, limits, samples=8, distribution=distribution, min_length=4),
    )
    assert int(free.lengths.min()) < 4
    for row, count in enumerate(LENGTHS):
        least = min(4, limits[row], count + 1 if kind == "pointer-masked" else 4)
        assert int(out.lengths[row].min()) >= least
    assert torch.isfinite(out.log_probs).all()


@pytest.mark.parametrize("kind", ["attention", "pointer"])
def test_samples_of_a_minimum_length_are_of_the_distribution_without_end_and_greedy_ones_of_the_policys(
    kind: str,
) -> None:
    policy = KINDS[kind]()
    source = sources(policy, LENGTHS)
    out = decoded(policy, samples=4, min_length=3, distribution=SamplingDistribution(0.8))
    for column in range(5):
        sequences, lengths = out.sequences[:, column], out.lengths[:, column]
        real = length_mask(lengths, sequences.shape[1])
        logits = policy.token_logits(policy.encode(source), sequences, lengths).detach()
        if column < 4:
            early = (torch.arange(sequences.shape[1]) < 2).expand_as(real)[real]
            logits[early, 0] = -1e9
            logits /= 0.8
        expected = logits.log_softmax(-1).gather(1, sequences[real][:, None])[:, 0]
        torch.testing.assert_close(out.log_probs[:, column][real], expected, atol=1e-5, rtol=0)


def test_a_policy_that_would_end_at_once_is_made_to_go_on() -> None:
    policy: Any = attention_policy(4)
    with torch.no_grad():
        policy.output.bias[0] = 1e4
    out = decoded(policy, [6] * len(LENGTHS), min_length=5)
    assert (out.lengths == 5).all() and (out.sequences[:, :, :4] > 0).all() and not out.sequences[:, :, 4].any()
    assert torch.isfinite(out.log_probs).all()


# ------------------------------------------------------------------------------------------------ how it is carried out
def assert_same(ours: Decoded, theirs: Decoded) -> None:
    assert torch.equal(ours.sequences, theirs.sequences) and torch.equal(ours.lengths, theirs.lengths)
    torch.testing.assert_close(ours.log_probs, theirs.log_probs, atol=1e-6, rtol=0)
    if ours.attention is not None and theirs.attention is not None:
        torch.testing.assert_close(ours.attention, theirs.attention, atol=1e-6, rtol=0)


@every_kind
@pytest.mark.parametrize("below", [0.0, 0.5, 1.0])
def test_dropping_finished_rows_changes_nothing(kind: str, below: float, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = KINDS[kind]()
    out = []
    for share in (0.0, below):
        monkeypatch.setattr(sampling, "COMPACT_BELOW", share)
        out.append(decoded(policy, samples=4, distribution=SamplingDistribution(0.7), with_attention=True))
    assert_same(*out)
    assert len(set(out[0].lengths.flatten().tolist())) > 2


@every_kind
@pytest.mark.parametrize("below", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("every", [2, 3, 8])
def test_looking_seldom_at_the_device_changes_nothing(
    kind: str, every: int, below: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is done on a GPU, where every sequence has a row of its own."""
    policy = KINDS[kind]()
    out = [decoded(policy, samples=4, distribution=SamplingDistribution(0.7), with_attention=True)]
    monkeypatch.setattr(sampling, "COMPACT_BELOW", below)
    monkeypatch.setitem(sampling.CHECK_EVERY, "cpu", every)
    out.append(decoded(policy, samples=4, distribution=SamplingDistribution(0.7), with_attention=True))
    assert_same(*out)


@every_kind
def test_samples_and_greedy_in_one_batch_equal_separate_calls(kind: str) -> None:
    policy = KINDS[kind]()
    both = decoded(policy, samples=3, distribution=SamplingDistribution(0.7), with_attention=True)
    drawn = decoded(policy, samples=3, distribution=SamplingDistribution(0.7), with_attention=True, greedy=False)
    best = decoded(policy, samples=0, distribution=SamplingDistribution(0.7), with_attention=True)
    for part, columns in ((drawn, slice(0, 3)), (best, slice(3, 4))):
        time = part.sequences.shape[2]
        assert int(both.lengths[:, columns].max()) == time
        assert both.attention is not None
        assert_same(
            part,
            Decoded(
                both.sequences[:, columns, :time],
                both.lengths[:, columns],
                both.log_probs[:, columns, :time],
                both.attention[:, columns, :time],
            ),
        )


def test_attention_is_that_of_each_token_and_zero_beyond() -> None:
    out = decoded(pointer_policy(), samples=2, with_attention=True)
    assert out.attention is not None and decoded(pointer_policy()).attention is None
    real = length_mask(out.lengths.flatten(), out.sequences.shape[2]).view(out.sequences.shape)
    torch.testing.assert_close(out.attention.sum(-1), real.float())
    # A pointer's attention is its distribution: with that distribution the token was drawn.
    of_token = out.attention.gather(3, out.sequences[..., None])[..., 0]
    torch.testing.assert_close(of_token[real].log(), out.log_probs[real], atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------------------------------------- limits
def test_a_policy_that_never_ends_is_cut_at_each_limit() -> None:
    policy: Any = attention_policy(4)
    with torch.no_grad():
        policy.output.bias[0] = -1e9
    limits = [4, 6, 2, 5, 1, 3]
    out = decoded(policy, limits)
    assert out.lengths.tolist() == [[limit] * 4 for limit in limits]
    for row, limit in enumerate(limits):
        assert (out.sequences[row, :, :limit] > 0).all() and not out.sequences[row, :, limit:].any()


def test_a_policy_that_ends_at_once_gives_the_empty_sequence() -> None:
    policy: Any = attention_policy(4)
    with torch.no_grad():
        policy.output.bias[0] = 1e4
    out = decoded(policy)
    assert out.sequences.shape == (len(LENGTHS), 4, 1) and not out.sequences.any() and (out.lengths == 1).all()


def test_end_at_the_limit_and_a_cut_there_have_the_same_length() -> None:
    policy = attention_policy(4)
    out = decoded(policy, [2] * len(LENGTHS), samples=40)
    last = out.sequences[out.lengths == 2][:, 1]
    assert (last == 0).any() and (last > 0).any()
