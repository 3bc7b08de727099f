"""The convex hull as a sequence: points in, the hull's vertices out.

The task is that of Vinyals, Fortunato & Jaitly, Pointer Networks (2015). Token ``i + 1`` names point ``i``; END closes
the polygon. The reference runs counter-clockwise from the hull vertex with the lowest index. What counts as the hull of
duplicate, collinear or fewer than three points is defined in ``rlseq_envs.rewards.hull``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.drawing import Polygon
from rlseq_envs.point_files import parse_point_sets, parse_polygons, read_point_sets
from rlseq_envs.point_sets import Points, PointSource, UniformPoints
from rlseq_envs.rewards import hull
from rlseq_envs.rewards.mixture import Mixture
from rlseq_envs.settings.convex_hull import HULL_REWARDS, POINTS, ConvexHullSettings
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import END, FIRST_IDS, Bools, Floats, Ints, Rendering, Reward, SequenceTask, Split, SplitName

_NOT_SIMPLE_ALLOWED = 0.01


class ConvexHullTask(SequenceTask):
    """Name the vertices of the convex hull of a set of points, counter-clockwise.

    Reward components, each in [0, 1] (see ``rlseq_envs.rewards.hull`` for their exact meaning):

    * ``valid``: 1 where the sequence is the hull, from any starting point.
    * ``edge_f1``: F1 between its directed edges and the hull's.
    * ``coverage``: the share of the hull's area that it covers, 0 unless its polygon is simple.

    The vertices are those before END or, in a sequence cut off without END, all there are. A token that names no point
    makes a sequence neither valid nor simple.
    """

    selection_metric = "accuracy"

    def __init__(self, artifacts: str | Path | None = None, **settings: Any) -> None:
        """Splits come from files if these are given, and are generated otherwise. A file is read at its first use.

        Args:
            artifacts: Unused: the settings are all that is needed to decode.
            **settings: The keys of ``ConvexHullSettings``.

        Raises:
            ValueError: Settings are wrong; the message lists every problem.
        """
        del artifacts
        self.settings = given = ConvexHullSettings(**settings)
        self._mixture = Mixture(given.reward, HULL_REWARDS, given.reward_timeout)
        points = given.min_points, given.max_points
        self._sources: dict[SplitName, PointSource] = {
            "train": UniformPoints(given.seed, FIRST_IDS["train"], given.train_size, *points),
            "validation": UniformPoints(given.seed, FIRST_IDS["validation"], given.validation_size, *points),
            "test": UniformPoints(given.seed, FIRST_IDS["test"], given.test_size, *(given.test_points or points)),
        }
        if given.rl_generated:
            self._sources["rl"] = UniformPoints(given.seed, FIRST_IDS["rl"], None, *points)
        files: dict[SplitName, str | None] = {
            "train": given.train_file,
            "validation": given.validation_file,
            "test": given.test_file,
            "rl": given.rl_file,
        }
        self._unread = {name: path for name, path in files.items() if path is not None}
        self._splits = [name for name in FIRST_IDS if name in self._sources or name in self._unread]

    def _read(self, names: Sequence[SplitName]) -> None:
        """Put files in the place of generated splits; raises ValueError with the problems of all of them together."""
        problems = []
        for name in [name for name in names if name in self._unread]:
            try:
                found = read_point_sets(self._unread[name])
            except ValueError as problem:
                problems.append(str(problem))
                continue
            limit = self.settings.train_size if name == "train" else None
            self._sources[name] = found.first(limit) if limit else found
            del self._unread[name]
        if problems:
            raise ValueError("\n".join(problems))

    def _source_of(self, name: SplitName) -> PointSource:
        self._read([name])
        return self._sources[name]

    @cached_property
    def _longest(self) -> int:
        """Points in the largest set of all splits."""
        self._read(self._splits)
        return max(source.longest for source in self._sources.values())

    @cached_property
    def sources(self) -> Mapping[str, Space]:  # type: ignore[override]
        """Points of the largest set of all splits."""
        return {POINTS: Space.of_vectors(2, self._longest)}

    @cached_property
    def choices(self) -> Choices:  # type: ignore[override]
        """Positions of points, and END."""
        return Choices(self._longest + 1, points_to=POINTS)

    @property
    def points_to(self) -> str:
        """Points, whatever the data."""
        return POINTS

    @property
    def signature(self) -> str:
        """See the base class. Names the reward alone, so that a policy can be judged on sets of any size."""
        weights = self._mixture.signature({name: name for name in HULL_REWARDS})
        rules = "orientation:ccw|start:any|vertices:by position|end:optional|grid:2^-24"
        return f"convex_hull|reward:{weights}|{rules}|version:1"

    def instances(self, split: SplitName) -> Split:
        """See the base class."""
        if split not in self._splits:
            raise ValueError(f"no split {split!r}; choose from {', '.join(self._splits)}")
        return Split(split, FIRST_IDS[split], self._source_of(split).size, labelled=split != "rl")

    def rl_instances(self) -> Split:
        """Those of ``rl_file`` or ``rl_generated``, or those of training."""
        return self.instances("rl" if "rl" in self._splits else "train")

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """Points in [0, 1]², (batch_size, max_count, 2) float32 multiples of 2^-24, and their number.

        Raises:
            ValueError: An id belongs to no split.
        """
        return Source.of(points=self._points(ids))

    def _points(self, ids: Ints) -> tuple[Points, Ints]:
        parts = [(rows, *source.take(positions)) for rows, source, positions in self._by_split(ids)]
        if len(parts) == 1:
            return parts[0][1:]
        points = np.zeros((len(ids), max((part[1].shape[1] for part in parts), default=0), 2), np.float32)
        counts = np.zeros(len(ids), np.int64)
        for rows, values, sizes in parts:
            points[rows, : values.shape[1]] = values
            counts[rows] = sizes
        return points, counts

    def sizes(self, ids: Ints) -> Ints:
        """Number of points of each set; raises as ``source``."""
        counts = np.zeros(len(ids), np.int64)
        for rows, source, positions in self._by_split(ids):
            counts[rows] = source.sizes(positions)
        return counts

    def _by_split(self, ids: Ints) -> Iterator[tuple[Ints, PointSource, Ints]]:
        """For each split that the ids are of: which of them they are, where its sets come from, their places there."""
        ids = np.asarray(ids, np.int64)
        names: list[SplitName] = list(FIRST_IDS)
        split = np.searchsorted(list(FIRST_IDS.values()), ids, side="right") - 1
        for index in np.unique(split):
            rows, name = np.flatnonzero(split == index), names[max(index, 0)]
            source, positions = self._source_of(name) if name in self._splits else None, ids[rows] - FIRST_IDS[name]
            size = source.size if source is not None else 0
            outside = (positions < 0) | (positions >= (math.inf if size is None else size))
            if source is None or outside.any():
                wrong = ids[rows][outside][0]
                raise ValueError(f"instance {wrong} belongs to no split; take ids from instances({name!r}).ids()")
            yield rows, source, positions

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        """The hulls, counter-clockwise from the vertex with the lowest index, then END; and their lengths."""
        points, counts = self._points(ids)
        tokens, lengths = hull.hulls(points.astype(np.float64), counts)
        return tokens[:, : lengths.max(initial=1)], lengths

    def starts(self, ids: Ints, count: int) -> Ints:
        """The farthest point in each of ``count`` evenly spaced directions: vertices of the hull, found without it."""
        points, counts = self._points(ids)
        return hull.farthest(points.astype(np.float64), counts, count)

    def length_limits(self, sizes: Ints) -> Ints:
        """Every point once, and END."""
        return sizes + 1

    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        """The weighted sum of the components that were chosen; the others are not computed."""
        columns = self._columns(sequences, lengths, ids)
        return self._mixture.reward(self._values(self._mixture.names, columns), (*columns, np.asarray(ids, np.int64)))

    def potentials(self, sequences: Ints, lengths: Ints, ids: Ints) -> Floats:
        """The rewards of the prefixes, as in the base class, with ``valid`` in parts.

        What is only a part of the hull is worth the share of the hull's edges that it has drawn, as long as no vertex
        was wrong.
        """
        points, counts, sequences, lengths = self._columns(sequences, lengths, ids)
        unfinished = np.arange(sequences.shape[1]) < lengths[:, None] - 1
        drawn = np.where(unfinished, hull.progress(points, counts, sequences), 0.0)
        return super().potentials(sequences, lengths, ids) + self._mixture.weight("valid") * drawn

    def prepare(self) -> None:
        """Read every file, and try the rewards of the user's own on two hulls.

        Raises:
            ValueError: Files or rewards cannot be used.
        """
        self._mixture.find()
        self._read(self._splits)
        if self._mixture.has_own:
            ids = self.instances("train").ids(0, 2)
            self._mixture.check((*self._columns(*self.references(ids), ids), ids))

    def _components(self, names: Sequence[str], sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, Any]:
        return self._values(names, self._columns(sequences, lengths, ids))

    def _columns(self, sequences: Ints, lengths: Ints, ids: Ints) -> tuple[Floats, Ints, Ints, Ints]:
        """Points, their number, sequences and lengths, as the rewards read them; a set is made once for its samples."""
        different, instance = np.unique(ids, return_inverse=True)
        sets, counts = self._points(different)
        points = sets.astype(np.float64)[instance]
        shortened = np.minimum(lengths, sequences.shape[1]).astype(np.int64)
        return points, counts[instance], np.ascontiguousarray(sequences, np.int64), shortened

    @staticmethod
    def _values(names: Sequence[str], arguments: tuple[Floats, Ints, Ints, Ints]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if "valid" in names:
            values["valid"] = hull.valid(*arguments).astype(np.float64)
        if "edge_f1" in names:
            values["edge_f1"] = hull.edge_f1(*arguments)
        if "coverage" in names:
            values["coverage"], values["simple"] = hull.coverage(*arguments)
        return values

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        """The metrics of the Pointer Networks paper, and the means behind them.

        Returns:
            accuracy: Percentage of sequences that are the hull, counter-clockwise, from any starting point.
            area: Mean coverage in percent over the simple polygons; NaN (the paper's FAIL) when more than 1 % of the
                sequences are not simple.
            simple: Percentage of simple polygons.
            valid, edge_f1, coverage: Means of the reward components, in [0, 1].
            truncated: Share of sequences without END.
        """
        values = self._components(HULL_REWARDS, sequences, lengths, ids)
        simple = values["simple"]
        fails = np.mean(~simple) > _NOT_SIMPLE_ALLOWED
        ends = (sequences == END) & (np.arange(sequences.shape[1]) < lengths[:, None])
        return {
            "accuracy": 100 * float(values["valid"].mean()),
            "area": math.nan if fails else 100 * float(values["coverage"][simple].mean()),
            "simple": 100 * float(simple.mean()),
            **{name: float(values[name].mean()) for name in HULL_REWARDS},
            "truncated": float(np.mean(~ends.any(axis=1))),
        }

    def instance_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, Bools | Floats]:
        """Accuracy and simplicity as booleans; edge F1, coverage and area in [0, 1], the area NaN if not simple."""
        values = self._components(HULL_REWARDS, sequences, lengths, ids)
        return {
            "accuracy": values["valid"] > 0,
            "area": np.where(values["simple"], values["coverage"], math.nan),
            "simple": values["simple"],
            "edge_f1": values["edge_f1"],
            "coverage": values["coverage"],
        }

    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        """The points, the polygon of the sequence and the hull; points are called p1, p2 and so on."""
        points, _ = self._points(np.array([instance_id]))
        reference = self.references(np.array([instance_id]))[0][0]
        count = points.shape[1]
        return Rendering(
            source=" ".join(f"p{i + 1}({x:.3f},{y:.3f})" for i, (x, y) in enumerate(points[0])),
            reference=" ".join(_labels(reference, count)),
            output=" ".join(_labels(sequence, count)),
            drawing=Polygon(points[0].astype(np.float64), _polygon(sequence, count), _polygon(reference, count)),
            input_labels=tuple(f"p{i + 1}" for i in range(count)),
            output_labels=_labels(sequence, count),
        )

    def parse_sources(self, lines: Sequence[str]) -> Source[npt.NDArray[Any]]:
        """Lines ``x1 y1 x2 y2 …`` of points in [0, 1], an ``output …`` part being ignored; see the base class."""
        sets = parse_point_sets(lines)
        return Source.of(points=sets.take(np.arange(sets.size)))

    def format_outputs(self, sequences: Ints, lengths: Ints) -> list[str]:
        """1-based indices that close by repeating the first, as in the Pointer Networks data: ``1 4 3 1``."""
        lines = []
        for sequence, length in zip(sequences, lengths, strict=True):
            vertices = _before_end(sequence[:length])
            lines.append(" ".join(map(str, vertices + vertices[:1])))
        return lines

    def parse_outputs(self, lines: Sequence[str], ids: Ints) -> tuple[Ints, Ints]:
        """Indices as ``format_outputs`` writes them, the repeated first one left out; see the base class."""
        outputs = [[*polygon, END] for polygon in parse_polygons(lines, self.sizes(ids))]
        lengths = np.array([len(output) for output in outputs], np.int64)
        sequences = np.full((len(outputs), lengths.max(initial=1)), END, np.int64)
        for row, output in enumerate(outputs):
            sequences[row, : len(output)] = output
        return sequences, lengths


def _before_end(sequence: Ints) -> list[int]:
    tokens: list[int] = sequence.tolist()
    return tokens[: tokens.index(END)] if END in tokens else tokens


def _polygon(sequence: Ints, count: int) -> tuple[int, ...]:
    """Indices of the points named before END; tokens that name none are left out."""
    return tuple(token - 1 for token in _before_end(sequence) if 0 < token <= count)


def _labels(sequence: Ints, count: int) -> tuple[str, ...]:
    names = {END: "END"} | {i + 1: f"p{i + 1}" for i in range(count)}
    ended = _before_end(sequence)
    tokens = [*ended, END] if len(ended) < len(sequence) else ended
    return tuple(names.get(token, f"?{token}") for token in tokens)
