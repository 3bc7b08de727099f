"""Hull kernels against shapely, scipy and brute force, on general and degenerate point sets."""

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from rlseq_envs.rewards import hull, hull_compiled, hull_numpy
from rlseq_envs.rewards.jit import jit

pytestmark = pytest.mark.slow

GRID = 1 << 24
coordinates = st.integers(0, GRID)
lattice = st.integers(0, 3).map(lambda k: k << 22)


@pytest.fixture(autouse=True, scope="module", params=[hull_compiled, hull_numpy], ids=["compiled", "numpy"])
def kernel(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hull, "_kernels", request.param)
        yield


@st.composite
def on_a_line(draw):
    """Points at whole multiples of one step."""
    x, y, dx, dy = draw(st.tuples(*[st.integers(0, 1 << 20)] * 4))
    return [(x + k * dx, y + k * dy) for k in draw(st.lists(st.integers(0, 7), min_size=1, max_size=8))]


point_sets = st.one_of(
    st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=10),
    st.lists(st.tuples(lattice, lattice), min_size=1, max_size=10),
    on_a_line(),
)


@st.composite
def candidates(draw):
    """A point set and a sequence of point indices, often a hull slightly spoilt."""
    points = draw(point_sets)
    indices = st.integers(0, len(points) - 1)
    if draw(st.booleans()):
        return points, draw(st.lists(indices, max_size=len(points) + 1))
    sequence = hull_of(points)
    shift = draw(st.integers(0, len(sequence)))
    sequence = sequence[shift:] + sequence[:shift]
    place = draw(st.integers(0, len(sequence) - 1))
    spoil = draw(st.sampled_from(["no", "reverse", "drop", "insert", "swap", "twice"]))
    if spoil == "reverse":
        sequence = sequence[::-1]
    elif spoil == "drop":
        del sequence[place]
    elif spoil == "insert":
        sequence.insert(place, draw(indices))
    elif spoil == "swap":
        sequence[place], sequence[0] = sequence[0], sequence[place]
    elif spoil == "twice":
        sequence = sequence * 2
    return points, sequence


def batch(points, sequences):
    """Arguments of the kernels for several sequences of indices over one point set, each closed by END."""
    time = max(map(len, sequences)) + 1
    tokens = np.zeros((len(sequences), time), np.int64)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = np.array(sequence, np.int64) + 1
    lengths = np.array([len(sequence) + 1 for sequence in sequences])
    repeated = np.repeat(np.array(points, np.float64)[None] / GRID, len(sequences), axis=0)
    return repeated, np.full(len(sequences), len(points)), tokens, lengths


def hull_of(points):
    tokens, lengths = hull.hulls(np.array(points, np.float64)[None] / GRID, np.array([len(points)]))
    assert (tokens[0, lengths[0] - 1 :] == 0).all()
    return (tokens[0, : lengths[0] - 1] - 1).tolist()


def oracle(points):
    """Positions of the hull, counter-clockwise from the first point of shapely's ring; extreme points if degenerate."""
    shape = shapely.MultiPoint(np.array(points, np.float64)).convex_hull
    if shape.geom_type == "Polygon":
        return [tuple(map(int, point)) for point in shapely.normalize(shape).exterior.reverse().coords[:-1]]
    return sorted(tuple(map(int, point)) for point in shape.coords)


def same_cycle(a, b):
    return len(a) == len(b) and any(a[k:] + a[:k] == b for k in range(len(a)))


@given(point_sets)
@settings(deadline=None)
def test_labels_are_shapelys_hull(points):
    indices = hull_of(points)
    assert same_cycle([points[i] for i in indices], oracle(points))
    assert indices[0] == min(indices)
    assert all(i == points.index(points[i]) for i in indices)


@pytest.mark.parametrize("side", [0, 3, 8])
def test_labels_are_scipys_hull(side):
    rng = np.random.default_rng(side)
    for count in range(5, 40):
        points = rng.random((count, 2)) if side == 0 else rng.integers(0, side, (count, 2)) / 8
        points = np.rint(points * GRID).astype(int)
        if len(oracle(points)) < 3:
            continue
        expected = ConvexHull(points).vertices
        found = hull_of(points.tolist())
        assert {tuple(points[i]) for i in found} == {tuple(points[i]) for i in expected}
        assert same_cycle([tuple(points[i]) for i in found], [tuple(points[i]) for i in expected])


@given(candidates())
@settings(deadline=None)
def test_valid_means_the_same_polygon_from_any_start(candidate):
    points, sequence = candidate
    expected = same_cycle([points[i] for i in sequence], oracle(points))
    assert hull.valid(*batch(points, [sequence])).tolist() == [expected]


