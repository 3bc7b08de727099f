"""Hull kernels for where nothing can be compiled: polygons are judged in numpy, all at once; hulls are found in Python.

``rlseq_envs.rewards.hull`` says what they compute. A batch of closed paths is held as their corners, (paths, time, 2),
and sizes, (paths,); behind its last corner a path's corners come round again.
"""

from __future__ import annotations

import numpy as np

from rlseq_envs.task import END, Bools, Floats, Ints

_Position = tuple[float, float]


# ----------------------------------------------------------------------------------------------------- hulls and edges
def _positions(points: Floats, counts: Ints) -> list[list[_Position]]:
    return [[(x, y) for x, y in row[:count]] for row, count in zip(points.tolist(), counts.tolist(), strict=True)]


def _chain(positions: list[_Position]) -> list[_Position]:
    """The positions without those where the path through them does not turn left."""
    chain: list[_Position] = []
    for x, y in positions:
        while len(chain) > 1:
            (ax, ay), (bx, by) = chain[-2:]
            if (bx - ax) * (y - ay) > (by - ay) * (x - ax):
                break
            chain.pop()
        chain.append((x, y))
    return chain


def _hull(positions: list[_Position]) -> list[int]:
    """Andrew's monotone chain: hull vertices counter-clockwise from the one with the lowest index."""
    lowest: dict[_Position, int] = {}
    for index, position in enumerate(positions):
        lowest.setdefault(position, index)
    order = sorted(lowest)
    corners = _chain(order)[:-1] + _chain(order[::-1])[:-1] or order  # one position has no chain
    hull = [lowest[corner] for corner in corners]
    start = hull.index(min(hull))
    return hull[start:] + hull[:start]


def hulls(points: Floats, counts: Ints) -> tuple[Ints, Ints]:
    """As ``hull.hulls``."""
    tokens = np.zeros((points.shape[0], points.shape[1] + 1), np.int64)
    lengths = np.empty(len(points), np.int64)
    for b, positions in enumerate(_positions(points, counts)):
        hull = _hull(positions)
        tokens[b, : len(hull)] = np.array(hull) + 1
        lengths[b] = len(hull) + 1
    return tokens, lengths


def _edges(corners: list[_Position | None]) -> set[tuple[_Position | None, _Position | None]]:
    """The directed edges of a closed path."""
    return set(zip(corners, corners[1:] + corners[:1], strict=True))


