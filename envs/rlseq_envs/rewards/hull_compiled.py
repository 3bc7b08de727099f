"""Hull kernels, compiled, row by row; ``rlseq_envs.rewards.hull`` says what they compute."""

from __future__ import annotations

import numpy as np

from rlseq_envs.rewards.jit import jit
from rlseq_envs.task import Bools, Floats, Ints

_GRID = 1 << 24


@jit
def _turn(a: Floats, b: Floats, c: Floats) -> float:
    """Twice the signed area of triangle abc: positive where the path a → b → c turns left."""
    area: float = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return area


@jit
def _same(a: Floats, b: Floats) -> bool:
    return bool(a[0] == b[0] and a[1] == b[1])


@jit
def _between(a: Floats, b: Floats, c: Floats) -> bool:
    """Whether c, known to be on the line ab, lies on the closed segment ab."""
    return bool(min(a[0], b[0]) <= c[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= c[1] <= max(a[1], b[1]))


@jit
def _vertices(sequence: Ints, length: int, count: int, out: Ints) -> int:
    """Write the point index of each token before END, -1 for a token that names no point; return how many."""
    size = 0
    for t in range(length):
        token = sequence[t]
        if token == 0:
            break
        out[size] = token - 1 if 0 < token <= count else -1
        size += 1
    return size


@jit
def _in_range(vertices: Ints) -> bool:
    for vertex in vertices:
        if vertex < 0:
            return False
    return True


@jit
def _distinct(points: Floats, representative: Ints) -> Ints:
    """Indices of the distinct positions in lexicographic order; maps each point to the lowest index at its position."""
    count = len(points)
    keys = np.empty(count, np.int64)
    for i in range(count):
        keys[i] = (np.int64(points[i, 0] * _GRID) << 25) | np.int64(points[i, 1] * _GRID)
    order = np.argsort(keys, kind="mergesort")
    size = 0
    for i in order:
        if size == 0 or keys[order[size - 1]] != keys[i]:
            order[size] = i
            size += 1
        representative[i] = order[size - 1]
    return order[:size]


@jit
def _chain(points: Floats, order: Ints, hull: Ints, size: int, floor: int) -> int:
    """Extend ``hull[:size]`` by ``order``, dropping vertices above ``floor`` where the path does not turn left."""
    for i in order:
        while size >= floor and _turn(points[hull[size - 2]], points[hull[size - 1]], points[i]) <= 0:
            size -= 1
        hull[size] = i
        size += 1
    return size


@jit
def _hull(points: Floats, representative: Ints) -> Ints:
    """Andrew's monotone chain: hull vertices counter-clockwise from the one with the lowest index."""
    order = _distinct(points, representative)
    if len(order) < 3:
        return np.sort(order)
    hull = np.empty(2 * len(order), np.int64)
    lower = _chain(points, order, hull, 0, 2)
    size = _chain(points, order[-2::-1], hull, lower, lower + 1) - 1
    return np.roll(hull[:size], -np.argmin(hull[:size]))


@jit
def hulls(points: Floats, counts: Ints) -> tuple[Ints, Ints]:
    """As ``hull.hulls``."""
    tokens = np.zeros((points.shape[0], points.shape[1] + 1), np.int64)
    lengths = np.empty(points.shape[0], np.int64)
    representative = np.empty(points.shape[1], np.int64)
    for b in range(points.shape[0]):
        hull = _hull(points[b, : counts[b]], representative)
        tokens[b, : len(hull)] = hull + 1
        lengths[b] = len(hull) + 1
    return tokens, lengths


@jit
def _descends(dx: float, dy: float) -> bool:
    """Whether the way goes towards lexicographically lesser positions."""
    return bool(dx < 0 or (dx == 0 and dy < 0))


@jit
def _turns_left_once_around(points: Floats, vertices: Ints) -> bool:
    """Whether the closed path, of three vertices or more, turns strictly left at each and winds around once."""
    before, here = vertices[-2], vertices[-1]
    dx, dy = points[here, 0] - points[before, 0], points[here, 1] - points[before, 1]
    lowest = 0
    for following in vertices:
        ex, ey = points[following, 0] - points[here, 0], points[following, 1] - points[here, 1]
        if dx * ey - dy * ex <= 0:
            return False
        # A path that only turns left has one lexicographic minimum for each time it winds around.
        lowest += _descends(dx, dy) and not _descends(ex, ey)
        here, dx, dy = following, ex, ey
    return lowest == 1


@jit
def _contains_all(points: Floats, vertices: Ints, columns: Floats) -> bool:
    """Whether every point is left of, or on, every directed edge; ``columns``, (2, max_count), is scratch.

    The inner loop has no branch and reads columns, so that it is compiled to vector instructions.
    """
    count, tail = len(points), vertices[-1]
    for i in range(count):
        columns[0, i], columns[1, i] = points[i, 0], points[i, 1]
    for head in vertices:
        dx, dy = points[head, 0] - points[tail, 0], points[head, 1] - points[tail, 1]
        offset, outside = dx * points[tail, 1] - dy * points[tail, 0], 0
        for i in range(count):
            outside += dx * columns[1, i] - dy * columns[0, i] < offset
        if outside:
            return False
        tail = head
    return True


@jit
def _is_extent(points: Floats, vertices: Ints) -> bool:
    """Whether one or two vertices are the distinct extreme points of points on one line."""
    a, b = points[vertices[0]], points[vertices[-1]]
    if len(vertices) == 2 and _same(a, b):
        return False
    for i in range(len(points)):
        if _turn(a, b, points[i]) != 0 or not _between(a, b, points[i]):
            return False
    return True


@jit
def _is_hull(points: Floats, vertices: Ints, columns: Floats) -> bool:
    """The certificate: no hull is computed. Every strict left turn along lines of support is a hull vertex."""
    if len(vertices) == 0 or not _in_range(vertices):
        return False
    if len(vertices) < 3:
        return _is_extent(points, vertices)
    return _turns_left_once_around(points, vertices) and _contains_all(points, vertices, columns)


@jit
def valid(points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> Bools:
    """As ``hull.valid``."""
    result = np.empty(len(points), np.bool_)
    buffer, columns = np.empty(sequences.shape[1], np.int64), np.empty((2, points.shape[1]))
    for b in range(len(points)):
        size = _vertices(sequences[b], lengths[b], counts[b], buffer)
        result[b] = _is_hull(points[b, : counts[b]], buffer[:size], columns)
    return result


@jit
def _matched_edges(vertices: Ints, hull: Ints, representative: Ints, following: Ints) -> int:
    """How many directed edges of the hull the closed path has, each counted once; ``following`` is scratch."""
    following[:] = -1
    for t in range(len(hull)):
        following[hull[t - 1]] = hull[t]
    matched = 0
    for t in range(len(vertices)):
        if vertices[t - 1] < 0 or vertices[t] < 0:
            continue
        tail, head = representative[vertices[t - 1]], representative[vertices[t]]
        if following[tail] == head:
            matched += 1
            following[tail] = -1
    return matched


@jit
def edge_f1(points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> Floats:
    """As ``hull.edge_f1``."""
    result = np.zeros(len(points), np.float64)
    buffer = np.empty(sequences.shape[1], np.int64)
    representative, following = np.empty(points.shape[1], np.int64), np.empty(points.shape[1], np.int64)
    for b in range(len(points)):
        size = _vertices(sequences[b], lengths[b], counts[b], buffer)
        hull = _hull(points[b, : counts[b]], representative)
        matched = _matched_edges(buffer[:size], hull, representative, following)
        result[b] = 2.0 * matched / (size + len(hull))
    return result


@jit
def _area(points: Floats, vertices: Ints) -> float:
    """Signed area of the closed path (shoelace formula)."""
    total = 0.0
    for t in range(len(vertices)):
        a, b = points[vertices[t - 1]], points[vertices[t]]
        total += a[0] * b[1] - a[1] * b[0]
    return total / 2


@jit
def _drop_repeats(points: Floats, vertices: Ints) -> Ints:
    """Leave out vertices at the position of the one before, in place and around the end."""
    size = 0
    for vertex in vertices:
        if size == 0 or not _same(points[vertices[size - 1]], points[vertex]):
            vertices[size] = vertex
            size += 1
    while size > 1 and _same(points[vertices[0]], points[vertices[size - 1]]):
        size -= 1
    return vertices[:size]


@jit
def _meet(a: Floats, b: Floats, c: Floats, d: Floats) -> bool:
    """Whether the closed segments ab and cd have a point in common."""
    if max(a[0], b[0]) < min(c[0], d[0]) or max(c[0], d[0]) < min(a[0], b[0]):
        return False
    if max(a[1], b[1]) < min(c[1], d[1]) or max(c[1], d[1]) < min(a[1], b[1]):
        return False
    # Once the boxes overlap, the segments meet exactly where each one's line does not separate the other's ends.
    if np.sign(_turn(a, b, c)) * np.sign(_turn(a, b, d)) > 0:
        return False
    return bool(np.sign(_turn(c, d, a)) * np.sign(_turn(c, d, b)) <= 0)


@jit
def _is_simple(points: Floats, vertices: Ints) -> bool:
    """Whether the closed path, without repeats, touches itself nowhere but at shared ends of consecutive edges."""
    size = len(vertices)
    if size < 3:
        return False
    if size == 3:
        return bool(_turn(points[vertices[0]], points[vertices[1]], points[vertices[2]]) != 0)
    # Edge i ends at vertex i. Neighbours share an end and need no test: one that folds back over the other makes the
    # edge before or behind the two touch them as well.
    for i in range(size):
        for j in range(i + 2, min(size, size - 1 + i)):
            if _meet(points[vertices[i - 1]], points[vertices[i]], points[vertices[j - 1]], points[vertices[j]]):
                return False
    return True


@jit
def _coverage(points: Floats, vertices: Ints, representative: Ints) -> tuple[float, bool]:
    if len(vertices) == 0 or not _in_range(vertices):
        return 0.0, False
    hull = _hull(points, representative)
    if len(hull) < 3:
        found = len(vertices) < 3 and _is_extent(points, vertices)
        return 1.0 if found else 0.0, found
    vertices = _drop_repeats(points, vertices)
    if not _is_simple(points, vertices):
        return 0.0, False
    return abs(_area(points, vertices)) / _area(points, hull), True


@jit
def coverage(points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> tuple[Floats, Bools]:
    """As ``hull.coverage``."""
    share, simple = np.empty(len(points), np.float64), np.empty(len(points), np.bool_)
    buffer = np.empty(sequences.shape[1], np.int64)
    representative = np.empty(points.shape[1], np.int64)
    for b in range(len(points)):
        size = _vertices(sequences[b], lengths[b], counts[b], buffer)
        share[b], simple[b] = _coverage(points[b, : counts[b]], buffer[:size], representative)
    return share, simple
