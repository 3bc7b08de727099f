"""Progress on a terminal, plain one-line logs elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rlseq.report.lines import Pace, format_seconds, format_value, phase_line, start_line, updates_line, validation_line
from rlseq.report.samples import SampleRow, format_lines
from rlseq.report.sink import Level, PhaseStart, Sink, Start, Updates, Validation
from rlseq.report.tables import samples_table

_STYLES: dict[Level, str] = {"info": "cyan", "warning": "yellow", "error": "bold red"}
_PLAIN_WIDTH = 100  # characters of a sample's text on a plain console
_PLAIN_SAMPLES, _TERMINAL_SAMPLES = 2, 4  # rows of the table of samples that are shown; all of them are in samples/
_WIDE = 100  # columns of a terminal from which on there is room for phases' long names and a table of samples
_METRIC, _OBJECTIVE, _SPEED = range(3)  # places of the figures beside the bar


class PlainConsole(Sink):
    """One line an event."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pace: Pace | None = None

    def start(self, event: Start) -> None:
        """See the base class."""
        self._write(start_line(event))

    def phase(self, event: PhaseStart) -> None:
        """See the base class."""
        self._pace = Pace(event)
        self._write(phase_line(event))

    def updates(self, event: Updates) -> None:
        """See the base class."""
        self._write(updates_line(event, self._pace))

    def validation(self, event: Validation) -> None:
        """See the base class."""
        self._write(validation_line(event))
        for line in format_lines(event.samples[:_PLAIN_SAMPLES], _PLAIN_WIDTH):
            self._write(line)

    def message(self, text: str, level: Level) -> None:
        """See the base class."""
        self._write(text if level == "info" else f"{level}: {text}")

    def _write(self, line: str) -> None:
        # A character that the stream's encoding lacks must not end a training.
        encoding = self._stream.encoding or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)


class RichConsole(Sink):
    """A progress bar for each phase, a table of samples at each validation."""

    def __init__(self, stream: TextIO, width: int | None = None) -> None:
        self._console = Console(file=stream, width=width)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[figures]}"),
            TextColumn("[dim]{task.fields[left]}"),
            console=self._console,
        )
        self._bar: TaskID | None = None
        self._pace: Pace | None = None
        self._figures: dict[int, str] = {}
        self._phase_begun: int | None = None  # the run's update at which the phase began

    def start(self, event: Start) -> None:
        """See the base class."""
        self._console.print(start_line(event), markup=False, highlight=False)
        self._progress.start()

    def phase(self, event: PhaseStart) -> None:
        """See the base class."""
        self._pace = Pace(event)
        self._figures.clear()
        self._phase_begun = None
        name: str = event.name
        if self._console.width >= _WIDE:
            name = f"{event.name} ({event.title})"
        self._bar = self._progress.add_task(name, total=event.total_updates, completed=event.done, figures="", left="")

    def updates(self, event: Updates) -> None:
        """See the base class."""
        self._phase_begun = event.update - event.phase_update
        left = self._pace.seconds_left(event.phase_update) if self._pace else None
        if "rollout/reward_mean" in event.stats:
            self._figures[_OBJECTIVE] = f"reward {format_value(event.stats['rollout/reward_mean'])}"
        elif "train/loss" in event.stats:
            self._figures[_OBJECTIVE] = f"loss {format_value(event.stats['train/loss'])}"
        if "time/tokens_per_sec" in event.stats:
            self._figures[_SPEED] = f"tokens/s {format_value(event.stats['time/tokens_per_sec'])}"
        self._redraw(completed=event.phase_update, left="" if left is None else f"{format_seconds(left)} left")

    def validation(self, event: Validation) -> None:
        """See the base class."""
        if event.metric in event.metrics:
            self._figures[_METRIC] = f"{event.metric} {format_value(event.metrics[event.metric])}"
        # Of the run's updates, those of the phase are known from its first statistics on.
        self._redraw(**({} if self._phase_begun is None else {"completed": event.update - self._phase_begun}))
        style = "bold green" if event.best else "none"
        self._console.print(validation_line(event), style=style, markup=False, highlight=False)
        self._show_samples(event.samples)

    def message(self, text: str, level: Level) -> None:
        """See the base class."""
        self._console.print(f"[{_STYLES[level]}]{level}[/] {escape(text)}", highlight=False)

    def finish(self) -> None:
        """See the base class."""
        self._progress.stop()

    def _show_samples(self, rows: Sequence[SampleRow]) -> None:
        if rows and self._console.width >= _WIDE:
            self._console.print(samples_table(rows[:_TERMINAL_SAMPLES]))
            return
        for line in format_lines(rows[:_PLAIN_SAMPLES], self._console.width - 15):
            self._console.print(line, markup=False, highlight=False)

    def _redraw(self, **fields: object) -> None:
        if self._bar is not None:
            figures = "  ".join(self._figures[place] for place in sorted(self._figures))
            self._progress.update(self._bar, figures=figures, **fields)  # type: ignore[arg-type]
