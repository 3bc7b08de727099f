"""N-grams counted in a trie: exact for any order and length, compiled if that is possible.

The n-grams that begin at a position are the nodes of one path, so a sentence of T tokens takes T walks. Nodes are found
through a hash table of (parent, token) that compares whole keys: there are no collisions to be unlucky with.
"""

from __future__ import annotations

import numpy as np

from rlseq_envs.rewards.encoding import EncodedPairs
from rlseq_envs.rewards.jit import jit
from rlseq_envs.task import Ints

ROOT, FREE = 0, -1


def count_matches(pairs: EncodedPairs, order: int) -> Ints:
    """Clipped matches of each order up to ``order`` with each reference, (batch_size, references, order)."""
    matches = np.zeros((*pairs.reference_starts.shape, order), dtype=np.int64)
    tokens, references = pairs.tokens.astype(np.int64), pairs.reference_tokens.astype(np.int64)
    bounds = (pairs.starts, pairs.ends), (pairs.reference_starts, pairs.reference_ends)
    _count_matches(tokens, *bounds[0], references, *bounds[1], order, matches)
    return matches


def count_ngrams(lengths: Ints, order: int) -> Ints:
    """How many n-grams of each order up to ``order`` sentences of these lengths have, (…, order)."""
    return np.maximum(lengths[..., None] - np.arange(order), 0)


def count_repeats(pairs: EncodedPairs, order: int) -> Ints:
    """How many n-grams of exactly this order each hypothesis has that it had before, (batch_size,)."""
    repeats = np.zeros(len(pairs.starts), dtype=np.int64)
    _count_repeats(pairs.tokens.astype(np.int64), pairs.starts, pairs.ends, order, repeats)
    return repeats


@jit
def find(keys, parent, token):  # type: ignore[no-untyped-def]
    """Where the table has a node, or the free place for it; the table's length is a power of 2."""
    key, mask = (parent << 32) | token, len(keys) - 1
    place = ((parent * 40503 + token * 40503059) >> 7) & mask
    while keys[place] != FREE and keys[place] != key:
        place = (place + 1) & mask
    return place


@jit
def table_size(length, order):  # type: ignore[no-untyped-def]
    """At most half of the table is in use."""
    size = 16
    while size < 2 * order * length:
        size *= 2
    return size


@jit
def _insert(tokens, order, keys, nodes, counts):  # type: ignore[no-untyped-def]
    """Count all n-grams up to ``order`` in an empty trie; returns how many of the highest order were there before."""
    used, repeats = ROOT, 0
    for i in range(len(tokens)):
        node = ROOT
        for n in range(min(order, len(tokens) - i)):
            place = find(keys, node, tokens[i + n])
            if keys[place] == FREE:
                used += 1
                keys[place], nodes[place], counts[used] = (node << 32) | tokens[i + n], used, 0
            elif n == order - 1:
                repeats += 1
            node = nodes[place]
            counts[node] += 1
    return repeats


@jit
def _match(tokens, order, keys, nodes, counts, seen, matches):  # type: ignore[no-untyped-def]
    """Add the clipped matches of each order; an n-gram that is not there begins no longer one that is."""
    for i in range(len(tokens)):
        node = ROOT
        for n in range(min(order, len(tokens) - i)):
            place = find(keys, node, tokens[i + n])
            if keys[place] == FREE:
                break
            node = nodes[place]
            seen[node] += 1
            matches[n] += seen[node] <= counts[node]


@jit
def _count_matches(tokens, starts, ends, references, reference_starts, reference_ends, order, matches):  # type: ignore[no-untyped-def]
    longest = (reference_ends - reference_starts).max() if reference_starts.size else 0
    keys = np.empty(table_size(longest, order), dtype=np.int64)
    nodes = np.empty(len(keys), dtype=np.int64)
    counts, seen = np.zeros(order * longest + 1, dtype=np.int64), np.zeros(order * longest + 1, dtype=np.int64)
    for r in range(reference_starts.shape[1]):
        size = 0
        for b in range(len(starts)):
            first, last = reference_starts[b, r], reference_ends[b, r]
            # Consecutive rows often are samples for one reference: its trie is kept.
            if b == 0 or first != reference_starts[b - 1, r] or last != reference_ends[b - 1, r]:
                size = table_size(last - first, order)
                keys[:size] = FREE
                _insert(references[first:last], order, keys[:size], nodes, counts)
            seen[: order * (last - first) + 1] = 0
            _match(tokens[starts[b] : ends[b]], order, keys[:size], nodes, counts, seen, matches[b, r])


@jit
def _count_repeats(tokens, starts, ends, order, repeats):  # type: ignore[no-untyped-def]
    longest = (ends - starts).max() if len(starts) else 0
    keys = np.empty(table_size(longest, order), dtype=np.int64)
    nodes, counts = np.empty(len(keys), dtype=np.int64), np.zeros(order * longest + 1, dtype=np.int64)
    for b in range(len(starts)):
        size = table_size(ends[b] - starts[b], order)
        keys[:size] = FREE
        repeats[b] = _insert(tokens[starts[b] : ends[b]], order, keys[:size], nodes, counts)
