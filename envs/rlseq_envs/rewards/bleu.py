"""Sentence BLEU of whole batches, equal to sacrebleu's ``sentence_bleu``.

A hypothesis position i has, for each reference, a 64-bit word whose bit j says "token i equals reference token j". A
match of order n is an AND of n such words, each shifted by its place; clipping counts the positions whose rank among
the equal n-grams before them is below the number of matches. Longer sentences are compared token by token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics import BLEU

from rlseq_envs.rewards.jit import jit
from rlseq_envs.task import Floats, Ints

Smoothing = Literal["none", "floor", "add-k", "exp"]
SMOOTHINGS: tuple[Smoothing, ...] = get_args(Smoothing)
MAX_ORDER = 4

_WORD_BITS = 64
_LOG_ZERO = -9999999999.0  # sacrebleu's log of 0
_FLOOR, _ADD_K, _EXP = SMOOTHINGS.index("floor"), SMOOTHINGS.index("add-k"), SMOOTHINGS.index("exp")
_MAX_CACHED_WORDS = 1_000_000
_WORDWISE_TOKENIZERS = ("13a", "none")


@jit
def _popcount(word):  # type: ignore[no-untyped-def]
    count = 0
    while word:
        word &= word - np.uint64(1)
        count += 1
    return count


@jit
def _equality_word(token, others):  # type: ignore[no-untyped-def]
    word = np.uint64(0)
    for j in range(len(others)):
        word |= np.uint64(others[j] == token) << np.uint64(j)
    return word


@jit
def _matches_by_bits(hypothesis, tokens, starts, ends):  # type: ignore[no-untyped-def]
    """Clipped matches of each order; no sentence may be longer than 64 tokens."""
    length, num_references = len(hypothesis), len(starts)
    matches = np.zeros(MAX_ORDER)
    earlier = np.zeros(_WORD_BITS, dtype=np.uint64)
    equal = np.zeros((num_references, _WORD_BITS), dtype=np.uint64)
    for i in range(length):
        earlier[i] = _equality_word(hypothesis[i], hypothesis[:i])
        for r in range(num_references):
            equal[r, i] = _equality_word(hypothesis[i], tokens[starts[r] : ends[r]])
    for i in range(length):
        rank_word = earlier[i]
        for n in range(min(MAX_ORDER, length - i)):
            shift = np.uint64(n)
            rank_word &= earlier[i + n] >> shift
            count = 0
            for r in range(num_references):
                if n:
                    equal[r, i] &= equal[r, i + n] >> shift
                count = max(count, _popcount(equal[r, i]))
            if count == 0:
                break
            matches[n] += _popcount(rank_word) < count
    return matches


@jit
def _count_ngrams(hypothesis, i, others, num_starts, counts):  # type: ignore[no-untyped-def]
    """How often the n-gram at i, of each order n, begins at one of the first ``num_starts`` positions of ``others``."""
    counts[:] = 0
    for j in range(num_starts):
        for n in range(min(MAX_ORDER, len(hypothesis) - i, len(others) - j)):
            if hypothesis[i + n] != others[j + n]:
                break
            counts[n] += 1


@jit
def _matches_by_scan(hypothesis, tokens, starts, ends):  # type: ignore[no-untyped-def]
    """Clipped matches of each order, for sentences of any length."""
    matches = np.zeros(MAX_ORDER)
    rank, count, most = np.zeros(MAX_ORDER), np.zeros(MAX_ORDER), np.zeros(MAX_ORDER)
    for i in range(len(hypothesis)):
        most[:] = 0
        for r in range(len(starts)):
            reference = tokens[starts[r] : ends[r]]
            _count_ngrams(hypothesis, i, reference, len(reference), count)
            most = np.maximum(most, count)
        _count_ngrams(hypothesis, i, hypothesis, i, rank)
        matches += rank < most
    return matches


@jit
def _closest_length(length, lengths):  # type: ignore[no-untyped-def]
    """The reference length nearest to ``length``, the shorter one of two equally near."""
    closest = lengths[0]
    for other in lengths[1:]:
        distance, best = abs(other - length), abs(closest - length)
        if distance < best or (distance == best and other < closest):
            closest = other
    return closest


@jit
def _log_precisions(matches, length, smoothing, value, effective_order):  # type: ignore[no-untyped-def]
    """Mean log precision in percent over the orders that count."""
    total_log, orders, halving = 0.0, 0, 1.0
    for n in range(MAX_ORDER):
        match, total = matches[n], float(max(length - n, 0))
        if smoothing == _ADD_K and n > 0:
            match += value
            total += value
        if total == 0:
            break
        orders += 1
        if match == 0 and smoothing == _EXP:
            halving *= 2
            match = 1 / halving
        elif match == 0 and smoothing == _FLOOR:
            match = value
        total_log += math.log(100 * match / total) if match > 0 else _LOG_ZERO
    if effective_order:
        return total_log / orders
    return (total_log + _LOG_ZERO * (MAX_ORDER - orders)) / MAX_ORDER


@jit
def _score_batch(  # type: ignore[no-untyped-def]
    hypotheses, starts, ends, tokens, reference_starts, reference_ends, smoothing, value, effective_order
):
    """Scores 0…100, (batch_size,). Row b is hypotheses[starts[b]:ends[b]]; reference bounds are (batch_size, k)."""
    scores = np.zeros(len(starts))
    for b in range(len(starts)):
        hypothesis = hypotheses[starts[b] : ends[b]]
        lengths = reference_ends[b] - reference_starts[b]
        if max(len(hypothesis), lengths.max()) <= _WORD_BITS:
            matches = _matches_by_bits(hypothesis, tokens, reference_starts[b], reference_ends[b])
        else:
            matches = _matches_by_scan(hypothesis, tokens, reference_starts[b], reference_ends[b])
        if not matches.any():
            continue
        closest = _closest_length(len(hypothesis), lengths)
        brevity = min(0.0, 1 - closest / len(hypothesis))
        mean_log = _log_precisions(matches, len(hypothesis), smoothing, value, effective_order)
        scores[b] = min(100.0, math.exp(brevity) * math.exp(mean_log))
    return scores


def resolve_smoothing_value(smoothing: Smoothing, value: float | None) -> float:
    """The value a smoothing uses, sacrebleu's default where none is given.

    Raises:
        ValueError: The smoothing is unknown, or the value is negative.
    """
    if smoothing not in SMOOTHINGS:
        raise ValueError(f"smoothing {smoothing!r} is unknown; choose one of {', '.join(SMOOTHINGS)}")
    if value is not None and value < 0:
        raise ValueError(f"the smoothing value must not be negative, got {value}")
    return float(value if value is not None else BLEU.SMOOTH_DEFAULTS[smoothing] or 0.0)


def sentence_bleu_ids(
    hypotheses: Ints,
    hypothesis_lengths: Ints,
    references: Ints,
    reference_lengths: Ints,
    smoothing: Smoothing = "exp",
    value: float | None = None,
    effective_order: bool = True,
) -> Floats:
    """Sentence BLEU of token ids, 0…100.

    Args:
        hypotheses: (batch_size, time), whatever stands beyond a row's length.
        hypothesis_lengths: (batch_size,).
        references: (batch_size, time), or (batch_size, references, time) where there are several.
        reference_lengths: (batch_size,) or (batch_size, references).
        smoothing: sacrebleu's name of the smoothing method.
        value: For floor and add-k; None is sacrebleu's default.
        effective_order: Leave out the orders that are longer than the hypothesis.

    Returns:
        (batch_size,) scores.
    """
    batch_size = len(hypotheses)
    starts = np.arange(batch_size, dtype=np.int64) * hypotheses.shape[1]
    lengths = reference_lengths.reshape(batch_size, -1)
    reference_starts = np.arange(lengths.size, dtype=np.int64).reshape(lengths.shape) * references.shape[-1]
    scores: Floats = _score_batch(
        np.ascontiguousarray(hypotheses).ravel(),
        starts,
        starts + hypothesis_lengths,
        np.ascontiguousarray(references).ravel(),
        reference_starts,
        reference_starts + lengths,
        SMOOTHINGS.index(smoothing),
        resolve_smoothing_value(smoothing, value),
        effective_order,
    )
    return scores


class _TokenIds(dict[str, int]):
    """Token to id, new tokens numbered as they come."""

    def __missing__(self, token: str) -> int:
        self[token] = len(self)
        return self[token]


class _WordIds(dict[str, tuple[int, ...]]):
    """White-space separated word to the ids of its tokens."""

    def __init__(self, tokenize: Any) -> None:
        super().__init__()
        self.tokenize = tokenize
        self.token_ids = _TokenIds()

    def __missing__(self, word: str) -> tuple[int, ...]:
        self[word] = tuple(self.token_ids[token] for token in self.tokenize(word).split())
        return self[word]


class SentenceBleu:
    """Sentence BLEU of texts, equal to ``sacrebleu.sentence_bleu``.

    The tokenizer 13a looks at nothing beyond white space (once ``-`` before a line break is dealt with), so each
    distinct word is tokenised once; other tokenizers are sacrebleu's own, run on whole sentences.
    """

    def __init__(
        self,
        tokenizer: str = "13a",
        smoothing: Smoothing = "exp",
        value: float | None = None,
        *,
        lowercase: bool = False,
        effective_order: bool = True,
    ) -> None:
        """Raises ValueError for a tokenizer or smoothing sacrebleu does not know."""
        if tokenizer not in BLEU.TOKENIZERS:
            raise ValueError(f"tokenizer {tokenizer!r} is unknown; choose one of {', '.join(BLEU.TOKENIZERS)}")
        self._value = resolve_smoothing_value(smoothing, value)
        self._metric = BLEU(
            lowercase=lowercase,
            tokenize=tokenizer,
            smooth_method=smoothing,
            smooth_value=value,
            effective_order=effective_order,
        )
        self._smoothing = SMOOTHINGS.index(smoothing)
        self._wordwise = tokenizer in _WORDWISE_TOKENIZERS
        self._words = _WordIds(self._metric.tokenizer)

    @property
    def signature(self) -> str:
        """The signature sacrebleu gives the same metric, without the number of references."""
        arguments = {**vars(self._metric), "num_refs": 1}
        return str(self._metric._SIGNATURE_TYPE(arguments)).replace("nrefs:1|", "")

    def __call__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """Scores 0…100, (batch_size,).

        Args:
            hypotheses: One text per row.
            references: One list per reference stream, each with one text per row (sacrebleu's layout).
        """
        if len(self._words) > _MAX_CACHED_WORDS:
            self._words = _WordIds(self._metric.tokenizer)
        hypothesis_ids, ends = self._encode(hypotheses)
        reference_ids, reference_ends = self._encode(list(chain.from_iterable(references)))
        # Streams one after another in memory, one row of bounds per hypothesis.
        shape = (len(references), len(hypotheses))
        scores: Floats = _score_batch(
            hypothesis_ids,
            ends[:-1],
            ends[1:],
            reference_ids,
            np.ascontiguousarray(reference_ends[:-1].reshape(shape).T),
            np.ascontiguousarray(reference_ends[1:].reshape(shape).T),
            self._smoothing,
            self._value,
            self._metric.effective_order,
        )
        return scores

    def _encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], Ints]:
        """All texts' token ids in one row, and where each text ends (0 first)."""
        rows = [self._token_ids(text) for text in texts]
        ends = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=ends[1:])
        return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(ends[-1])), ends

    def _token_ids(self, text: str) -> list[int]:
        if self._metric.lowercase:
            text = text.lower()
        if not self._wordwise:
            return [self._words.token_ids[token] for token in self._metric.tokenizer(text.rstrip()).split()]
        if "\n" in text and self._metric.tokenizer_signature == "13a":
            text = text.rstrip().replace("<skipped>", "").replace("-\n", "")
        return list(chain.from_iterable(map(self._words.__getitem__, text.split())))