@given(point_sets, st.integers(1, 12))
@settings(deadline=None)
def test_farthest_points_are_vertices_and_no_point_is_farther(points, count):
    tokens = hull.farthest(np.array(points, np.float64)[None] / GRID, np.array([len(points)]), count)
    assert tokens.shape == (1, count)
    true = oracle(points)
    for place, token in enumerate(tokens[0].tolist()):
        assert points[token - 1] in true and token - 1 == points.index(points[token - 1])
        angle = 2 * np.pi * place / count
        x, y = (round(part * 2**20) for part in (np.cos(angle), np.sin(angle)))
        assert x * points[token - 1][0] + y * points[token - 1][1] == max(x * a + y * b for a, b in points)


def test_farthest_points_of_sets_of_other_sizes_ignore_the_padding():
    points = np.array([[[0.25, 0.5], [0.75, 0.5], [0.5, 0.25]], [[0.5, 0.5], [0.0, 0.0], [0.0, 0.0]]])
    assert hull.farthest(points, np.array([3, 1]), 4).tolist() == [[2, 2, 1, 3], [1, 1, 1, 1]]


@given(candidates())
@settings(deadline=None)
def test_progress_is_the_share_of_edges_while_the_path_is_a_part_of_the_polygon(candidate):
    points, sequence = candidate
    true, path = oracle(points), [points[i] for i in sequence]
    expected = []
    for drawn in range(len(path) + 1):  # the last token is END
        part = path[: drawn + 1]
        begins = any((true[k:] + true[:k])[: len(part)] == part for k in range(len(true)))
        expected.append(drawn / len(true) if begins and drawn + 1 == len(part) < len(true) else 0.0)
    np.testing.assert_allclose(hull.progress(*batch(points, [sequence])[:3]), [expected])


