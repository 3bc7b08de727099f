"""Translation edit rate of whole batches, equal to sacrebleu's ``TER``, compiled if that is possible.

Snover et al. 2006: edits are insertions, deletions, substitutions and shifts of whole phrases. Shifts are searched for
greedily, as sacrebleu does after Tercom, with the same limits and the same order among equals. An alignment is read
from a matrix of costs, whose rows are those of the hypothesis; unlike sacrebleu, which keeps rows by their words, only
the rows that a shift changes are computed again.
"""

from __future__ import annotations

import math

import numpy as np

from rlseq_envs.rewards.encoding import EncodedPairs
from rlseq_envs.rewards.jit import jit
from rlseq_envs.task import Floats

# Tercom's limits and sacrebleu's own, the latter for degenerate cases.
MAX_SHIFT_SIZE, MAX_SHIFT_DISTANCE, BEAM_WIDTH, MAX_CANDIDATES = 10, 50, 25, 1000
_KEPT, _SUBSTITUTED, _DELETED, _INSERTED = 0, 1, 2, 3  # what a step through the matrix does to the hypothesis
_FAR = 1 << 30


def ter(pairs: EncodedPairs) -> Floats:
    """Fewest edits with any reference over their mean length, at least 0, (batch_size,).

    1 where all references are empty and the hypothesis is not.
    """
    edits = np.zeros(pairs.reference_starts.shape, dtype=np.int64)
    bounds = (pairs.starts, pairs.ends), (pairs.reference_starts, pairs.reference_ends)
    _count_edits(pairs.tokens, *bounds[0], pairs.reference_tokens, *bounds[1], edits)
    fewest, length = edits.min(axis=1), pairs.reference_lengths.mean(axis=1)
    return np.where(length > 0, fewest / np.where(length > 0, length, 1), (fewest > 0).astype(np.float64))


@jit
def _fill(words, reference, first, costs, steps):  # type: ignore[no-untyped-def]
    """Fill the rows of the edit matrix from ``first`` on, near its diagonal; returns the edit distance.

    Among equal costs, keeping and substituting come before deleting, and that before inserting.
    """
    ratio = len(reference) / len(words) if len(words) else 1.0
    beam = math.ceil(ratio / 2 + BEAM_WIDTH) if ratio / 2 > BEAM_WIDTH else BEAM_WIDTH
    for i in range(first, len(words) + 1):
        diagonal = math.floor(i * ratio)
        begin, end = max(0, diagonal - beam), min(len(reference) + 1, diagonal + beam)
        if i == len(words):
            end = len(reference) + 1
        costs[i, : len(reference) + 1] = _FAR
        for j in range(begin, end):
            cost, step = costs[i - 1, j] + 1, _DELETED
            if j > 0:
                differs = words[i - 1] != reference[j - 1]
                if costs[i - 1, j - 1] + differs <= cost:
                    cost, step = costs[i - 1, j - 1] + differs, _SUBSTITUTED if differs else _KEPT
                if costs[i, j - 1] + 1 < cost:
                    cost, step = costs[i, j - 1] + 1, _INSERTED
            costs[i, j], steps[i, j] = cost, step
    return costs[len(words), len(reference)]


@jit
def _align(length, reference_length, steps, word_wrong, reference_wrong, aligned):  # type: ignore[no-untyped-def]
    """Which words and reference words are in error, and the word each reference word is aligned with or stands behind.

    ``word_wrong`` and ``reference_wrong`` are running totals: entry i counts the errors before position i.
    """
    i, j = length, reference_length
    while i > 0 or j > 0:
        step = steps[i, j] if i > 0 else _INSERTED
        if step != _INSERTED:
            i -= 1
            word_wrong[i + 1] = step != _KEPT
        if step != _DELETED:
            j -= 1
            reference_wrong[j + 1] = step != _KEPT
            aligned[j] = i if step != _INSERTED else i - 1
    for k in range(length):
        word_wrong[k + 1] += word_wrong[k]
    for k in range(reference_length):
        reference_wrong[k + 1] += reference_wrong[k]


