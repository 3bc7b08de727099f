"""Has cross-entropy stopped improving, or would longer training bring what rl is about to be credited with?

The last validations of a decayed learning rate look flat even if a longer schedule would reach more. So the rule does
not look at a slope. It asks what the *last doubling of updates* brought: the best validation reward of the whole phase
less the best one of its first half. Cross-entropy is still rising if

* this gain is more than ``ERRORS`` standard errors of a validation's mean reward (one, if updates bring fresh
  instances: then nothing is learnt by heart, and the doubt is in favour of more updates), and
* it is more than ``LEAST_GAIN`` of what was left to the references' reward before, and
* the last quarter of the updates holds the best validation: a score that has passed its peak is not rising.

Fresh means that training instances are endless, or that the references' −log p is about the same in training and in
validation. Every validation sees the same instances, so the error of a difference is smaller than that of two samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ERRORS = 2.0  # standard errors that a gain must exceed if training instances come again
FRESH_ERRORS = 1.0  # and if they do not
LEAST_GAIN = 0.05  # of what was left to the references' reward
SAME_NLL = 1.1  # validation's −log p over training's, up to which nothing is learnt by heart
RUN_OUT = 0.1  # of the peak: a learning rate that has fallen below it


@dataclass(frozen=True)
class MleCurve:
    """The validations of the mle phase.

    Attributes:
        updates: Numbers of the updates validated after, ascending.
        rewards: Mean reward of greedy decoding at each.
        train_nll: Mean −log p of the training references over the last quarter of the updates, nats a token; NaN if it
            was not recorded.
        rate_left: The last learning rate over the largest one; NaN if it was not recorded.
    """

    updates: tuple[int, ...]
    rewards: tuple[float, ...]
    train_nll: float = math.nan
    rate_left: float = math.nan

    @property
    def last(self) -> int:
        """The last update that was validated."""
        return self.updates[-1]


@dataclass(frozen=True)
class MleTrend:
    """What the last doubling of updates brought.

    Attributes:
        updates: That the phase had.
        half: Best validation reward of the first half of the updates.
        best: Best validation reward of all.
        needed: The gain from ``half`` to ``best`` has to be more than this to count.
        fresh: Updates bring instances that were not trained on before.
        run_out: The learning rate had fallen below ``RUN_OUT`` of its peak.
        rising: Longer training can be expected to bring more.
    """

    updates: int
    half: float
    best: float
    needed: float
    fresh: bool
    run_out: bool
    rising: bool

    @property
    def gain(self) -> float:
        """From the first half to the end."""
        return self.best - self.half


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
    late = updates[-1] - (updates[-1] - updates[0]) / 4
    losses = [r["train/nll"] for r in mle if r["update"] > late and r.get("train/nll") is not None]
    rates = [r["train/learning_rate"] for r in mle if r.get("train/learning_rate") is not None]
    return MleCurve(
        tuple(updates),
        tuple(points[update] for update in updates),
        float(np.mean(losses)) if losses else math.nan,
        rates[-1] / max(rates) if any(rates) else math.nan,
    )


def mle_trend(curve: MleCurve, *, error: float, reference: float, endless: bool, validation_nll: float) -> MleTrend:
    """Judge a curve.

    Args:
        curve: Of the run that made the checkpoint.
        error: Standard error of a validation's mean reward.
        reference: Mean reward of the references.
        endless: The training split is endless.
        validation_nll: Mean −log p of the validation references, nats a token.
    """
    updates, rewards = np.array(curve.updates), np.array(curve.rewards)
    best_yet = np.maximum.accumulate(rewards)
    half = float(np.interp(curve.last / 2, updates, best_yet))
    fresh = endless or validation_nll <= SAME_NLL * curve.train_nll
    errors = FRESH_ERRORS if fresh else ERRORS
    needed = max(errors * error, LEAST_GAIN * (reference - half))
    best = float(best_yet[-1])
    at_the_end = updates[rewards.argmax()] > curve.last - (curve.last - updates[0]) / 4
    rising = bool(best - half > needed and at_the_end)
    return MleTrend(curve.last, half, best, needed, fresh, curve.rate_left <= RUN_OUT, rising)