@given(st.lists(st.tuples(lattice, lattice), min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_every_short_sequence(points):
    sequences = [list(s) for k in range(6) for s in itertools.product(range(len(points)), repeat=k)]
    arguments = batch(points, sequences)
    valid = hull.valid(*arguments)
    true = oracle(points)
    assert valid.tolist() == [same_cycle([points[i] for i in s], true) for s in sequences]
    assert ((hull.edge_f1(*arguments) == 1) == valid).all()
    share, simple = hull.coverage(*arguments)
    assert (share[valid] == 1).all() and simple[valid].all()


@pytest.mark.parametrize(
    ("points", "worth"),
    [
        ([(5, 5)], [[0]]),
        ([(5, 5), (5, 5), (5, 5)], [[0], [1], [2]]),
        ([(1, 1), (2, 2)], [[0, 1], [1, 0]]),
        ([(2, 2), (1, 1), (3, 3)], [[1, 2], [2, 1]]),
        ([(0, 0), (4, 0), (2, 0), (2, 4)], [[0, 1, 3], [1, 3, 0], [3, 0, 1]]),
        ([(0, 0), (4, 0), (0, 0), (2, 4)], [[0, 1, 3], [2, 1, 3], [1, 3, 0], [1, 3, 2], [3, 0, 1], [3, 2, 1]]),
    ],
    ids=["one point", "identical", "two points", "on a line", "on an edge", "duplicates"],
)
def test_degenerate_sets_by_hand(points, worth):
    sequences = [list(s) for k in range(4) for s in itertools.product(range(len(points)), repeat=k)]
    valid = hull.valid(*batch(points, sequences))
    assert sorted(s for s, v in zip(sequences, valid, strict=True) if v) == sorted(worth)


def test_a_square_walked_twice_is_worth_nothing():
    square = [(0, 0), (GRID, 0), (GRID, GRID), (0, GRID)]
    arguments = batch(square, [[0, 1, 2, 3] * 2, [0, 1, 2, 3], [3, 2, 1, 0]])
    assert hull.valid(*arguments).tolist() == [False, True, False]
    share, simple = hull.coverage(*arguments)
    assert share.tolist() == [0, 1, 1] and simple.tolist() == [False, True, True]
    assert hull.edge_f1(*arguments).tolist() == [pytest.approx(8 / 12), 1, 0]


def test_nearly_collinear_points_are_told_apart():
    # The middle point is one grid step below the segment: a vertex; on it, or above, it is not.
    for height, expected in ((0, [0, 1, 2, 3]), (1, [0, 2, 3]), (2, [0, 2, 3])):
        points = [(0, 1), (GRID // 2, height), (GRID, 1), (GRID, GRID)]
        assert hull_of(points) == expected
        assert hull.valid(*batch(points, [expected])).all()


def spoilt(rng, sequence, count):
    """The sequence from another start, and with one thing wrong."""
    shifted = np.roll(sequence, rng.integers(len(sequence))).tolist()
    place = rng.integers(len(shifted))
    swapped = list(shifted)
    swapped[place - 1], swapped[place] = swapped[place], swapped[place - 1]
    dropped, inserted = shifted[:place] + shifted[place + 1 :], list(shifted)
    inserted.insert(place, int(rng.integers(count)))
    return [shifted, shifted[::-1], swapped, dropped, inserted, rng.integers(0, count, len(shifted)).tolist()]


@pytest.mark.parametrize("kind", ["uniform", "lattice", "edges", "duplicates"])
def test_certificate_edges_and_area_are_scipys_on_fifty_points(kind):
    rng = np.random.default_rng(len(kind))
    for _ in range(20):
        points = rng.integers(0, GRID + 1, (50, 2))
        if kind == "lattice":
            points = rng.integers(0, 9, (50, 2)) << 20
        elif kind == "edges":  # many collinear points on the hull
            points[np.arange(40), rng.integers(0, 2, 40)] = rng.integers(0, 2, 40) * GRID
        elif kind == "duplicates":
            points = points[rng.integers(0, 12, 50)]
        sides = [tuple(map(int, point)) for point in points]
        found = ConvexHull(points)
        true = [sides[i] for i in found.vertices]
        edges = {(true[k - 1], true[k]) for k in range(len(true))}
        sequences = spoilt(rng, found.vertices, 50)
        walks = [[sides[i] for i in sequence] for sequence in sequences]
        matched = [len(edges & {(walk[k - 1], walk[k]) for k in range(len(walk))}) for walk in walks]
        arguments = batch(sides, sequences)
        assert hull.valid(*arguments).tolist() == [same_cycle(walk, true) for walk in walks]
        expected = [2 * m / (len(true) + len(walk)) for m, walk in zip(matched, walks, strict=True)]
        np.testing.assert_allclose(hull.edge_f1(*arguments), expected)
        simple = [len(set(walk)) > 2 and shapely.LinearRing(walk).is_simple for walk in walks]
        areas = [shapely.Polygon(w).area / found.volume if s else 0 for w, s in zip(walks, simple, strict=True)]
        share, is_simple = hull.coverage(*arguments)
        np.testing.assert_allclose(share, areas)
        assert is_simple.tolist() == simple


@given(candidates())
@settings(deadline=None)
def test_edge_f1_counts_directed_edges(candidate):
    points, sequence = candidate
    true, found = oracle(points), [points[i] for i in sequence]
    edges = {(true[k - 1], true[k]) for k in range(len(true))}
    matched = len(edges & {(found[k - 1], found[k]) for k in range(len(found))})
    expected = 2 * matched / (len(true) + len(found))
    assert hull.edge_f1(*batch(points, [sequence])).tolist() == [pytest.approx(expected)]


@given(candidates())
@settings(deadline=None, max_examples=200)
def test_coverage_and_simplicity_are_shapelys(candidate):
    points, sequence = candidate
    true, found = oracle(points), [points[i] for i in sequence]
    if len(true) < 3:
        expected = same_cycle(found, true)
        area = float(expected)
    else:
        expected = len(set(found)) > 2 and shapely.LinearRing(found).is_simple
        area = shapely.Polygon(found).area / shapely.Polygon(true).area if expected else 0.0
    share, simple = hull.coverage(*batch(points, [sequence]))
    assert simple.tolist() == [expected]
    assert share.tolist() == [pytest.approx(area)]


@pytest.mark.parametrize(
    ("sequence", "simple"),
    [
        ([0, 1, 2, 3], True),
        ([0, 0, 1, 2, 3], True),
        ([0, 1, 2, 3, 0], True),
        ([0, 1, 2, 3, 3, 0, 0], True),
        ([0, 4, 1, 2, 3], True),
        ([0, 1, 4], False),
        ([0, 1, 4, 2], False),
        ([0, 4, 1, 4, 2, 3], False),
        ([0, 2, 1, 3], False),
        ([0, 1, 0, 1], False),
        ([0, 0, 1, 1], False),
        ([0, 0, 0], False),
    ],
)
def test_simple_polygons_by_hand(sequence, simple):
    points = [(0, 0), (8, 0), (8, 8), (0, 8), (4, 0)]
    if len(set(sequence)) > 2:
        assert shapely.LinearRing([points[i] for i in sequence]).is_simple == simple
    assert hull.coverage(*batch(points, [sequence]))[1].tolist() == [simple]


@pytest.mark.parametrize("token", [-1, 5, 2**40, -(2**63)])
def test_tokens_that_name_no_point_make_a_sequence_invalid(token):
    points, counts, tokens, lengths = batch([(0, 0), (GRID, 0), (GRID, GRID), (0, GRID)], [[0, 1, 2, 3]])
    tokens[0, 2] = token
    arguments = points, counts, tokens, lengths
    assert not hull.valid(*arguments).any()
    assert hull.coverage(*arguments)[0].tolist() == [0] and not hull.coverage(*arguments)[1].any()
    assert hull.edge_f1(*arguments).tolist() == [0.5]


def test_only_what_stands_before_end_or_the_length_counts():
    points, counts, tokens, _ = batch([(0, 0), (GRID, 0), (GRID, GRID), (0, GRID)], [[0, 1, 2, 3, 1, 1]] * 3)
    tokens[1, 4] = 0
    assert hull.valid(points, counts, tokens, np.array([4, 7, 6])).tolist() == [True, True, False]
    assert hull.edge_f1(points, counts, tokens, np.array([4, 7, 6]))[:2].tolist() == [1, 1]
    assert hull.coverage(points, counts, tokens, np.array([4, 7, 6]))[0].tolist() == [1, 1, 0]


def test_padding_of_shorter_sets_never_counts():
    points = np.zeros((2, 4, 2))
    points[:, :3] = np.array([[0.5, 0.5], [1, 0.5], [1, 1]])
    counts = np.array([3, 4])
    tokens, lengths = hull.hulls(points, counts)
    assert tokens[:, :4].tolist() == [[1, 2, 3, 0], [2, 3, 4, 0]] and lengths.tolist() == [4, 4]
    assert hull.valid(points, counts, tokens, lengths).all()
    assert hull.valid(points, counts[::-1].copy(), tokens, lengths).tolist() == [False, False]


def test_batches_without_rows_or_tokens():
    points, none = np.zeros((0, 4, 2)), np.zeros(0, np.int64)
    tokens, lengths = hull.hulls(points, none)
    assert tokens.shape == (0, 5) and lengths.shape == (0,)
    assert hull.valid(points, none, tokens, lengths).shape == hull.edge_f1(points, none, tokens, lengths).shape == (0,)
    assert [result.shape for result in hull.coverage(points, none, tokens, lengths)] == [(0,), (0,)]
    arguments = np.full((2, 4, 2), 0.5), np.array([1, 4]), np.zeros((2, 0), np.int64), np.zeros(2, np.int64)
    assert not hull.valid(*arguments).any() and not hull.edge_f1(*arguments).any()
    assert not np.any(hull.coverage(*arguments))


@pytest.mark.parametrize("scale", [3, 40, GRID])
def test_rows_of_unlike_sizes_are_judged_as_each_alone(scale):
    rng = np.random.default_rng(scale)
    points, counts = rng.integers(0, scale + 1, (200, 30, 2)) / GRID, rng.integers(1, 31, 200)
    tokens, lengths = hull.hulls(points, counts)
    tokens[::4, :2] = tokens[::4, 1::-1]  # two swapped, sometimes END
    tokens[1::4, 1] = rng.integers(-1, 32, 50)  # sometimes no point
    tokens[2::4] = np.roll(tokens[2::4], -1, axis=1)
    valid, f1 = hull.valid(points, counts, tokens, lengths), hull.edge_f1(points, counts, tokens, lengths)
    share, simple = hull.coverage(points, counts, tokens, lengths)
    assert 0 < valid.sum() < simple.sum() < 200
    for b in range(200):
        row = slice(b, b + 1)
        alone = points[row, : counts[b]], counts[row], tokens[row, : lengths[b]], lengths[row]
        assert hull.valid(*alone) == valid[b] and hull.edge_f1(*alone) == f1[b]
        assert [result.item() for result in hull.coverage(*alone)] == [pytest.approx(share[b]), simple[b]]


def test_both_kernels_find_the_same():
    rng = np.random.default_rng(0)
    points, counts = rng.integers(0, 6, (500, 12, 2)) / GRID, rng.integers(1, 13, 500)
    lengths = rng.integers(0, 9, 500)
    for compiled, plain in zip(hull_compiled.hulls(points, counts), hull_numpy.hulls(points, counts), strict=True):
        np.testing.assert_array_equal(compiled, plain)
    arguments = points, counts, rng.integers(-1, 14, (500, 8)), lengths
    np.testing.assert_array_equal(hull_compiled.valid(*arguments), hull_numpy.valid(*arguments))
    np.testing.assert_array_equal(hull_compiled.edge_f1(*arguments), hull_numpy.edge_f1(*arguments))
    (share, simple), (other, also) = hull_compiled.coverage(*arguments), hull_numpy.coverage(*arguments)
    np.testing.assert_array_equal(simple, also)
    np.testing.assert_allclose(share, other, rtol=1e-12)


def test_kernels_compile_where_nothing_can_be_cached(monkeypatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    assert jit(lambda x: x + 1)(1) == 2