def edge_f1(points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> Floats:
    """As ``hull.edge_f1``."""
    vertices, sizes = _vertices(counts, sequences, lengths)
    result = np.zeros(len(points))
    for b, positions in enumerate(_positions(points, counts)):
        hull: list[_Position | None] = [positions[vertex] for vertex in _hull(positions)]
        path = [positions[vertex] if vertex >= 0 else None for vertex in vertices[b, : sizes[b]].tolist()]
        result[b] = 2 * len(_edges(hull) & _edges(path)) / (len(hull) + len(path))
    return result


# --------------------------------------------------------------------------------------------------------------- paths
def _vertices(counts: Ints, sequences: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Point index of each token, -1 for one that names no point, in at least one column; how many are before END."""
    time = sequences.shape[1]
    ended = np.ones((len(sequences), time + 1), np.bool_)
    ended[:, :time] = (sequences == END) | (np.arange(time) >= lengths[:, None])
    vertices = np.full(ended.shape, -1, np.int64)
    np.subtract(sequences, 1, out=vertices[:, :time], where=(sequences > 0) & (sequences <= counts[:, None]))
    sizes = ended.argmax(axis=1)
    return vertices[:, : max(int(sizes.max(initial=0)), 1)], sizes


def _are_named(vertices: Ints, sizes: Ints) -> Bools:
    """Whether a path has vertices, and each is a point."""
    return (sizes > 0) & ((vertices >= 0) | (np.arange(vertices.shape[1]) >= sizes[:, None])).all(axis=1)


def _shift(corners: Floats, sizes: Ints, steps: int) -> Floats:
    """Corner t + ``steps`` of each path in place of corner t; what stands behind a path's end is replaced as well."""
    places = (np.arange(corners.shape[1]) + steps) % np.maximum(sizes, 1)[:, None]
    return np.take_along_axis(corners, places[:, :, None], axis=1)


def _corners(points: Floats, vertices: Ints, sizes: Ints) -> Floats:
    return _shift(points[np.arange(len(points))[:, None], vertices], sizes, 0)


def _drop_repeats(corners: Floats, sizes: Ints) -> tuple[Floats, Ints]:
    """The paths without corners at the position of the one before, and their sizes."""
    kept = (corners != _shift(corners, sizes, -1)).any(axis=2) & (np.arange(corners.shape[1]) < sizes[:, None])
    order = np.argsort(~kept, axis=1, kind="stable")
    sizes = np.count_nonzero(kept, axis=1)
    return _shift(np.take_along_axis(corners, order[:, :, None], axis=1), sizes, 0), sizes


# ------------------------------------------------------------------------------------------------------ the certificate
def _turn(a: Floats, b: Floats, c: Floats) -> Floats:
    """Twice the signed area of triangles abc: positive where the path a → b → c turns left."""
    ab, ac = b - a, c - a
    areas: Floats = ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]
    return areas


def _before(a: Floats, b: Floats) -> Bools:
    """Lexicographic order."""
    first: Bools = (a[..., 0] < b[..., 0]) | ((a[..., 0] == b[..., 0]) & (a[..., 1] < b[..., 1]))
    return first


def _turn_left_once_around(corners: Floats, sizes: Ints) -> Bools:
    """Whether each path turns strictly left at every corner and winds around once."""
    previous, following = _shift(corners, sizes, -1), _shift(corners, sizes, 1)
    left = (_turn(previous, corners, following) > 0).all(axis=1)
    # A path that only turns left has one lexicographic minimum for each time it winds around.
    lowest = _before(corners, previous) & _before(corners, following) & (np.arange(corners.shape[1]) < sizes[:, None])
    return left & (np.count_nonzero(lowest, axis=1) == 1)


def _contain_all(corners: Floats, sizes: Ints, points: Floats, counts: Ints) -> Bools:
    """Whether every point is left of, or on, every directed edge of its path."""
    x, y = np.ascontiguousarray(np.moveaxis(points, 2, 0))
    tails = _shift(corners, sizes, -1)
    dx, dy = np.moveaxis(corners - tails, 2, 0)
    offsets = dx * tails[..., 1] - dy * tails[..., 0]
    outside = np.zeros(x.shape, np.bool_)
    for t in range(int(sizes.max(initial=0))):
        outside |= dx[:, t, None] * y - dy[:, t, None] * x < offsets[:, t, None]
    outside &= np.arange(x.shape[1]) < counts[:, None]
    return np.count_nonzero(outside, axis=1) == 0


def _are_extents(corners: Floats, sizes: Ints, points: Floats, counts: Ints) -> Bools:
    """Whether the one or two corners of each path are the distinct extreme points of points on one line."""
    a, b = corners[:, :1], _shift(corners, sizes, -1)[:, :1]
    between = (np.minimum(a, b) <= points) & (points <= np.maximum(a, b))
    within = (_turn(a, b, points) == 0) & between.all(axis=2)
    beyond = np.arange(points.shape[1]) >= counts[:, None]
    twice = (sizes == 2) & (a == b).all(axis=(1, 2))
    extents: Bools = (within | beyond).all(axis=1) & ~twice
    return extents


def valid(points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> Bools:
    """As ``hull.valid``: the certificate, no hull is computed."""
    vertices, sizes = _vertices(counts, sequences, lengths)
    result, corners = _are_named(vertices, sizes), _corners(points, vertices, sizes)
    rows = np.flatnonzero(result & (sizes < 3))
    result[rows] = _are_extents(corners[rows], sizes[rows], points[rows], counts[rows])
    rows = np.flatnonzero(result & (sizes >= 3))
    result[rows] = _turn_left_once_around(corners[rows], sizes[rows])
    rows = rows[result[rows]]
    result[rows] = _contain_all(corners[rows], sizes[rows], points[rows], counts[rows])
    return result


# ------------------------------------------------------------------------------------------------------------ the area
def _areas(corners: Floats, sizes: Ints) -> Floats:
    """Signed areas (shoelace formula)."""
    a, b = _shift(corners, sizes, -1), corners
    doubled = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    areas: Floats = np.where(np.arange(corners.shape[1]) < sizes[:, None], doubled, 0).sum(axis=1) / 2
    return areas


def _meet(a: Floats, b: Floats, c: Floats, d: Floats) -> Bools:
    """Whether the closed segments ab and cd have a point in common."""
    apart = (np.maximum(a, b) < np.minimum(c, d)) | (np.maximum(c, d) < np.minimum(a, b))
    # Once the boxes overlap, the segments meet exactly where each one's line does not separate the other's ends.
    parted = np.sign(_turn(a, b, c)) * np.sign(_turn(a, b, d)) > 0
    parted |= np.sign(_turn(c, d, a)) * np.sign(_turn(c, d, b)) > 0
    return ~(parted | apart.any(axis=-1))


def _are_simple(corners: Floats, sizes: Ints) -> Bools:
    """Whether each path, without repeats, touches itself nowhere but at shared ends of consecutive edges."""
    previous = _shift(corners, sizes, -1)
    bent = _turn(previous, corners, _shift(corners, sizes, 1))[:, 0] != 0
    simple = (sizes > 2) & (bent | (sizes > 3))
    # Neighbours share an end and need no test: one that folds back over the other makes the edge before or behind the
    # two touch them as well.
    for gap in range(2, int(sizes.max(initial=0)) // 2 + 1):
        rows = np.flatnonzero(simple & (sizes >= 2 * gap))
        edges = previous[rows], corners[rows]
        simple[rows] = ~_meet(*edges, *(_shift(ends, sizes[rows], gap) for ends in edges)).any(axis=1)
    return simple


def coverage(points: Floats, counts: Ints, sequences: Ints, lengths: Ints) -> tuple[Floats, Bools]:
    """As ``hull.coverage``."""
    tokens, hull_sizes = hulls(points, counts)
    hull_sizes -= 1  # END
    simple = valid(points, counts, sequences, lengths)
    share = simple.astype(np.float64)  # right where the hull has no area
    rows = np.flatnonzero(hull_sizes >= 3)
    vertices, sizes = (array[rows] for array in _vertices(counts, sequences, lengths))
    corners, reduced = _drop_repeats(_corners(points[rows], vertices, sizes), sizes)
    simple[rows] = _are_named(vertices, sizes) & _are_simple(corners, reduced)
    hull_areas = _areas(_corners(points[rows], tokens[rows] - 1, hull_sizes[rows]), hull_sizes[rows])
    share[rows] = np.where(simple[rows], np.abs(_areas(corners, reduced)) / hull_areas, 0)
    return share, simple
