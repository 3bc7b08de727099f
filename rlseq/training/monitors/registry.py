"""All monitors of a phase, and the list that a new one joins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlseq.config.phases import PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.training.monitors.monitor import Monitor
from rlseq.training.monitors.outputs import (
    DiversityMonitor,
    EntropyMonitor,
    LengthMonitor,
    RepetitionMonitor,
    TruncationMonitor,
)
from rlseq.training.monitors.rewards import BaselineMonitor, CollapseMonitor, HackingMonitor, ZeroAdvantageMonitor

# A new monitor is a class, its line here and its name in MonitorName of rlseq/config/monitors.py.
MONITORS: tuple[type[Monitor], ...] = (
    CollapseMonitor,
    LengthMonitor,
    EntropyMonitor,
    DiversityMonitor,
    RepetitionMonitor,
    TruncationMonitor,
    HackingMonitor,
    BaselineMonitor,
    ZeroAdvantageMonitor,
)


@dataclass(frozen=True)
class Alarm:
    """What a monitor says.

    Attributes:
        monitor: Its name.
        text: What it sees, what this means and what to do.
    """

    monitor: str
    text: str


class Monitors:
    """The monitors of one phase; none watches cross-entropy.

    Args:
        section: The phase's configuration.
    """

    def __init__(self, section: PhaseConfig) -> None:
        self._watching: dict[str, Monitor] = {}
        self._stop: tuple[str, ...] = ()
        if isinstance(section, RLConfig):
            of_config = [each for each in MONITORS if each.name not in section.monitors.off and each.watches(section)]
            self._watching = {each.name: each() for each in of_config}
            self._stop = section.monitors.stop

    def update(self, stats: Mapping[str, float]) -> list[Alarm]:
        """Take in the statistics of an update, by tag; alarms that fire now."""
        return _alarms({name: each.update(stats) for name, each in self._watching.items()})

    def validation(self, metrics: Mapping[str, float], instances: int) -> list[Alarm]:
        """Take in the metrics of a validation over so many instances, by name; alarms that fire now."""
        return _alarms({name: each.validation(metrics, instances) for name, each in self._watching.items()})

    def flags(self) -> dict[str, float]:
        """By tag ``monitor/<name>``: 1 while its alarm has not recovered, 0 otherwise."""
        return {f"monitor/{name}": float(each.firing) for name, each in self._watching.items()}

    @property
    def validates_early(self) -> bool:
        """Whether the collapse monitor is suspicious, so that a validation should not wait."""
        collapse = self._watching.get(CollapseMonitor.name)
        return isinstance(collapse, CollapseMonitor) and collapse.suspicious

    @property
    def stopping(self) -> list[str]:
        """The monitors that end the phase now."""
        return [name for name in self._stop if name in self._watching and self._watching[name].firing]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {name: each.to_dict() for name, each in self._watching.items()}

    @classmethod
    def from_dict(cls, section: PhaseConfig, data: Mapping[str, Any]) -> Monitors:
        """The inverse of ``to_dict`` under the same configuration; a monitor without data begins anew."""
        monitors = cls(section)
        watching = monitors._watching
        monitors._watching = {
            name: type(each).from_dict(data[name]) if name in data else each for name, each in watching.items()
        }
        return monitors


def _alarms(texts: Mapping[str, str | None]) -> list[Alarm]:
    return [Alarm(name, text) for name, text in texts.items() if text is not None]
