"""Sentence BLEU of token ids, compiled, row by row.

A hypothesis position i has, for each reference, a 64-bit word whose bit j says "token i equals reference token j". A
match of order n is an AND of n such words, each shifted by its place; clipping counts the positions whose rank among
the equal n-grams before them is below the number of matches. Longer sentences are compared token by token.
"""

from __future__ import annotations

import math

import numpy as np

from rlseq_envs.rewards.jit import jit
from rlseq_envs.rewards.smoothing import ADD_K, EXP, FLOOR, LOG_ZERO, MAX_ORDER

WORD_BITS = 64


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
def _write_words(hypothesis, tokens, starts, ends, equal, earlier):  # type: ignore[no-untyped-def]
    """Bit j of ``equal[r, i]``: token i is token j of reference r; of ``earlier[i]``: it is the earlier token j."""
    for i in range(len(hypothesis)):
        earlier[i] = _equality_word(hypothesis[i], hypothesis[:i])
    for r in range(len(starts)):
        reference = tokens[starts[r] : ends[r]]
        for i in range(len(hypothesis)):
            equal[r, i] = _equality_word(hypothesis[i], reference)


@jit
def _count_matches_by_bits(hypothesis, tokens, starts, ends, equal, earlier, matches):  # type: ignore[no-untyped-def]
    """Clipped matches of each order; no sentence may be longer than 64 tokens."""
    _write_words(hypothesis, tokens, starts, ends, equal, earlier)
    for i in range(len(hypothesis)):
        rank_word = earlier[i]
        for n in range(min(MAX_ORDER, len(hypothesis) - i)):
            shift = np.uint64(n)
            count = 0
            rank_word &= earlier[i + n] >> shift
            for r in range(len(starts)):
                if n:
                    equal[r, i] &= equal[r, i + n] >> shift
                count = max(count, _popcount(equal[r, i]))
            if count == 0:
                break
            matches[n] += _popcount(rank_word) < count


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
def _count_matches_by_scan(hypothesis, tokens, starts, ends, matches):  # type: ignore[no-untyped-def]
    """Clipped matches of each order, for sentences of any length."""
    rank, count, most = np.zeros(MAX_ORDER), np.zeros(MAX_ORDER), np.zeros(MAX_ORDER)
    for i in range(len(hypothesis)):
        most[:] = 0
        for r in range(len(starts)):
            reference = tokens[starts[r] : ends[r]]
            _count_ngrams(hypothesis, i, reference, len(reference), count)
            most = np.maximum(most, count)
        _count_ngrams(hypothesis, i, hypothesis, i, rank)
        matches += rank < most


@jit
def _closest_and_longest(length, starts, ends):  # type: ignore[no-untyped-def]
    """The reference length nearest to ``length``, the shorter one of two equally near; and the greatest."""
    closest = longest = ends[0] - starts[0]
    for r in range(1, len(starts)):
        other = ends[r] - starts[r]
        longest = max(longest, other)
        distance, best = abs(other - length), abs(closest - length)
        if distance < best or (distance == best and other < closest):
            closest = other
    return closest, longest


@jit
def _mean_log_precision(matches, length, smoothing, value, effective_order):  # type: ignore[no-untyped-def]
    """Mean log precision in percent over the orders that count."""
    total_log, orders, halving = 0.0, 0, 1.0
    for n in range(MAX_ORDER):
        match, total = matches[n], float(max(length - n, 0))
        if smoothing == ADD_K and n > 0:
            match += value
            total += value
        if total == 0:
            break
        orders += 1
        if match == 0 and smoothing == EXP:
            halving *= 2
            match = 1 / halving
        elif match == 0 and smoothing == FLOOR:
            match = value
        total_log += math.log(100 * match / total) if match > 0 else LOG_ZERO
    if effective_order:
        return total_log / orders
    return (total_log + LOG_ZERO * (MAX_ORDER - orders)) / MAX_ORDER


@jit
def score_batch(  # type: ignore[no-untyped-def]
    hypotheses, starts, ends, tokens, reference_starts, reference_ends, smoothing, value, effective_order
):
    """Scores 0…100, (batch_size,).

    Args:
        hypotheses: (any,) token ids; row b is ``hypotheses[starts[b]:ends[b]]``.
        starts: (batch_size,).
        ends: (batch_size,).
        tokens: (any,) token ids of the references, which rows may share.
        reference_starts: (batch_size, references), at least one reference.
        reference_ends: (batch_size, references).
        smoothing: Index into ``SMOOTHINGS``.
        value: For floor and add-k.
        effective_order: Leave out the orders that are longer than the hypothesis.
    """
    scores, matches = np.zeros(len(starts)), np.empty(MAX_ORDER)
    equal = np.empty((reference_starts.shape[1], WORD_BITS), dtype=np.uint64)
    earlier = np.empty(WORD_BITS, dtype=np.uint64)
    for b in range(len(starts)):
        hypothesis, bounds = hypotheses[starts[b] : ends[b]], (reference_starts[b], reference_ends[b])
        closest, longest = _closest_and_longest(len(hypothesis), *bounds)
        matches[:] = 0
        if max(len(hypothesis), longest) <= WORD_BITS:
            _count_matches_by_bits(hypothesis, tokens, *bounds, equal, earlier, matches)
        else:
            _count_matches_by_scan(hypothesis, tokens, *bounds, matches)
        if matches.any():
            log_score = _mean_log_precision(matches, len(hypothesis), smoothing, value, effective_order)
            log_score += min(0.0, 1 - closest / len(hypothesis))
            scores[b] = min(100.0, math.exp(log_score))
    return scores
