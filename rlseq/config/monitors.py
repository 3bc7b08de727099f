"""Which monitors watch the rl phase; docs/monitors.md says what each one sees."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rlseq.config.section import Section

MonitorName = Literal[
    "collapse",
    "length",
    "entropy",
    "diversity",
    "repetition",
    "truncation",
    "hacking",
    "baseline",
    "zero_advantage",
]


class MonitorsConfig(Section):
    """All monitors watch and warn; none stops the phase unless it is told to, since a warning can be wrong."""

    stop: tuple[MonitorName, ...] = ()  # monitors whose alarm ends rl; its best checkpoint is kept
    off: tuple[MonitorName, ...] = ()  # monitors that do not watch; without 'collapse' no validation comes early

    @model_validator(mode="after")
    def _apart(self) -> MonitorsConfig:
        if both := [name for name in self.stop if name in self.off]:
            raise ValueError(f"{', '.join(both)} is both in stop and in off: a monitor that is off never stops a phase")
        return self
