"""Reports that are files of the run directory."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import TextIO

from rlseq.config.phases import PHASES
from rlseq.report.lines import Pace, phase_line, start_line, updates_line, validation_line
from rlseq.report.plots import draw_curves
from rlseq.report.samples import format_lines
from rlseq.report.sink import Level, MetricsLog, PhaseStart, Sink, Start, Updates, Validation


class LogFile(Sink):
    """``train.log``: every event as a line with its time, appended to."""

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._before: list[tuple[Level, str]] = []  # messages from before the run began
        self._pace: Pace | None = None

    def start(self, event: Start) -> None:
        """See the base class."""
        self._file = (event.run.path / "train.log").open("a", encoding="utf-8", buffering=1)
        self._write("info", start_line(event))
        for level, text in self._before:
            self._write(level, text)
        self._before.clear()

    def phase(self, event: PhaseStart) -> None:
        """See the base class."""
        self._pace = Pace(event)
        self._write("info", phase_line(event))

    def updates(self, event: Updates) -> None:
        """See the base class."""
        self._write("info", updates_line(event, self._pace))

    def validation(self, event: Validation) -> None:
        """See the base class."""
        self._write("info", validation_line(event))

    def message(self, text: str, level: Level) -> None:
        """See the base class."""
        if self._file is None:
            self._before.append((level, text))
        self._write(level, text)

    def finish(self) -> None:
        """See the base class."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, level: Level, text: str) -> None:
        if self._file is not None:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            self._file.write(f"{now} {level.upper()} {text}\n")


class MetricsFile(Sink):
    """``metrics.jsonl``: a record of each statistics and validation; a value that is no number is null."""

    def __init__(self) -> None:
        self._run: MetricsLog | None = None

    def start(self, event: Start) -> None:
        """See the base class."""
        self._run = event.run

    def updates(self, event: Updates) -> None:
        """See the base class."""
        self._append(event.update, event.phase, dict(event.stats))

    def validation(self, event: Validation) -> None:
        """See the base class."""
        self._append(event.update, event.phase, {f"eval/{name}": value for name, value in event.metrics.items()})

    def _append(self, update: int, phase: str, values: dict[str, float]) -> None:
        assert self._run is not None
        numbers = {tag: float(value) if math.isfinite(value) else None for tag, value in values.items()}
        self._run.append_metrics({"update": update, "phase": phase, **numbers})


class SampleFiles(Sink):
    """``samples/<update>.txt``: the samples of each validation, uncut."""

    def __init__(self) -> None:
        self._directory: Path | None = None

    def start(self, event: Start) -> None:
        """See the base class."""
        self._directory = event.run.path / "samples"

    def validation(self, event: Validation) -> None:
        """See the base class."""
        if self._directory is not None and event.samples:
            self._directory.mkdir(exist_ok=True)
            text = "\n".join([validation_line(event), "", *format_lines(event.samples)])
            (self._directory / f"{event.update}.txt").write_text(text + "\n", encoding="utf-8")


class CurvesFile(Sink):
    """The run's curves as a picture, drawn when it finishes from its metrics.jsonl."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._run: MetricsLog | None = None
        self._titles: dict[str, str] = {}
        self._metric: str | None = None

    def start(self, event: Start) -> None:
        """See the base class."""
        self._run = event.run
        self._titles = {name: event.config.phase(name).title for name in PHASES}

    def validation(self, event: Validation) -> None:
        """See the base class."""
        self._metric = event.metric

    def finish(self) -> None:
        """See the base class."""
        if self._run is not None and self._metric is not None:
            target = self._run.path / self._place
            target.parent.mkdir(parents=True, exist_ok=True)
            draw_curves(self._run.path / "metrics.jsonl", target, self._metric, self._titles)
