"""Events as plain lines of text, the same on a plain console and in the log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import monotonic

from rlseq.report.sink import PhaseStart, Start, Updates, Validation

_SHOWN = {
    "train/loss": "loss",
    "rollout/reward_mean": "reward",
    "train/grad_norm": "grad_norm",
    "train/learning_rate": "lr",
    "time/tokens_per_sec": "tokens/s",
}


class Pace:
    """Time left in a phase, from the updates and the time since it began here."""

    def __init__(self, event: PhaseStart) -> None:
        self.event = event
        self._begun = monotonic()

    def seconds_left(self, phase_update: int) -> float | None:
        """None before the first update."""
        done = phase_update - self.event.done
        if done <= 0:
            return None
        return (monotonic() - self._begun) / done * max(0, self.event.total_updates - phase_update)


def start_line(event: Start) -> str:
    """The run's first line."""
    resumed = "" if event.resumed_at is None else f", resumed after update {event.resumed_at}"
    return f"run {event.run.path} ({event.config.name}, seed {event.config.seed}){resumed}"


def phase_line(event: PhaseStart) -> str:
    """A phase begins."""
    resumed = f", {event.done} of them done" if event.done else ""
    return f"{event.name}: {event.title}, at most {event.total_updates:,} updates{resumed}"


def updates_line(event: Updates, pace: Pace | None) -> str:
    """Statistics at an update: ``mle 220/1500 update 220 loss 1.234 … left 0:03:20``."""
    total = f"/{pace.event.total_updates}" if pace else ""
    left = pace.seconds_left(event.phase_update) if pace else None
    parts = [f"{event.phase} {event.phase_update}{total} update {event.update}", format_stats(event.stats)]
    if left is not None:
        parts.append(f"left {format_seconds(left)}")
    return " ".join(filter(None, parts))


def format_stats(stats: Mapping[str, float]) -> str:
    """The statistics worth a place on a line."""
    return " ".join(f"{name} {format_value(stats[tag])}" for tag, name in _SHOWN.items() if tag in stats)


def validation_line(event: Validation) -> str:
    """A validation: the metric that selects first, then the others."""
    names = [event.metric, *(name for name in event.metrics if name != event.metric)]
    values = " ".join(f"{name} {format_value(event.metrics[name])}" for name in names if name in event.metrics)
    return f"validation {event.phase} update {event.update} {values}{' (best so far)' if event.best else ''}"


def format_value(value: float) -> str:
    """Four significant digits, whole numbers from a thousand on: 0.01234, 76.12, 12,345."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value and abs(value) < 1e-3:
        return f"{value:.2e}"
    digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 3
    return f"{value:.{min(digits, 5)}f}"


def format_seconds(seconds: float) -> str:
    """``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
