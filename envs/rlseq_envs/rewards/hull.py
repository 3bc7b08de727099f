"""Convex hulls and what a sequence is worth as one: batched and exact, compiled if that is possible.

A sequence names points by token (token ``i + 1`` is point ``i``, 0 is END) and stands for the closed polygon through
them. Vertices are compared by position: any of several identical points may be named.

All coordinates must be multiples of 2^-24 in [0, 1], held as float64. Differences then need 25 bits and their products
50, so every orientation is exact and no tolerance is needed anywhere.

A set whose points lie on one line has no hull with an area. Its hull is defined as its distinct extreme points: two for
a segment, one for identical points.
"""

from __future__ import annotations

import numpy as np

from rlseq_envs.rewards import hull_compiled, hull_numpy
from rlseq_envs.rewards.jit import COMPILES
from rlseq_envs.task import Bools, Floats, Ints

_kernels = hull_compiled if COMPILES else hull_numpy


def hulls(points: Floats, counts: Ints) -> tuple[Ints, Ints]:
    """Convex hulls of a batch of point sets, as token sequences.

    Args:
        points: (batch_size, max_count, 2) float64 on the grid.
        counts: (batch_size,) points in each set, at least 1.

    Returns:
        (batch_size, max_count + 1) tokens, counter-clockwise from the lowest-index vertex, then END; and the number of
        tokens of each row, END included. Points inside an edge and all but the lowest of identical points are left out.
    """
    return _kernels.hulls(points, counts)


def valid(points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> Bools:
    """Whether each sequence is the convex hull, counter-clockwise, from any starting point.

    Args:
        points: (batch_size, max_count, 2) float64 on the grid.
        counts: (batch_size,) points in each set, at least 1.
        sequences: (batch_size, time) tokens; those from the first END or from ``lengths`` on do not count.
        lengths: (batch_size,), at most ``time``.

    Returns:
        (batch_size,). A token that names no point makes its sequence invalid.
    """
    return _kernels.valid(points, counts, sequences, lengths)


def edge_f1(points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> Floats:
    """F1 between the directed edges of each closed sequence and those of the hull; 1 exactly where ``valid``.

    A path through m vertices has m edges, the closing one included, so that one vertex has an edge to itself and two
    have one each way. A token that names no point spoils its two edges. Arguments as for ``valid``.
    """
    return _kernels.edge_f1(points, counts, sequences, lengths)


def coverage(points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> tuple[Floats, Bools]:
    """Share of the hull's area that each sequence's polygon covers, 0 unless the polygon is simple; and whether it is.

    Simple is what ``shapely.LinearRing(...).is_simple`` calls so: either orientation, vertices inside an edge and a
    vertex repeated at once are allowed; touching or crossing itself is not. Where the hull has no area, both results
    are ``valid``. Arguments as for ``valid``; a token that names no point makes its polygon not simple.
    """
    return _kernels.coverage(points, counts, sequences, lengths)


def farthest(points: Floats, counts: Ints, directions: int) -> Ints:
    """The farthest point of each set in evenly spaced directions, counter-clockwise from the right, as tokens.

    Each is a vertex of the hull: of points that are equally far, the first clockwise is taken, and of identical ones
    that of the lowest index. Directions are rounded to multiples of 2^-20, so that all comparisons are exact.

    Args:
        points: (batch_size, max_count, 2) float64 on the grid.
        counts: (batch_size,) points in each set, at least 1.
        directions: How many.

    Returns:
        (batch_size, directions). A point may be the farthest in several directions.
    """
    angles = 2 * np.pi * np.arange(directions) / directions
    along = np.round(np.stack([np.cos(angles), np.sin(angles)]) * 2**20)
    across = np.stack([along[1], -along[0]])
    real = (np.arange(points.shape[1]) < counts[:, None])[:, :, None]
    distance = np.where(real, points @ along, -np.inf)
    equal = distance == distance.max(axis=1, keepdims=True)
    return np.where(equal, points @ across, -np.inf).argmax(axis=1) + 1


def progress(points: Floats, counts: Ints, sequences: Ints) -> Floats:
    """The share of the hull's edges that a path has drawn when each token was emitted, (batch_size, time).

    It is 0 from the first token on that is not the next vertex of the hull, counter-clockwise from wherever the path
    began, and once all vertices are there: the path closes then, and is ``valid``. Arguments as for ``valid``.
    """
    tokens, sizes = hulls(points, counts)
    rows, places, sizes = np.arange(len(points))[:, None], np.arange(sequences.shape[1]), sizes[:, None] - 1
    named = (sequences > 0) & (sequences <= counts[:, None])
    emitted = points[rows, np.where(named, sequences - 1, 0)]
    corners = points[rows, np.maximum(tokens - 1, 0)]
    begins = (corners == emitted[:, :1]).all(axis=2) & (np.arange(tokens.shape[1]) < sizes)
    expected = corners[rows, (begins.argmax(axis=1)[:, None] + places) % sizes]
    follows = named & (emitted == expected).all(axis=2) & (places < sizes - 1)
    return np.where(np.logical_and.accumulate(follows, axis=1), places / sizes, 0.0)
