"""Where a run's events go: the interface every report implements, and the events themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy.typing as npt

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.report.samples import SampleRow

Level = Literal["info", "warning", "error"]


class MetricsLog(Protocol):
    """The part of a run directory that reports need."""

    path: Path

    def append_metrics(self, record: Mapping[str, object]) -> None:
        """Append one line to metrics.jsonl."""


@dataclass(frozen=True)
class Start:
    """A run begins, or goes on after the update it is resumed at."""

    config: Config
    run: MetricsLog
    resumed_at: int | None


@dataclass(frozen=True)
class PhaseStart:
    """A phase begins or goes on.

    Attributes:
        name: Of the phase.
        title: What is trained in it, as people call it.
        total_updates: Most updates of it.
        done: Updates of it that were done before.
    """

    name: Phase
    title: str
    total_updates: int
    done: int


@dataclass(frozen=True)
class Updates:
    """Statistics at one update.

    Attributes:
        phase: Name of the phase.
        update: Counted over the whole run.
        phase_update: Counted within the phase.
        stats: Tag to value.
    """

    phase: str
    update: int
    phase_update: int
    stats: Mapping[str, float]


@dataclass(frozen=True)
class Validation:
    """A validation after one update.

    Attributes:
        phase: Name of the phase.
        update: Counted over the whole run.
        metrics: Name to value, without the prefix of their tags.
        metric: Name of the one that picks the best checkpoint.
        best: This is the best checkpoint so far.
        samples: Rows of the table of samples.
        histograms: Name to the values of all instances or tokens, in any shape.
        checkpoint: What was validated, as it was saved; None if it was not, and before it is: only callbacks hear of
            validations after that.
    """

    phase: str
    update: int
    metrics: Mapping[str, float]
    metric: str
    best: bool
    samples: Sequence[SampleRow]
    histograms: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    checkpoint: Path | None = None


class StopPhase(Exception):
    """Raised by a callback: the phase ends here, as it would after its last update. The message says why."""


class Sink:
    """A place for a run's events; each method does nothing until a subclass needs it."""

    def start(self, event: Start) -> None:
        """The run begins."""

    def phase(self, event: PhaseStart) -> None:
        """A phase begins."""

    def updates(self, event: Updates) -> None:
        """Statistics at an update."""

    def validation(self, event: Validation) -> None:
        """A validation is done."""

    def message(self, text: str, level: Level) -> None:
        """Something the user should know."""

    def finish(self) -> None:
        """Nothing follows; called once, also after a failure."""
