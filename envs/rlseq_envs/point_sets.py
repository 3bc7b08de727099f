"""Where point sets come from: drawn from counters, or kept in memory.

Coordinates are multiples of 2^-24 in [0, 1], on which float32 is exact and so is every orientation test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rlseq_envs.counters import GAMMA, Words, mix
from rlseq_envs.task import Floats, Ints

GRID = 1 << 24

Points = npt.NDArray[np.float32]


class PointSource(Protocol):
    """Where the point sets of a split come from."""

    @property
    def size(self) -> int | None:
        """Number of sets; None for endless."""

    @property
    def longest(self) -> int:
        """Points in the largest set."""

    def sizes(self, positions: Ints) -> Ints:
        """Number of points of each set, (batch_size,)."""

    def take(self, positions: Ints) -> tuple[Points, Ints]:
        """Sets padded with 0 to the largest of them, (batch_size, max_count, 2), and their sizes, (batch_size,)."""


@dataclass(frozen=True)
class UniformPoints:
    """Uniform points in the unit square, each set a pure function of (seed, id).

    Every id starts a SplitMix64 stream of its own: the first word gives the number of points, each further one a point.

    Attributes:
        seed: Chooses the family of sets.
        first: Id of the set at position 0.
        size: Number of sets; None for endless.
        fewest: Smallest number of points.
        longest: Largest number of points.
    """

    seed: int
    first: int
    size: int | None
    fewest: int
    longest: int

    def _streams(self, positions: Ints) -> Words:
        seed = mix(np.array([self.seed], np.uint64) + GAMMA)
        return mix(seed ^ (positions + self.first).astype(np.uint64))

    def sizes(self, positions: Ints) -> Ints:
        """Number of points of each set, (batch_size,)."""
        span = np.uint64(self.longest - self.fewest + 1)
        drawn = (mix(self._streams(positions) + GAMMA) >> np.uint64(32)) * span >> np.uint64(32)
        return self.fewest + drawn.astype(np.int64)

    def take(self, positions: Ints) -> tuple[Points, Ints]:
        """Sets padded with 0 to the largest of them, (batch_size, max_count, 2), and their sizes, (batch_size,)."""
        streams, counts = self._streams(positions), self.sizes(positions)
        columns = np.arange(counts.max(initial=0))
        words = mix(streams[:, None] + GAMMA * (columns + 2).astype(np.uint64))
        words[columns >= counts[:, None]] = 0
        points = np.empty((*words.shape, 2), np.float32)
        points[:, :, 0] = words >> np.uint64(40)
        points[:, :, 1] = (words >> np.uint64(16)) & np.uint64(GRID - 1)
        points *= np.float32(1 / GRID)
        return points, counts


@dataclass(frozen=True)
class PointSets:
    """Point sets of differing sizes.

    Attributes:
        points: (total, 2) float32, all sets in a row.
        offsets: (size + 1,) where each set begins in ``points``; the last is ``total``.
    """

    points: Points
    offsets: Ints

    @classmethod
    def join(cls, sets: Sequence[Floats]) -> PointSets:
        """From (count, 2) arrays, rounded to the grid."""
        offsets = np.cumsum([0] + [len(points) for points in sets], dtype=np.int64)
        return cls(on_grid(np.concatenate(sets)), offsets)

    @property
    def size(self) -> int:
        """Number of sets."""
        return len(self.offsets) - 1

    @property
    def longest(self) -> int:
        """Points in the largest set."""
        return int(np.diff(self.offsets).max())

    def first(self, size: int) -> PointSets:
        """The first ``size`` sets, or all of them if there are fewer."""
        offsets = self.offsets[: size + 1]
        return PointSets(self.points[: offsets[-1]], offsets)

    def sizes(self, positions: Ints) -> Ints:
        """Number of points of each set, (batch_size,)."""
        return self.offsets[positions + 1] - self.offsets[positions]

    def take(self, positions: Ints) -> tuple[Points, Ints]:
        """Sets padded with 0 to the largest of them, (batch_size, max_count, 2), and their sizes, (batch_size,)."""
        starts, counts = self.offsets[positions], self.sizes(positions)
        columns = np.arange(counts.max(initial=0))
        inside = columns < counts[:, None]
        rows = np.where(inside, starts[:, None] + columns, 0)
        return np.where(inside[:, :, None], self.points[rows], np.float32(0)), counts


def on_grid(points: Floats) -> Points:
    """Points moved to the nearest multiples of 2^-24."""
    return (np.rint(points * GRID) / GRID).astype(np.float32)
