"""Point sets from files: the text format of the Pointer Networks data, and .npy arrays.

A text line is one set: ``x1 y1 x2 y2 …``, optionally followed by ``output`` and the hull as 1-based indices that close
by repeating the first (Vinyals et al., 2015). That column is checked for syntax and otherwise ignored: the hull is
computed. A ``.npy`` file holds (sets, points, 2) numbers. Coordinates must lie in [0, 1] and are rounded to multiples
of 2^-24, on which float32 is exact and so is every orientation test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt

from rlseq_envs.point_sets import PointSets, on_grid
from rlseq_envs.task import Floats

_SHOWN = 20
_DIGITS = 20  # an index has fewer
# What numpy makes of the head of a file that is damaged, or that asks for more memory than there is.
_BAD_HEAD = (ValueError, TypeError, OverflowError, MemoryError, SyntaxError, RecursionError, TokenError)
_SCALE = "scale the points into [0, 1]"


def read_point_sets(path: str | Path) -> PointSets:
    """Read a ``.npy`` file, or a text file of one set a line.

    Raises:
        ValueError: The file is missing or malformed; the message names every bad place (the first 20) and the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file of point sets")
    try:
        return _read_npy(path) if path.suffix == ".npy" else _read_text(path)
    except OSError as problem:
        raise ValueError(f"{path}: cannot be read: {problem.strerror}") from problem


def parse_point_sets(lines: Iterable[str], place: str = "") -> PointSets:
    """Read point sets from lines of text; ``place`` goes before line numbers in messages.

    Raises:
        ValueError: Lines cannot be read, or there are none.
    """
    sets: list[Floats] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            sets.append(_parse_line(line))
        except ValueError as problem:
            problems.append(f"{place}line {number}: {problem}")
    _raise_all(problems)
    if not sets:
        raise ValueError(f"{place}no point sets: expected lines of `x1 y1 x2 y2 …`")
    return PointSets.join(sets)


def parse_polygons(lines: Sequence[str], counts: npt.NDArray[np.int64]) -> list[list[int]]:
    """Read one polygon a line, as 1-based indices of points; one that repeats its first index at the end is closed.

    Args:
        lines: As many as ``counts``.
        counts: Points of each set.

    Raises:
        ValueError: Words are no indices of points; the message names the lines.
    """
    polygons, problems = [], []
    for number, (line, count) in enumerate(zip(lines, counts.tolist(), strict=True), start=1):
        words = line.split()
        try:
            _check_output(words, count)
        except ValueError as problem:
            problems.append(f"line {number}: {problem}")
            continue
        indices = [int(word) for word in words]
        polygons.append(indices[:-1] if len(indices) > 1 and indices[0] == indices[-1] else indices)
    _raise_all(problems)
    return polygons


def _raise_all(problems: list[str]) -> None:
    if len(problems) > _SHOWN:
        problems = [*problems[:_SHOWN], f"… and {len(problems) - _SHOWN} more"]
    if problems:
        raise ValueError("\n".join(problems))


def _read_text(path: Path) -> PointSets:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = problem.object[: problem.start].count(b"\n") + 1
        raise ValueError(f"{path}: line {line}: not UTF-8 text; save the file as UTF-8, or as .npy") from None
    return parse_point_sets(text.removesuffix("\n").split("\n") if text else (), f"{path}: ")


def _parse_line(line: str) -> Floats:
    if len(line.rstrip("\r\n").splitlines()) > 1:
        raise ValueError("holds another line end than a line feed; save the file with line feeds")
    before, *after = line.split("output")
    points = _parse_points(before.split())
    if len(after) > 1:
        raise ValueError("`output` occurs more than once; write one set a line")
    if after:
        _check_output(after[0].split(), len(points))
    return points


def _parse_points(words: list[str]) -> Floats:
    if not words:
        raise ValueError("no points; expected `x1 y1 x2 y2 …`")
    values = np.array([_number(word) for word in words])
    if len(values) % 2:
        raise ValueError(f"{len(values)} coordinates; points need an even number")
    outside = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(outside):
        raise ValueError(f"coordinate {words[outside[0]]} is outside [0, 1]; {_SCALE}")
    return values.reshape(-1, 2)


def _number(word: str) -> float:
    try:
        if "_" in word:
            raise ValueError  # Python reads 1_0 as 10
        return float(word)
    except ValueError:
        raise ValueError(f"{word[:40]!r} is not a number; expected `x1 y1 x2 y2 …`") from None


def _check_output(words: list[str], count: int) -> None:
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) < _DIGITS and 1 <= int(word) <= count):
            raise ValueError(f"output {word[:40]!r} is not the index of a point, 1 … {count}")


def _read_npy(path: Path) -> PointSets:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except _BAD_HEAD as problem:
        told = str(problem) or "its head is too large"
        raise ValueError(f"{path}: not a readable .npy file of numbers ({told}); write it with numpy.save") from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: holds {array.dtype}; expected real numbers")
    if array.ndim != 3 or array.shape[2] != 2 or 0 in array.shape:
        raise ValueError(f"{path}: shape {array.shape}; expected (sets, points, 2) with at least one of each")
    inside = ((array >= 0) & (array <= 1)).all(axis=(1, 2))
    _raise_all([f"{path}: set {i} (from 0) has points outside [0, 1]; {_SCALE}" for i in np.flatnonzero(~inside)])
    sets, count = array.shape[:2]
    points = on_grid(array.reshape(-1, 2).astype(np.float64))
    return PointSets(points, np.arange(sets + 1, dtype=np.int64) * count)
