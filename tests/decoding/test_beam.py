"""Beam search against a plain reference and against exhaustive search."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlseq.decoding import beam
from rlseq.decoding.beam import beam_search
from rlseq.decoding.sampling import Decoded, decode
from rlseq.models.policy import SequencePolicy, length_mask
from tests.support import attention_policy, beam_of, every_sequence, padded, pointer_policy, sources

Hypothesis = tuple[list[int], float]  # tokens and log-probability

LENGTHS = [4, 2, 3]
LIMITS = [5, 3, 4]


def policies(seed: int) -> list[SequencePolicy]:
    return [
        attention_policy(4, seed, feed_context=bool(seed % 2)),
        pointer_policy(seed, feed_context=True),
        pointer_policy(seed, mask_revisits=True),
    ]


def searched(policy: SequencePolicy, size: int, **keys: Any) -> Decoded:
    return beam_search(
        policy, policy.encode(sources(policy, LENGTHS)), torch.tensor(LIMITS), beam_of(size=size, **keys)
    )


def plain_beam(
    policy: SequencePolicy, row: int, limit: int, size: int, penalty: float, n_best: int
) -> list[Hypothesis]:
    """Beam search over one source with lists, every distribution from scratch; no hypothesis is given up early."""
    source = sources(policy, LENGTHS)
    source = source.part(row, row + 1)
    alive: list[Hypothesis] = [([], 0.0)]
    finished: list[Hypothesis] = []
    for time in range(limit):
        extended = []
        for tokens, score in alive:
            distribution = policy(source, torch.tensor([[*tokens, 0]]), torch.tensor([time + 1]))[0, time].tolist()
            extended += [([*tokens, token], score + p) for token, p in enumerate(distribution) if p > -1e8]
        best = sorted(extended, key=lambda found: -found[1])[:size]
        finished += [found for found in best if found[0][-1] == 0 or time + 1 == limit]
        alive = [found for found in best if found[0][-1] != 0]
    return sorted(finished, key=lambda found: -found[1] / len(found[0]) ** penalty)[:n_best]


def hypotheses(out: Decoded, row: int) -> list[Hypothesis]:
    """What was found for a source, best first, as the plain reference gives it."""
    found = zip(out.sequences[row], out.lengths[row].tolist(), out.log_probs[row], strict=True)
    return [(tokens[:length].tolist(), float(p[:length].sum())) for tokens, length, p in found if length]


def assert_same(ours: list[Hypothesis], theirs: list[Hypothesis]) -> None:
    assert [tokens for tokens, _ in ours] == [tokens for tokens, _ in theirs]
    assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("size", "n_best"), [(2, 1), (3, 3), (5, 2)])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_beam_search_is_what_the_plain_reference_finds(seed: int, size: int, n_best: int, penalty: float) -> None:
    for policy in policies(seed):
        out = searched(policy, size, length_penalty=penalty, n_best=n_best)
        assert out.sequences.shape[:2] == (len(LENGTHS), n_best)
        for row, limit in enumerate(LIMITS):
            assert_same(hypotheses(out, row), plain_beam(policy, row, limit, size, penalty, n_best))


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    for policy in policies(seed):
        memory = policy.encode(sources(policy, LENGTHS))
        ours, greedy = searched(policy, 1), decode(policy, memory, torch.tensor(LIMITS))
        assert torch.equal(ours.sequences, greedy.sequences) and torch.equal(ours.lengths, greedy.lengths)
        torch.testing.assert_close(ours.log_probs, greedy.log_probs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_large_beam_is_exhaustive_search(seed: int, penalty: float) -> None:
    policy, limit = attention_policy(3, seed), 4
    found = every_sequence(3, limit)
    rows, lengths = padded(found)
    source = sources(policy, [3])
    memory = policy.encode(source)
    distribution = policy(source.select(torch.zeros(len(found), dtype=torch.int64)), rows, lengths)
    scores = (distribution.detach().gather(2, rows[:, :, None])[:, :, 0] * length_mask(lengths, limit)).sum(1)
    order = (scores / lengths**penalty).argsort(descending=True)
    out = beam_search(
        policy, memory, torch.tensor([limit]), beam_of(size=len(found), length_penalty=penalty, n_best=len(found))
    )
    ranked = [(list(found[i]), float(scores[i])) for i in order.tolist()]
    assert_same(hypotheses(out, 0), ranked)


def test_hypotheses_come_best_first_and_differ() -> None:
    out = searched(attention_policy(4), 6, n_best=6, length_penalty=0.7)
    for row in range(len(LENGTHS)):
        found = hypotheses(out, row)
        scores = [score / len(tokens) ** 0.7 for tokens, score in found]
        assert scores == sorted(scores, reverse=True) and len({tuple(tokens) for tokens, _ in found}) == len(found)


def test_where_there_are_fewer_hypotheses_the_rest_are_marked() -> None:
    policy = pointer_policy(mask_revisits=True)
    memory = policy.encode(sources(policy, [1, 1]))
    out = beam_search(policy, memory, torch.tensor([1, 2]), beam_of(size=8, n_best=4))
    assert [len(hypotheses(out, row)) for row in range(2)] == [2, 2]  # END, 1; END, (1, END)
    missing = out.lengths == 0
    assert missing.tolist() == [[False, False, True, True]] * 2
    assert not out.sequences[missing].any() and (out.log_probs[missing].sum(-1) <= -1e29).all()


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_stopping_early_loses_nothing(penalty: float, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    for never in (False, True):
        if never:
            monkeypatch.setattr(beam._Hypotheses, "drop_done", lambda self: True)
        out = []
        for seed in range(6):
            policy: Any = attention_policy(5, seed)
            with torch.no_grad():
                policy.output.bias[0] += 1.5
            memory = policy.encode(sources(policy, [3, 5, 2, 4]))
            out.append(
                beam_search(
                    policy, memory, torch.tensor([8, 5, 9, 7]), beam_of(size=3, n_best=2, length_penalty=penalty)
                )
            )
        steps.append(out)
    for early, late in zip(*steps, strict=True):
        for row in range(4):
            assert_same(hypotheses(early, row), hypotheses(late, row))


def test_finished_sources_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    policy: Any = attention_policy(5)
    with torch.no_grad():
        policy.output.bias[0] += 20.0
    sizes = []
    step = policy.step
    monkeypatch.setattr(policy, "step", lambda tokens, *rest: sizes.append(len(tokens)) or step(tokens, *rest))
    beam_search(policy, policy.encode(sources(policy, [3, 5])), torch.tensor([8, 8]), beam_of(size=2))
    assert len(sizes) < 8
