"""The reporter: one call for each event of a run, passed on to every sink."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

import numpy.typing as npt

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.report.console import PlainConsole, RichConsole
from rlseq.report.files import CurvesFile, LogFile, MetricsFile, SampleFiles
from rlseq.report.samples import SampleRow
from rlseq.report.sink import Level, MetricsLog, PhaseStart, Sink, Start, StopPhase, Updates, Validation
from rlseq.report.tensorboard import TensorBoard


class Reporter:
    """Passes a run's events on to the console, the log, metrics.jsonl, TensorBoard and the plots.

    Args:
        sinks: Where events go; default: all of the above.
        metric: From a phase to the metric that picks its best checkpoint; default: the first one of a validation that
            is not the reward.
        callbacks: The user's. Unlike a sink, one that raises ends the training, after a save; see ``StopPhase``, too.
    """

    def __init__(
        self,
        sinks: Sequence[Sink] | None = None,
        metric: Callable[[str], str] | None = None,
        callbacks: Sequence[Sink] = (),
    ) -> None:
        self._sinks = list(sinks) if sinks is not None else default_sinks(sys.stdout)
        self._metric, self._callbacks = metric, list(callbacks)
        self._failed: set[Sink] = set()
        self._stop: str | None = None

    def start(self, config: Config, run: MetricsLog, resumed_at: int | None = None) -> None:
        """The run begins; ``resumed_at`` is the update of the checkpoint it goes on from."""
        event = Start(config, run, resumed_at)
        self._tell_all(lambda sink: sink.start(event))

    def phase(self, name: Phase, title: str, total_updates: int, update: int = 0) -> None:
        """A phase of at most ``total_updates`` begins, ``update`` of which were done before; see the event."""
        event = PhaseStart(name, title, total_updates, update)
        self._tell_all(lambda sink: sink.phase(event))

    def updates(self, phase: str, update: int, phase_update: int, stats: Mapping[str, float]) -> None:
        """Statistics (tag to value) at an update, counted over the run and within the phase."""
        event = Updates(phase, update, phase_update, stats)
        self._tell_all(lambda sink: sink.updates(event))

    def validation(
        self,
        phase: str,
        update: int,
        metrics: Mapping[str, float],
        best: bool,
        samples: Sequence[SampleRow],
        histograms: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
    ) -> Validation:
        """A validation after an update; see the event for the arguments. Callbacks hear of it by ``validated``."""
        first = next((name for name in metrics if name != "reward"), "reward")
        metric = self._metric(phase) if self._metric else first
        event = Validation(phase, update, metrics, metric, best, samples, histograms)
        self._tell_sinks(lambda sink: sink.validation(event))
        return event

    def validated(self, event: Validation, checkpoint: Path | None) -> None:
        """What a validation led to is done, and what it validated lies in the checkpoint, if it was saved."""
        told = replace(event, checkpoint=checkpoint)
        self._tell_callbacks(lambda sink: sink.validation(told))

    def message(self, text: str, level: Level = "info") -> None:
        """Something the user should know: a collapse, a recovery, an early stop, how to resume."""
        self._tell_all(lambda sink: sink.message(text, level))

    def finish(self) -> None:
        """Nothing follows. Files are flushed and closed, the terminal is given back."""
        self._sinks.reverse()  # console and log close last: a report that cannot be finished is told there
        self._tell_all(lambda sink: sink.finish())

    def take_stop(self) -> str | None:
        """Why a callback asked to end the phase, once; None: none did."""
        reason, self._stop = self._stop, None
        return reason

    def _tell_all(self, event: Callable[[Sink], None]) -> None:
        self._tell_sinks(event)
        self._tell_callbacks(event)

    def _tell_sinks(self, event: Callable[[Sink], None]) -> None:
        """A report that fails, such as a terminal that is gone or a full disk, is said once and ends no training."""
        for sink in self._sinks:
            try:
                event(sink)
            except Exception as error:
                if sink not in self._failed:
                    self._failed.add(sink)
                    told = f"{type(error).__name__}: {error}".rstrip(": ")
                    self.message(f"{type(sink).__name__} failed, training goes on without it: {told}", "warning")

    def _tell_callbacks(self, event: Callable[[Sink], None]) -> None:
        for callback in self._callbacks:
            try:
                event(callback)
            except StopPhase as reason:
                self._stop = str(reason) or "a callback asked for it"


def default_sinks(stream: TextIO | None) -> list[Sink]:
    """Every report, the console being one for terminals if ``stream`` is one; there is none without a stream."""
    console = [] if stream is None else [RichConsole(stream) if stream.isatty() else PlainConsole(stream)]
    return [*console, LogFile(), MetricsFile(), SampleFiles(), TensorBoard(), CurvesFile(Path("report/curves.png"))]
