"""The reporter: one call for each event of a run, passed on to every sink."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

import numpy.typing as npt

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.report.console import PlainConsole, RichConsole
from rlseq.report.files import CurvesFile, LogFile, MetricsFile, SampleFiles
from rlseq.report.samples import SampleRow
from rlseq.report.sink import Level, MetricsLog, PhaseStart, Sink, Start, Updates, Validation
from rlseq.report.tensorboard import TensorBoard


class Reporter:
    """Passes a run's events on to the console, the log, metrics.jsonl, TensorBoard and the plots.

    Args:
        sinks: Where events go; default: all of the above.
        metric: The metric that picks the best checkpoint; default: the first one of a validation that is not the
            reward.
    """

    def __init__(self, sinks: Sequence[Sink] | None = None, metric: str | None = None) -> None:
        self._sinks = list(sinks) if sinks is not None else default_sinks(sys.stdout)
        self._metric = metric

    def start(self, config: Config, run: MetricsLog, resumed_at: int | None = None) -> None:
        """The run begins; ``resumed_at`` is the update of the checkpoint it goes on from."""
        for sink in self._sinks:
            sink.start(Start(config, run, resumed_at))

    def phase(self, name: Phase, title: str, total_updates: int, update: int = 0) -> None:
        """A phase of at most ``total_updates`` begins, ``update`` of which were done before; see the event."""
        for sink in self._sinks:
            sink.phase(PhaseStart(name, title, total_updates, update))

    def updates(self, phase: str, update: int, phase_update: int, stats: Mapping[str, float]) -> None:
        """Statistics (tag to value) at an update, counted over the run and within the phase."""
        for sink in self._sinks:
            sink.updates(Updates(phase, update, phase_update, stats))

    def validation(
        self,
        phase: str,
        update: int,
        metrics: Mapping[str, float],
        best: bool,
        samples: Sequence[SampleRow],
        histograms: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
    ) -> None:
        """A validation after an update; see the event for the arguments."""
        metric = self._metric or next((name for name in metrics if name != "reward"), "reward")
        for sink in self._sinks:
            sink.validation(Validation(phase, update, metrics, metric, best, samples, histograms))

    def message(self, text: str, level: Level = "info") -> None:
        """Something the user should know: a collapse, a recovery, an early stop, how to resume."""
        for sink in self._sinks:
            sink.message(text, level)

    def finish(self) -> None:
        """Nothing follows. Files are flushed and closed, the terminal is given back."""
        for sink in self._sinks:
            sink.finish()


def default_sinks(stream: TextIO | None) -> list[Sink]:
    """Every report, the console being one for terminals if ``stream`` is one; there is none without a stream."""
    console = [] if stream is None else [RichConsole(stream) if stream.isatty() else PlainConsole(stream)]
    return [*console, LogFile(), MetricsFile(), SampleFiles(), TensorBoard(), CurvesFile(Path("report/curves.png"))]
