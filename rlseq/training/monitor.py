"""Notices a collapse between two validations, from the sampled rewards alone."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

WINDOW = 20  # updates whose rewards are averaged
FALL = 0.7  # a window's mean below this share of the best window's mean is suspicious
ERRORS = 3.0  # unless it is within this many standard errors of it


@dataclass
class CollapseMonitor:
    """Compares the mean sampled reward of the last updates with the best such mean.

    Attributes:
        recent: Rewards of the last ``WINDOW`` updates.
        best: The best mean of a full window.
        error: The standard error of that mean.
    """

    recent: list[float] = field(default_factory=list)
    best: float = 0.0
    error: float = 0.0

    def add(self, rewards: list[float]) -> None:
        """Take in the mean sampled reward of each new update."""
        self.recent = [*self.recent, *rewards][-WINDOW:]
        if len(self.recent) == WINDOW and self.level() > self.best:
            self.best, self.error = self.level(), statistics.stdev(self.recent) / math.sqrt(WINDOW)

    def level(self) -> float:
        """The mean over the window."""
        return sum(self.recent) / len(self.recent)

    def suspicious(self) -> bool:
        """Whether the window is full and fell clearly below the best one; never before a reward was positive."""
        return self.best > 0.0 and self.level() < min(FALL * self.best, self.best - ERRORS * self.error)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CollapseMonitor:
        """The inverse of ``to_dict``."""
        return cls(**data)
