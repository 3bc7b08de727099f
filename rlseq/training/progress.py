"""Where a run stands: everything a resumed trainer must know, JSON-ready."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rlseq.config.phases import Phase
from rlseq_envs.settings.metrics import signed


@dataclass
class Progress:
    """Counters and verdicts of the phase in progress.

    Attributes:
        phase: The phase.
        update: Updates done in the whole run.
        phase_update: Updates done in the phase.
        started: The phase has its optimiser and its first validation.
        finished: The phase is over.
        validating: A validation is due, or in progress.
        best: The best validation score of the phase: the metric, or minus it if less of it is better.
        best_update: The update it was reached at.
        best_metrics: All metrics of that validation.
        validations_without_best: Since then.
        recoveries: Times the phase went back to its best checkpoint.
        rate_scale: Factor on the learning rate, smaller after each recovery.
        mle_seconds: Seconds an instance of an mle update took, on average; 0 before there was one.
        sums: Per tag, the sum and the number of values since the last log line.
    """

    phase: Phase = "mle"
    update: int = 0
    phase_update: int = 0
    started: bool = False
    finished: bool = False
    validating: bool = False
    best: float = -math.inf
    best_update: int = -1
    best_metrics: dict[str, float] = field(default_factory=dict)
    validations_without_best: int = 0
    recoveries: int = 0
    rate_scale: float = 1.0
    mle_seconds: float = 0.0
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    def count(self, stats: dict[str, float]) -> None:
        """One update was done."""
        self.update += 1
        self.phase_update += 1
        for name, value in stats.items():
            total, number = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value, number + 1)

    def timed(self, seconds: float) -> dict[str, float]:
        """Take in the seconds an instance of one more update takes; what rl costs in units of mle, by tag."""
        if self.phase == "mle":
            self.mle_seconds += (seconds - self.mle_seconds) / (self.phase_update + 1)
        elif self.mle_seconds:
            return {"time/rl_over_mle": seconds / self.mle_seconds}
        return {}

    def skip(self, updates: int) -> None:
        """Pass over updates that could not be done, so that they are not tried again on the same instances."""
        self.update += updates
        self.phase_update += updates

    def take_means(self) -> dict[str, float]:
        """Means since the last call, by tag."""
        means = {name: total / number for name, (total, number) in self.sums.items()}
        self.sums = {}
        return means

    def judge(self, score: float) -> bool:
        """Take in a validation score; True when none of the phase was better: of equals, the newest is best."""
        improved = score > self.best or not self.best_metrics
        self.validations_without_best = 0 if improved else self.validations_without_best + 1
        if improved or score == self.best:
            self.best, self.best_update = score, self.update
            return True
        return False

    def forget_best(self) -> None:
        """The best is lost: validate now, and take what is there for the best."""
        self.best, self.best_update, self.best_metrics = -math.inf, -1, {}
        self.validating = True

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data; −∞ as None."""
        data = asdict(self)
        data["best"] = None if math.isinf(self.best) else self.best
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Progress:
        """The inverse of ``to_dict``; further keys are left alone."""
        known = {"validating": False} | {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known["best"] = -math.inf if data["best"] is None else data["best"]
        known["sums"] = {name: (total, number) for name, (total, number) in data["sums"].items()}
        return cls(**known)


def best_validation(trainer: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """The metric that picked a phase's best checkpoint, and its value there.

    Args:
        trainer: What a checkpoint says of its trainer, as ``to_dict`` made it; None stands for what it does not say.
    """
    best, metrics = trainer.get("best"), trainer.get("best_metrics")
    named = metrics.items() if isinstance(metrics, dict) and best is not None else ()
    metric = next((name for name, value in named if value is not None and signed(name, value) == best), None)
    return metric, best if metric is None or best is None else signed(metric, best)
