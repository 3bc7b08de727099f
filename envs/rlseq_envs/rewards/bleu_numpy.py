"""Sentence BLEU of token ids with numpy alone, all rows at once, for where nothing can be compiled.

The algorithm is that of ``bleu_compiled``; only rows with a sentence of more than 64 tokens are counted one by one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.rewards.smoothing import ADD_K, EXP, FLOOR, LOG_ZERO, MAX_ORDER
from rlseq_envs.task import Bools, Floats, Ints

WORD_BITS = 64
_WORDS = {8: "<u1", 16: "<u2", 32: "<u4", 64: "<u8"}  # bits to the little-endian word that packed bits are read as

_Words = npt.NDArray[Any]  # unsigned integers
_Tokens = npt.NDArray[Any]  # integers


def _narrowed(*arrays: _Tokens) -> list[_Tokens]:
    """The arrays in the narrowest type that holds them all: most time goes into comparing tokens."""
    lowest = min(int(array.min(initial=0)) for array in arrays)
    highest = max(int(array.max(initial=0)) for array in arrays)
    dtype = np.min_scalar_type(highest if lowest == 0 else min(lowest, ~highest))  # ~: as far below 0
    return [array.astype(dtype, copy=False) for array in arrays]


def _lowest_bits(counts: Ints, dtype: np.dtype[Any]) -> _Words:
    """Words whose ``counts`` lowest bits are set."""
    full = np.iinfo(dtype).max
    return np.where(counts > 0, full >> np.maximum(8 * dtype.itemsize - counts, 0).astype(dtype), 0).astype(dtype)


def _equality_words(hypotheses: _Tokens, others: _Tokens, starts: Ints, width: int) -> _Words:
    """Bit j of word (i, b): whether hypothesis token i equals token j, below ``width``, from ``starts[b]`` on.

    ``hypotheses`` and the words are (time, batch_size), so that slices of time are contiguous.
    """
    bits = next(bits for bits in _WORDS if width <= bits)
    window = others.take(starts[:, None] + np.arange(bits), mode="clip")  # whatever it holds beyond a row's end
    packed = np.packbits((hypotheses[:, :, None] == window).ravel(), bitorder="little")
    return packed.view(_WORDS[bits]).reshape(hypotheses.shape)


def _count_matches_by_bits(
    hypotheses: _Tokens, starts: Ints, lengths: Ints, tokens: _Tokens, reference_starts: Ints, reference_lengths: Ints
) -> Ints:
    """Clipped matches of each order, (batch_size, MAX_ORDER); no sentence may be longer than 64 tokens."""
    matches = np.zeros((len(starts), MAX_ORDER), dtype=np.int64)
    width = int(lengths.max(initial=0))
    if width == 0 or not len(tokens):
        return matches
    positions = np.arange(width)[:, None]
    rows = hypotheses.take(starts + positions, mode="clip")
    earlier = _equality_words(rows, hypotheses, starts, width)
    earlier &= _lowest_bits(positions, earlier.dtype)
    equal = []
    for r in range(reference_starts.shape[1]):
        words = _equality_words(rows, tokens, reference_starts[:, r], int(reference_lengths[:, r].max()))
        words &= _lowest_bits(reference_lengths[:, r], words.dtype)
        equal.append(words * (positions < lengths))
    ranks, counted = earlier, equal
    for n in range(min(MAX_ORDER, width)):
        if n:
            ranks = ranks[:-1] & (earlier[n:] >> n)
            counted = [words[:-1] & (first[n:] >> n) for words, first in zip(counted, equal, strict=True)]
        most = np.maximum.reduce([np.bitwise_count(words) for words in counted])
        matches[:, n] = np.count_nonzero(np.bitwise_count(ranks) < most, axis=0)
    return matches


def _count_ngrams(tokens: list[int], order: int) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(tokens[k:] for k in range(order)), strict=False))


def _count_matches(hypothesis: _Tokens, references: list[_Tokens]) -> list[int]:
    """Clipped matches of each order in one row of any length."""
    matches = []
    for order in range(1, MAX_ORDER + 1):
        most: Counter[tuple[int, ...]] = Counter()
        for reference in references:
            most |= _count_ngrams(reference.tolist(), order)
        matches.append((_count_ngrams(hypothesis.tolist(), order) & most).total())
    return matches


def _closest_lengths(lengths: Ints, reference_lengths: Ints) -> Ints:
    """Of each row the reference length nearest to ``lengths``, the shorter one of two equally near."""
    ordered = np.sort(reference_lengths, axis=1)
    nearest = np.abs(ordered - lengths[:, None]).argmin(axis=1)
    return ordered[np.arange(len(ordered)), nearest]


def _mean_log_precisions(matches: Ints, lengths: Ints, smoothing: int, value: float, effective_order: bool) -> Floats:
    """Mean log precision in percent over the orders that count, (batch_size,)."""
    match, total = matches.astype(np.float64), np.maximum(lengths[:, None] - np.arange(MAX_ORDER), 0.0)
    if smoothing == ADD_K:
        match[:, 1:] += value
        total[:, 1:] += value
    counts = total > 0
    zero = match == 0
    if smoothing == EXP:
        match = np.where(zero, np.exp2(-np.cumsum(zero, axis=1)), match)
    elif smoothing == FLOOR:
        match[zero] = value
    logs = np.full(match.shape, LOG_ZERO)
    np.log(100 * match / np.where(counts, total, 1), out=logs, where=match > 0)
    if effective_order:
        return np.where(counts, logs, 0).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return np.where(counts, logs, LOG_ZERO).mean(axis=1)


def score_batch(
    hypotheses: _Tokens,
    starts: Ints,
    ends: Ints,
    tokens: _Tokens,
    reference_starts: Ints,
    reference_ends: Ints,
    smoothing: int,
    value: float,
    effective_order: bool,
) -> Floats:
    """As ``bleu_compiled.score_batch``."""
    hypotheses, tokens = _narrowed(hypotheses, tokens)
    lengths, reference_lengths = ends - starts, reference_ends - reference_starts
    short: Bools = np.maximum(lengths, reference_lengths.max(axis=1)) <= WORD_BITS
    matches = np.zeros((len(starts), MAX_ORDER), dtype=np.int64)
    matches[short] = _count_matches_by_bits(
        hypotheses, starts[short], lengths[short], tokens, reference_starts[short], reference_lengths[short]
    )
    for b in np.flatnonzero(~short).tolist():
        bounds = zip(reference_starts[b], reference_ends[b], strict=True)
        matches[b] = _count_matches(hypotheses[starts[b] : ends[b]], [tokens[start:end] for start, end in bounds])
    log_scores = _mean_log_precisions(matches, lengths, smoothing, value, effective_order)
    log_scores += np.minimum(0, 1 - _closest_lengths(lengths, reference_lengths) / np.maximum(lengths, 1))
    return np.where(matches.any(axis=1), np.minimum(100, np.exp(log_scores)), 0)
