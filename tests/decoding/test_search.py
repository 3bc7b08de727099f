"""Searches against plain ones: one source at a time, lists instead of tensors, every distribution from scratch."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlseq.decoding import beam, exhaustive
from rlseq.decoding.beam import beam_search
from rlseq.decoding.exhaustive import SearchTooLarge, exhaustive_search
from rlseq.decoding.ranking import Ranking
from rlseq.decoding.sampling import Decoded, Drawing, decode
from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy
from rlseq.models.state import State
from tests.support import attention_policy, beam_of, drawing_policy, pointer_policy, search_of, sources

Hypothesis = tuple[list[int], float]  # tokens and log-probability

LENGTHS = [3, 1, 2]
LIMITS = [5, 2, 4]
KINDS = {
    "attention": lambda seed: attention_policy(4, seed, feed_context=bool(seed % 2)),
    "pointer": lambda seed: pointer_policy(seed, feed_context=True),
    "pointer-masked": lambda seed: pointer_policy(seed, mask_revisits=True),
    "drawing": lambda seed: drawing_policy(seed, decoder="grid_lstm"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def double(kind: str, seed: int) -> tuple[SequencePolicy, Memory]:
    """In double precision no two scores are so near that rounding would swap them."""
    policy = KINDS[kind](seed).double()
    source = sources(policy, LENGTHS)
    return policy, policy.encode(source.map(lambda values: values.double() if values.is_floating_point() else values))


# --------------------------------------------------------------------------------------------------- plain references
@dataclass
class Options:
    """What a search is told, with the plain arithmetic of its scores."""

    length_penalty: float = 1.0
    length_norm: Any = "power"
    coverage_penalty: float = 0.0
    min_length: int = 1

    def score(self, tokens: list[int], log_prob: float, attended: list[float]) -> float:
        norm = len(tokens) if self.length_norm == "power" else (5 + len(tokens)) / 6
        covered = sum(math.log(min(mass, 1.0)) for mass in attended)
        return log_prob / norm**self.length_penalty + self.coverage_penalty * covered


class Walk:
    """The distribution after some tokens of one source, and the attention of all steps up to it."""

    def __init__(self, policy: SequencePolicy, memory: Memory) -> None:
        self.policy, self.memory = policy, memory
        self.mask = policy.attention_mask(memory)
        nothing = torch.zeros_like(self.mask, dtype=torch.float64)
        self.known: dict[tuple[int, ...], tuple[Tensor, State, Tensor]] = {}
        self.known[()] = self.step(0, 0, policy.initial_state(memory), nothing)

    def step(self, token: int, time: int, state: State, attended: Tensor) -> tuple[Tensor, State, Tensor]:
        logits, state, attention = self.policy.step(torch.tensor([token]), time, state, self.memory)
        return logits[0].log_softmax(-1), state, attended + attention

    def __call__(self, tokens: list[int]) -> tuple[list[float], list[float]]:
        for length in range(1, len(tokens) + 1):
            if (prefix := tuple(tokens[:length])) not in self.known:
                self.known[prefix] = self.step(prefix[-1], length, *self.known[prefix[:-1]][1:])
        distribution, _, attended = self.known[tuple(tokens)]
        return distribution.tolist(), attended[self.mask].tolist()


def extensions(distribution: list[float], time: int, min_length: int) -> list[int]:
    """The tokens that may follow."""
    possible = [token for token, p in enumerate(distribution) if p > -1e8]
    return [token for token in possible if token] or possible if time + 1 < min_length else possible


@dataclass
class Plain:
    """A plain hypothesis; ``search`` is what the beam goes by."""

    tokens: list[int]
    log_prob: float
    search: float
    score: float = 0.0


def plain_groups(
    walk: Walk, limit: int, width: int, groups: int, strength: float, options: Options
) -> list[list[Plain]]:
    """What each group of a diverse beam finishes; the groups take turns at each step, and none is given up early."""
    alive, finished = [[Plain([], 0.0, 0.0)] for _ in range(groups)], [list[Plain]() for _ in range(groups)]
    for time in range(limit):
        used: Counter[int] = Counter()
        for group in range(groups):
            extended = []
            for found in alive[group]:
                distribution, attended = walk(found.tokens)
                for token in extensions(distribution, time, options.min_length):
                    tokens, log_prob = [*found.tokens, token], found.log_prob + distribution[token]
                    search = found.search + distribution[token] - strength * used[token]
                    extended.append(Plain(tokens, log_prob, search, options.score(tokens, log_prob, attended)))
            best = sorted(extended, key=lambda found: -found.search)[:width]
            used.update(found.tokens[-1] for found in best)
            finished[group] += [found for found in best if found.tokens[-1] == 0 or time + 1 == limit]
            alive[group] = [found for found in best if found.tokens[-1] != 0]
    return finished


def plain_beam(
    walk: Walk,
    limit: int,
    n_best: int,
    options: Options,
    size: int,
    groups: int = 1,
    diversity: float = 0.0,
) -> list[Hypothesis]:
    """The best of all groups, each sequence once."""
    width = size // groups
    found = plain_groups(walk, limit, width, groups, diversity, options)
    kept = [hyp for group in found for hyp in sorted(group, key=lambda hyp: -hyp.score)[:width]]
    once = {tuple(hyp.tokens): hyp for hyp in sorted(kept, key=lambda hyp: hyp.score)}
    ranked = sorted(once.values(), key=lambda hyp: -hyp.score)[:n_best]
    return [(hyp.tokens, hyp.log_prob) for hyp in ranked]


def plain_exhaustive(walk: Walk, limit: int, n_best: int, options: Options) -> list[Hypothesis]:
    """Every sequence of every length, those with an impossible token left out."""
    choices, found = len(walk([])[0]), []
    for length in range(1, limit + 1):
        for start in itertools.product(range(1, choices), repeat=length - 1):
            for last in range(choices) if length == limit else [0]:
                tokens, log_prob = [*start, last], 0.0
                for time, token in enumerate(tokens):
                    distribution, attended = walk(tokens[:time])
                    log_prob += (
                        distribution[token]
                        if token in extensions(distribution, time, options.min_length)
                        else -math.inf
                    )
                if log_prob > -math.inf:
                    found.append((options.score(tokens, log_prob, attended), tokens, log_prob))
    return [(tokens, log_prob) for _, tokens, log_prob in sorted(found, key=lambda hyp: -hyp[0])[:n_best]]


def hypotheses(out: Decoded, row: int) -> list[Hypothesis]:
    found = zip(out.sequences[row], out.lengths[row].tolist(), out.log_probs[row], strict=True)
    return [(tokens[:length].tolist(), float(p[:length].sum())) for tokens, length, p in found if length]


def assert_same(ours: list[Hypothesis], theirs: list[Hypothesis]) -> None:
    assert [tokens for tokens, _ in ours] == [tokens for tokens, _ in theirs]
    assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-6)


# --------------------------------------------------------------------------------------------------------------- beams
rankings = st.fixed_dictionaries(
    {
        "length_penalty": st.sampled_from([0.0, 0.6, 1.0, 2.0]),
        "length_norm": st.sampled_from(["power", "gnmt"]),
        "coverage_penalty": st.sampled_from([0.0, 0.2, 2.0]),
        "min_length": st.integers(1, 5),
    }
)
seeds = st.integers(0, 30)


@every_kind
@settings(max_examples=12, deadline=None)
@given(seed=seeds, keys=rankings, size=st.integers(1, 5), n_best=st.integers(1, 5))
def test_a_beam_is_the_plain_one(kind: str, seed: int, keys: dict[str, Any], size: int, n_best: int) -> None:
    assume(n_best <= size)
    policy, memory = double(kind, seed)
    out = beam_search(policy, memory, torch.tensor(LIMITS), beam_of(size=size, n_best=n_best, **keys))
    for row, limit in enumerate(LIMITS):
        walk = Walk(policy, memory.select(torch.tensor([row])))
        assert_same(hypotheses(out, row), plain_beam(walk, limit, n_best, Options(**keys), size))


@every_kind
@settings(max_examples=12, deadline=None)
@given(
    seed=seeds,
    keys=rankings,
    groups=st.integers(2, 3),
    width=st.integers(1, 3),
    strength=st.sampled_from([0.1, 0.5, 3.0]),
    n_best=st.integers(1, 6),
)
def test_a_diverse_beam_is_the_plain_one(
    kind: str, seed: int, keys: dict[str, Any], groups: int, width: int, strength: float, n_best: int
) -> None:
    assume(n_best <= groups * width)
    policy, memory = double(kind, seed)
    shape: dict[str, Any] = {"size": groups * width, "groups": groups, "diversity": strength}
    out = beam_search(policy, memory, torch.tensor(LIMITS), beam_of(n_best=n_best, **shape, **keys))
    for row, limit in enumerate(LIMITS):
        walk = Walk(policy, memory.select(torch.tensor([row])))
        assert_same(hypotheses(out, row), plain_beam(walk, limit, n_best, Options(**keys), **shape))


@every_kind
def test_one_group_is_an_ordinary_beam_however_diverse_it_is_to_be(kind: str) -> None:
    policy = KINDS[kind](0)
    memory, limits = policy.encode(sources(policy, LENGTHS)), torch.tensor(LIMITS)
    plain, one = (beam_search(policy, memory, limits, beam_of(size=4, n_best=3, diversity=d)) for d in (0.0, 9.0))
    assert torch.equal(plain.sequences, one.sequences) and torch.equal(plain.log_probs, one.log_probs)


def test_groups_find_what_an_ordinary_beam_does_not() -> None:
    policy = attention_policy(6, 3)
    memory, limits = policy.encode(sources(policy, [4] * 8, seed=1)), torch.tensor([5] * 8)

    def first_tokens(**keys: Any) -> int:
        out = beam_search(policy, memory, limits, beam_of(size=6, n_best=6, **keys))
        return sum(len(set(row[:, 0].tolist())) for row in out.sequences)

    assert first_tokens(groups=3, diversity=2.0) > 1.3 * first_tokens()


@every_kind
@settings(max_examples=10, deadline=None)
@given(seed=seeds, keys=rankings, groups=st.integers(1, 3), n_best=st.integers(1, 4))
def test_stopping_early_changes_nothing(kind: str, seed: int, keys: dict[str, Any], groups: int, n_best: int) -> None:
    policy, memory = double(kind, seed)
    shape: dict[str, Any] = {"size": 2 * groups, "groups": groups, "diversity": 0.5, "n_best": min(n_best, 2 * groups)}
    limits, found = torch.tensor([7, 9, 6]), []
    for never in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if never:
                patch.setattr(beam._Hypotheses, "drop_done", lambda self: True)
            found.append(beam_search(policy, memory, limits, beam_of(**shape, **keys)))
    early, late = found
    time = early.sequences.shape[2]
    assert torch.equal(early.sequences, late.sequences[:, :, :time]) and torch.equal(early.lengths, late.lengths)
    torch.testing.assert_close(early.log_probs, late.log_probs[:, :, :time])


def test_early_stopping_stops_early_with_a_coverage_penalty_too(monkeypatch: pytest.MonkeyPatch) -> None:
    policy: Any = attention_policy(5)
    with torch.no_grad():
        policy.output.bias[0] += 20.0
    steps, step = [], policy.step
    monkeypatch.setattr(policy, "step", lambda tokens, *rest: steps.append(len(tokens)) or step(tokens, *rest))
    memory = policy.encode(sources(policy, [3, 5]))
    keys: Any
    for keys in ({"coverage_penalty": 0.1}, {"coverage_penalty": 0.1, "groups": 2, "diversity": 0.5}):
        beam_search(policy, memory, torch.tensor([40, 40]), beam_of(size=2, length_norm="gnmt", **keys))
    assert len(steps) < 40


@every_kind
@pytest.mark.parametrize("min_length", [1, 3])
@pytest.mark.parametrize("keys", [{}, {"length_norm": "gnmt", "length_penalty": 0.6, "coverage_penalty": 0.3}])
def test_a_beam_of_one_is_greedy(kind: str, min_length: int, keys: Any) -> None:
    for seed in range(5):
        policy = KINDS[kind](seed)
        memory, limits = policy.encode(sources(policy, LENGTHS)), torch.tensor(LIMITS)
        ours = beam_search(policy, memory, limits, beam_of(size=1, min_length=min_length, **keys))
        greedy = decode(policy, memory, limits, Drawing(min_length=min_length))
        assert torch.equal(ours.sequences, greedy.sequences) and torch.equal(ours.lengths, greedy.lengths)
        torch.testing.assert_close(ours.log_probs, greedy.log_probs, atol=1e-5, rtol=0)


def test_scores_by_hand() -> None:
    log_probs, lengths = torch.tensor([-6.0, -6.0]), torch.tensor([4, 1])
    real = torch.tensor([True, True, False])
    attended = torch.tensor([[0.5, 2.0, 0.1], [1.0, 0.25, 0.1]])
    for ranking, expected in (
        (Ranking(0.0), [-6.0, -6.0]),
        (Ranking(0.5), [-3.0, -6.0]),
        (Ranking(1.0, "gnmt"), [-4.0, -6.0]),
        (Ranking(1.0, "gnmt", 2.0), [-4.0 + 2 * math.log(0.5), -6.0 + 2 * math.log(0.25)]),
    ):
        assert ranking.score(log_probs, lengths, attended, real).tolist() == pytest.approx(expected)


# ------------------------------------------------------------------------------------------------------- all sequences
@every_kind
@settings(max_examples=5, deadline=None)
@given(seed=seeds, keys=rankings, n_best=st.integers(1, 12))
def test_exhaustive_search_is_the_plain_one(kind: str, seed: int, keys: dict[str, Any], n_best: int) -> None:
    policy, memory = double(kind, seed)
    limits = [3, 2, 4]
    out = exhaustive_search(policy, memory, torch.tensor(limits), search_of(n_best=n_best, **keys))
    for row, limit in enumerate(limits):
        walk = Walk(policy, memory.select(torch.tensor([row])))
        assert_same(hypotheses(out, row), plain_exhaustive(walk, limit, n_best, Options(**keys)))


@every_kind
@settings(max_examples=10, deadline=None)
@given(seed=seeds, keys=rankings, rows=st.sampled_from([1, 7, 1000]))
def test_a_beam_that_holds_every_sequence_searches_them_all(
    kind: str, seed: int, keys: dict[str, Any], rows: int
) -> None:
    policy, memory = double(kind, seed)
    limits = torch.tensor([4, 2, 4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exhaustive, "ROWS", rows)
        every = exhaustive_search(policy, memory, limits, search_of(n_best=9, **keys))
    wide = beam_search(policy, memory, limits, beam_of(size=121, n_best=9, **keys))
    assert torch.equal(every.sequences, wide.sequences) and torch.equal(every.lengths, wide.lengths)
    torch.testing.assert_close(every.log_probs, wide.log_probs)


def test_too_many_sequences_are_refused_and_only_possible_ones_count() -> None:
    policy, masked = pointer_policy(), pointer_policy(mask_revisits=True)
    limits = torch.tensor([12])
    with pytest.raises(SearchTooLarge, match=r"more than 100,000 sequences of up to \d+ tokens.*max_length.*beam"):
        exhaustive_search(policy, policy.encode(sources(policy, [6])), limits, search_of())
    out = exhaustive_search(masked, masked.encode(sources(masked, [6])), limits, search_of(n_best=2000))
    assert int((out.lengths > 0).sum()) == sum(math.perm(6, count) for count in range(7))


def test_no_sources_are_no_accident() -> None:
    policy = attention_policy(4)
    memory = policy.encode(sources(policy, [2])).select(torch.zeros(0, dtype=torch.int64))
    none = torch.zeros(0, dtype=torch.int64)
    found = exhaustive_search(policy, memory, none, search_of())
    for out in (found, beam_search(policy, memory, none, beam_of(size=4, groups=2, diversity=1.0))):
        assert out.sequences.shape == (0, 1, 0) and out.lengths.shape == (0, 1)
