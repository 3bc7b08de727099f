"""What a row is, how rows are registered, and how competitors are timed."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class SkipRow(Exception):
    """The row cannot be measured here; the message says why and what would help."""


def import_peer(name: str, install: str = "install the extra 'bench'") -> Any:
    """A module that only a comparison needs.

    Raises:
        SkipRow: It cannot be imported, for whatever reason: not there, or not made for these versions.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except Exception as problem:
        raise SkipRow(f"{name.split('.')[0]}: {type(problem).__name__}: {problem}; {install}") from problem


@dataclass(frozen=True)
class Figures:
    """What a measurement found.

    Attributes:
        ours: CPU seconds a call, unless the note names another unit.
        other: The same of what it is compared with.
        ratio: What the goal is about.
        note: Units other than seconds, and what else a reader should know.
    """

    ours: float
    other: float
    ratio: float
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """A bound on the ratio.

    Attributes:
        bound: The goal is met there, too.
        smaller_is_better: The bound is an upper one.
        beside_default: What ours is compared with multiplies matrices by torch's default: where that is fast, there is
            less to gain, and the goal does not count.
    """

    bound: float
    smaller_is_better: bool = False
    beside_default: bool = False

    def met(self, ratio: float) -> bool:
        """Whether this ratio reaches the bound."""
        return ratio <= self.bound if self.smaller_is_better else ratio >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.smaller_is_better else '≥'} {self.bound:g}"


@dataclass(frozen=True)
class Row:
    """One comparison, measured or skipped; a skipped one has no figures and is never ``ok``."""

    name: str
    goal: Goal
    figures: Figures | None
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Measured, and the goal is met."""
        return self.figures is not None and self.goal.met(self.figures.ratio)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data: name, ours, other, ratio, goal, ok; with ``note`` and ``skipped`` where there are any."""
        found = self.figures
        values = (found.ours, found.other, found.ratio) if found else (None, None, None)
        row = {"name": self.name, **dict(zip(("ours", "other", "ratio"), values, strict=True))}
        row |= {"goal": self.goal.bound, "ok": self.ok}
        row |= {"note": found.note} if found and found.note else {}
        return row | ({"skipped": self.skipped} if self.skipped else {})


Measurement = Callable[[bool], Figures]  # from "quick?"; raises SkipRow


@dataclass(frozen=True)
class Benchmark:
    """A row to be measured."""

    name: str
    goal: Goal
    measurement: Measurement

    def run(self, quick: bool) -> Row:
        """Measure."""
        try:
            return Row(self.name, self.goal, self.measurement(quick))
        except SkipRow as reason:
            return Row(self.name, self.goal, None, str(reason))


BENCHMARKS: dict[str, Benchmark] = {}


def register(name: str, measurement: Measurement, goal: Goal) -> None:
    """Make a measurement known under a name.

    Raises:
        ValueError: The name is taken.
    """
    if name in BENCHMARKS:
        raise ValueError(f"two rows are called {name!r}")
    BENCHMARKS[name] = Benchmark(name, goal, measurement)


def at_least(bound: float, *, beside_default: bool = False) -> Callable[[Measurement], Measurement]:
    """Register a measurement under its function's name; the ratio is to be ``bound`` or more."""
    return _registering(Goal(bound, beside_default=beside_default))


def at_most(bound: float) -> Callable[[Measurement], Measurement]:
    """Register a measurement under its function's name; the ratio is to be ``bound`` or less."""
    return _registering(Goal(bound, smaller_is_better=True))


def _registering(goal: Goal) -> Callable[[Measurement], Measurement]:
    def decorate(measurement: Measurement) -> Measurement:
        register(measurement.__name__, measurement, goal)
        return measurement

    return decorate


# ---------------------------------------------------------------------------------------------------------- timing
def interleaved(
    competitors: Sequence[Callable[[int], object]], turns: int, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Fewest seconds of each over ``turns`` turns, each called with the turn's number; who begins alternates."""
    best = [float("inf")] * len(competitors)
    order = list(range(len(competitors)))
    for turn in range(turns):
        for index in order:
            started = clock()
            competitors[index](turn)
            best[index] = min(best[index], clock() - started)
        order.reverse()
    return best


def speedup(ours: Callable[[int], object], other: Callable[[int], object], turns: int, note: str = "") -> Figures:
    """Other's time over ours, after a call of each that does not count."""
    for competitor in (ours, other):
        competitor(turns)
    best = interleaved([ours, other], turns)
    return Figures(best[0], best[1], best[1] / best[0], note)


def cost(ours: Callable[[int], object], other: Callable[[int], object], turns: int, note: str = "") -> Figures:
    """Our time over other's, after a call of each that does not count."""
    figures = speedup(ours, other, turns, note)
    return Figures(figures.ours, figures.other, figures.ours / figures.other, note)
