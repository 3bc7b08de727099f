"""What all monitors share: a statistic's first and last values, and an alarm that fires once until it has recovered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean, variance
from typing import Any, ClassVar, NamedTuple, Self

from rlseq.config.rl import RLConfig

WINDOW = 10  # updates that are averaged, at the phase's start and now
RECOVERY = 50  # updates in a row that must find nothing before an alarm can fire again
ERRORS = 4.0  # a change within this many standard errors of it is noise


class Track(NamedTuple):
    """A statistic at the first ``WINDOW`` updates of a phase, and at the last ``WINDOW`` updates after these."""

    first: list[float]
    last: list[float]

    def add(self, value: float) -> None:
        """Take in the value of one more update."""
        if len(self.first) < WINDOW:
            self.first.append(value)
        else:
            self.last.append(value)
            del self.last[:-WINDOW]

    @property
    def full(self) -> bool:
        """Whether there is something to compare: from update 2 × ``WINDOW`` of the phase on."""
        return len(self.last) == WINDOW

    @property
    def start(self) -> float:
        """The mean at the phase's start."""
        return fmean(self.first)

    @property
    def now(self) -> float:
        """The mean over the last updates."""
        return fmean(self.last)

    @property
    def noise(self) -> float:
        """The change of the mean that chance may make: ``ERRORS`` standard errors of the difference of the means."""
        return ERRORS * math.sqrt((variance(self.first) + variance(self.last)) / WINDOW)

    def fell(self, level: float) -> bool:
        """Whether the mean is below ``level``, and below the start by more than noise."""
        return self.now < level and self.now < self.start - self.noise

    def rose(self, level: float) -> bool:
        """Whether the mean is above ``level``, and above the start by more than noise."""
        return self.now > level and self.now > self.start + self.noise


@dataclass
class Monitor:
    """Looks at statistics of updates or at validations, and says once what is wrong.

    An alarm fires again only after ``RECOVERY`` updates in a row, or one validation, found nothing.

    Attributes:
        name: In the configuration, in messages and in the tag ``monitor/<name>``.
        tags: The statistics it reads; it is silent in a phase that has not all of them.
        tracks: These statistics, by tag.
        firing: The alarm was given and has not recovered.
        quiet: Looks in a row that found nothing, while it is firing.
    """

    name: ClassVar[str]
    tags: ClassVar[tuple[str, ...]]

    tracks: dict[str, Track] = field(default_factory=dict)
    firing: bool = False
    quiet: int = 0

    @classmethod
    def watches(cls, config: RLConfig) -> bool:
        """Whether there is something to watch under this configuration."""
        return True

    def update(self, stats: Mapping[str, float]) -> str | None:
        """Take in the statistics of one update, by tag; the text of an alarm, if it fires now."""
        return self._once(self.look(), RECOVERY) if self._take(stats) else None

    def validation(self, metrics: Mapping[str, float], instances: int) -> str | None:
        """Take in the metrics of a validation over so many instances; the text of an alarm, if it fires now."""
        return None

    def look(self) -> str | None:
        """What the full tracks show to be wrong, with numbers, a meaning and a remedy; None if nothing is."""
        return None

    def read(self) -> tuple[Track, ...]:
        """The tracks in the order of ``tags``."""
        return tuple(self.tracks[tag] for tag in self.tags)

    def _take(self, stats: Mapping[str, float]) -> bool:
        """Add to the tracks; True if they are full."""
        if not all(tag in stats for tag in self.tags):
            return False
        for tag in self.tags:
            self.tracks.setdefault(tag, Track([], [])).add(stats[tag])
        return all(track.full for track in self.read())

    def _once(self, finding: str | None, recovery: int) -> str | None:
        """The finding, unless its alarm is firing already; ``recovery`` looks without one end the alarm."""
        if finding is not None:
            new, self.firing, self.quiet = not self.firing, True, 0
            return finding if new else None
        self.quiet += 1
        if not self.firing or self.quiet >= recovery:
            self.firing, self.quiet = False, 0
        return None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of ``to_dict``."""
        return cls(**data | {"tracks": {tag: Track(*values) for tag, values in data["tracks"].items()}})