@jit
def _shift(words, start, size, target, shifted):  # type: ignore[no-untyped-def]
    """Write into ``shifted`` the words with ``size`` of them from ``start`` on moved to ``target``."""
    end = start + size
    if target < start:
        begin, middle, stop = target, start, end
    elif target > end:
        begin, middle, stop = start, end, target
    else:
        begin, middle, stop = start, end, min(end + target - start, len(words))
    shifted[:] = words
    moved = stop - middle
    shifted[begin : begin + moved] = words[middle:stop]
    shifted[begin + moved : stop] = words[begin:middle]
    return begin


@jit
def _common(words, reference, i, j):  # type: ignore[no-untyped-def]
    """How many words from i on equal those of the reference from j on, at most ``MAX_SHIFT_SIZE``."""
    size, most = 0, min(MAX_SHIFT_SIZE, len(words) - i, len(reference) - j)
    while size < most and words[i + size] == reference[j + size]:
        size += 1
    return size


@jit
def _best_shift(words, reference, edits, wrong, aligned, shifted, best, checked):  # type: ignore[no-untyped-def]
    """Find the shift that saves most and write its result into ``best``.

    Returns the edit distance without it, what it saves (0: there is none), and the candidates looked at so far.
    """
    costs, steps = edits
    word_wrong, reference_wrong = wrong
    before = _fill(words, reference, 1, costs[0], steps[0])
    _align(len(words), len(reference), steps[0], word_wrong, reference_wrong, aligned)
    rank = (0, 0, 0, 0)
    for i in range(len(words)):
        for j in range(max(0, i - MAX_SHIFT_DISTANCE), min(len(reference), i + MAX_SHIFT_DISTANCE + 1)):
            for size in range(1, _common(words, reference, i, j) + 1):
                right = word_wrong[i + size] == word_wrong[i] or reference_wrong[j + size] == reference_wrong[j]
                if right or i <= aligned[j] < i + size:
                    continue
                previous = -1
                for k in range(j - 1, j + size):
                    target = aligned[k] + 1 if k >= 0 else 0
                    if target == previous:
                        continue
                    previous = target
                    first = _shift(words, i, size, target, shifted)
                    costs[1, first] = costs[0, first]
                    saved = before - _fill(shifted, reference, first + 1, costs[1], steps[1])
                    checked += 1
                    if saved > 0 and (saved, size, -i, -target) > rank:
                        rank = (saved, size, -i, -target)
                        best[:] = shifted
                if checked >= MAX_CANDIDATES:
                    return before, rank[0], checked
    return before, rank[0], checked


@jit
def _count(words, reference, edits, wrong, aligned, shifted, best):  # type: ignore[no-untyped-def]
    """Edits of one pair; ``words`` end up shifted."""
    if len(reference) == 0:
        return len(words)
    shifts = checked = 0
    while True:
        before, saved, checked = _best_shift(words, reference, edits, wrong, aligned, shifted, best, checked)
        if saved == 0 or checked >= MAX_CANDIDATES:
            return shifts + before
        words[:] = best
        shifts += 1


@jit
def _count_edits(tokens, starts, ends, references, reference_starts, reference_ends, found):  # type: ignore[no-untyped-def]
    longest = max((ends - starts).max(), (reference_ends - reference_starts).max()) + 1 if len(starts) else 1
    edits = np.zeros((2, longest, longest), dtype=np.int32), np.zeros((2, longest, longest), dtype=np.int8)
    edits[0][:, 0], edits[1][:, 0] = np.arange(longest), _INSERTED
    wrong = np.zeros(longest, dtype=np.int64), np.zeros(longest, dtype=np.int64)
    aligned = np.zeros(longest, dtype=np.int64)
    rows = np.zeros((3, longest), dtype=tokens.dtype)
    for b in range(len(starts)):
        length = ends[b] - starts[b]
        words, shifted, best = rows[0, :length], rows[1, :length], rows[2, :length]
        for r in range(reference_starts.shape[1]):
            reference = references[reference_starts[b, r] : reference_ends[b, r]]
            words[:] = tokens[starts[b] : ends[b]]
            found[b, r] = _count(words, reference, edits, wrong, aligned, shifted, best)
