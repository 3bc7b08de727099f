"""Point sets from text and .npy: the Pointer Networks format, rounding, and every error with its place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq_envs.point_files import parse_point_sets, read_point_sets
from rlseq_envs.point_sets import GRID


@pytest.fixture
def write(tmp_path):
    def write(content, name="sets.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_pointer_networks_lines(write):
    sets = read_point_sets(write("0.25 0.5 1 0 0.125 1.0 output 1 2 3 1 \r\n0.5 0.75\n"))
    assert (sets.size, sets.longest) == (2, 3)
    points, counts = sets.take(np.array([1, 0]))
    assert counts.tolist() == [1, 3] and points.dtype == np.float32
    assert points[0].tolist() == [[0.5, 0.75], [0, 0], [0, 0]]
    assert points[1].tolist() == [[0.25, 0.5], [1, 0], [0.125, 1]]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf0.5 0.25\n", b"0.5 0.25", b"0.5\t0.25 \r\n", b"5e-1 .25 output\n"])
def test_tolerated_variants(write, content):
    points, counts = read_point_sets(write(content)).take(np.array([0]))
    assert points.tolist() == [[[0.5, 0.25]]] and counts.tolist() == [1]


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 2), min_size=1, max_size=6))
@settings(deadline=None)
def test_points_are_rounded_to_the_nearest_multiple_of_the_grid(pairs):
    line = " ".join(repr(value) for pair in pairs for value in pair)
    points, _ = parse_point_sets([line]).take(np.array([0]))
    steps = points[0].astype(np.float64) * GRID
    assert (steps == np.rint(steps)).all()
    assert np.abs(points[0] - np.array(pairs)).max() <= 0.5 / GRID


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_npy(tmp_path, dtype):
    array = np.array([[[0, 1], [1, 0], [0, 0]], [[1, 1], [0, 1], [1, 0]]], dtype)
    np.save(tmp_path / "sets.npy", array)
    sets = read_point_sets(tmp_path / "sets.npy")
    points, counts = sets.take(np.array([1, 0, 1]))
    assert counts.tolist() == [3, 3, 3] and (points == array[[1, 0, 1]]).all()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "no points"),
        ("output 1", "no points"),
        ("0.5", "1 coordinates; points need an even number"),
        ("0.5 0.5 x 0.5", "'x' is not a number"),
        ("0.5 0.5\0", "is not a number"),
        ("0.5 1.5", "coordinate 1.5 is outside [0, 1]; scale the points"),
        ("-0.5 0.5", "coordinate -0.5 is outside [0, 1]"),
        ("nan 0.5", "coordinate nan is outside [0, 1]"),
        ("0.5 inf", "coordinate inf is outside [0, 1]"),
        ("0.5 0.5 output 1 2", "output '2' is not the index of a point, 1 … 1"),
        ("0.5 0.5 output 0", "output '0' is not the index of a point"),
        ("0.5 0.5 output a", "output 'a' is not the index of a point"),
        ("0.5 0.5 output 1 output 1", "`output` occurs more than once"),
    ],
)
def test_a_bad_line_is_named(write, line, problem):
    path = write(f"0.5 0.5\n{line}\n0.25 0.5\n")
    with pytest.raises(ValueError) as caught:
        read_point_sets(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: line 2: ") and problem in message and "\n" not in message


def test_all_bad_lines_are_named_and_many_are_counted(write):
    with pytest.raises(ValueError) as caught:
        read_point_sets(write("0.5 0.5\n2 2\n0.5 0.5\nx y\n"))
    assert [line.split(": ")[1] for line in str(caught.value).split("\n")] == ["line 2", "line 4"]
    with pytest.raises(ValueError, match=r"line 20: .*\n… and 5 more$"):
        parse_point_sets(["2 2"] * 25)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no point sets"),
        (b"0.5 0.5\n\xff\xfe0\n", "line 2: not UTF-8 text"),
        ("0.5 0.5".encode("utf-16"), "line 1: not UTF-8 text"),
    ],
)
def test_bad_text_files(write, content, problem):
    path = write(content)
    with pytest.raises(ValueError) as caught:
        read_point_sets(path)
    assert str(path) in str(caught.value) and problem in str(caught.value)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((4, 2)), "shape (4, 2); expected (sets, points, 2)"),
        (np.zeros((4, 3, 3)), "shape (4, 3, 3)"),
        (np.zeros((0, 3, 2)), "with at least one of each"),
        (np.zeros((2, 3, 2), complex), "holds complex128; expected real numbers"),
        (np.array([[[0, 0]], [[0, 2]], [[np.nan, 0]]]), "set 1 (from 0) has points outside [0, 1]"),
    ],
)
def test_bad_npy_arrays(tmp_path, array, problem):
    path = tmp_path / "sets.npy"
    np.save(path, array)
    with pytest.raises(ValueError) as caught:
        read_point_sets(path)
    assert str(path) in str(caught.value) and problem in str(caught.value)
    if np.isnan(array).any():
        assert "set 2 (from 0)" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_files_that_are_no_npy(write, content):
    path = write(content, "sets.npy")
    with pytest.raises(ValueError, match=f"{path}: not a readable .npy file"):
        read_point_sets(path)


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "sets.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"not a readable \.npy file of numbers"):
        read_point_sets(tmp_path / "sets.npy")


@pytest.mark.parametrize("name", ["missing.txt", "missing.npy", "."])
def test_missing_files(tmp_path, name):
    with pytest.raises(ValueError, match="no such file of point sets"):
        read_point_sets(tmp_path / name)
