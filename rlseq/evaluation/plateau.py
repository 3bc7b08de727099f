"""Has cross-entropy stopped improving, or would longer training bring what rl is about to be credited with?

The last validations of a decayed learning rate look flat even if a longer schedule would reach more. Curves alone do
not tell a schedule that has run out from data that have nothing left to teach; whether instances come again does.

* If updates bring *fresh* instances, nothing is learnt by heart and more updates help for as long as the last doubling
  of them did. What counts is the gain of the second half: the best validation reward of all less the best one of the
  first half, as long as it is more than one standard error of a validation's mean reward.
* If instances come again, what they teach comes to an end, and only a rise that still lasts counts: the gain of the
  last quarter of the updates, more than two standard errors.

In both cases the gain has to be more than ``LEAST_GAIN`` of what was left to the references' reward before, and the
best validation has to lie in the last quarter: a score past its peak is not rising. Every validation sees the same
instances, so the error of a difference is smaller than that of two independent samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FRESH_ERRORS, ERRORS = 1.0, 2.0  # standard errors that a gain must exceed, with fresh instances and with others
LEAST_GAIN = 0.05  # of what was left to the references' reward
SAME_NLL = 1.1  # validation's −log p over training's, up to which nothing was learnt by heart
RUN_OUT = 0.1  # of the peak: a learning rate that has fallen below it


@dataclass(frozen=True)
class MleCurve:
    """The validations of the mle phase.

    Attributes:
        updates: Numbers of the updates validated after, ascending.
        rewards: Mean reward of greedy decoding at each.
        rate_left: The last learning rate over the largest one; NaN if it was not recorded.
    """

    updates: tuple[int, ...]
    rewards: tuple[float, ...]
    rate_left: float = math.nan


@dataclass(frozen=True)
class MleTrend:
    """What the last updates brought: the second half of them if instances are fresh, else the last quarter.

    Attributes:
        updates: That the phase had.
        before: Best validation reward before those updates.
        best: Best validation reward of all.
        needed: The gain from ``before`` to ``best`` has to be more than this to count.
        fresh: Updates bring instances that were not trained on before.
        run_out: The learning rate had fallen below ``RUN_OUT`` of its peak.
        rising: Longer training can be expected to bring more.
    """

    updates: int
    before: float
    best: float
    needed: float
    fresh: bool
    run_out: bool
    rising: bool

    @property
    def gain(self) -> float:
        """From ``before`` to ``best``."""
        return self.best - self.before


def mle_curve(records: Iterable[Mapping[str, Any]]) -> MleCurve | None:
    """The curve in the records of a metrics.jsonl; None if they hold fewer than three validations of mle.

    Args:
        records: Each with ``update``, ``phase``, and tags with their values.
    """
    mle = [record for record in records if record.get("phase") == "mle"]
    points = {int(r["update"]): float(r["eval/reward"]) for r in mle if r.get("eval/reward") is not None}
    if len(points) < 3:
        return None
    updates = sorted(points)
    rates = [r["train/learning_rate"] for r in mle if r.get("train/learning_rate") is not None]
    return MleCurve(
        tuple(updates),
        tuple(points[update] for update in updates),
        rates[-1] / max(rates) if any(rates) else math.nan,
    )


def mle_trend(curve: MleCurve, *, error: float, reference: float, fresh: bool) -> MleTrend:
    """Judge a curve.

    Args:
        curve: Of the run that made the checkpoint.
        error: Standard error of a validation's mean reward.
        reference: Mean reward of the references.
        fresh: Updates bring instances that were not trained on before.
    """
    updates, rewards = np.array(curve.updates), np.array(curve.rewards)
    best_yet, last = np.maximum.accumulate(rewards), curve.updates[-1]
    before = float(np.interp((0.5 if fresh else 0.75) * last, updates, best_yet))
    best = float(best_yet[-1])
    needed = max((FRESH_ERRORS if fresh else ERRORS) * error, LEAST_GAIN * (reference - before))
    at_the_end = updates[rewards.argmax()] > 0.75 * last
    return MleTrend(
        last, before, best, needed, fresh, curve.rate_left <= RUN_OUT, bool(best - before > needed and at_the_end)
    )
