"""Where a run stands: verdicts, means, and nothing lost on the way through JSON."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import pytest

from rlseq.training.progress import Progress, best_validation
from rlseq.training.sweep import BestYet


def test_counters_and_means_by_hand() -> None:
    progress = Progress(update=100)
    progress.count({"train/loss": 1.0, "rollout/reward_mean": 0.5})
    progress.count({"train/loss": 4.0})
    assert (progress.update, progress.phase_update) == (102, 2)
    assert progress.take_means() == {"train/loss": 2.5, "rollout/reward_mean": 0.5}
    assert progress.take_means() == {}
    progress.skip(1)
    assert (progress.update, progress.phase_update) == (103, 3)


def test_rl_is_timed_in_units_of_the_mean_mle_update() -> None:
    progress = Progress()
    for seconds in (1.0, 3.0):
        progress.count(progress.timed(seconds))
    assert progress.mle_seconds == 2.0
    assert "time/rl_over_mle" not in progress.take_means()
    rl = Progress(phase="rl", mle_seconds=progress.mle_seconds)
    assert rl.timed(5.0) == {"time/rl_over_mle": 2.5}
    assert rl.mle_seconds == 2.0
    assert Progress(phase="rl").timed(5.0) == {}  # forked: this run has no mle update to compare with


def test_the_newest_of_the_largest_scores_is_best_and_the_first_always_is() -> None:
    progress = Progress()
    verdicts = []
    for update, score in enumerate([-math.inf, 3.0, 3.0, 2.0, 3.5]):
        progress.update = update
        verdicts.append(progress.judge(score))
        if verdicts[-1]:
            progress.best_metrics = {"accuracy": score}
    assert verdicts == [True, True, True, False, True]
    assert (progress.best, progress.best_update, progress.validations_without_best) == (3.5, 4, 0)


def test_nothing_is_lost_through_json() -> None:
    fresh = Progress()
    assert Progress.from_dict(json.loads(json.dumps(fresh.to_dict(), allow_nan=False))) == fresh
    used = Progress(
        phase="rl",
        update=30,
        phase_update=10,
        started=True,
        finished=True,
        best=0.1 + 0.2,
        best_update=25,
        best_metrics={"accuracy": 1 / 3},
        validations_without_best=2,
        recoveries=1,
        rate_scale=0.5**3,
    )
    used.count({"train/loss": 0.1})
    used.count({"train/loss": 0.2})
    again = Progress.from_dict(json.loads(json.dumps(used.to_dict())) | {"monitor": {}})
    assert again == used and again.take_means() == used.take_means()


@pytest.mark.parametrize(
    ("best", "metrics", "expected"),
    [
        (81.0, {"accuracy": 81.0, "reward": 0.5}, ("accuracy", 81.0)),
        (-3.5, {"reward": 0.5, "WER": 3.5}, ("WER", 3.5)),
        (-3.5, {"reward": None}, (None, -3.5)),
        (None, {}, (None, None)),
        (0.5, None, (None, 0.5)),
    ],
)
def test_the_best_validation_is_told_as_the_metric_has_it(best: Any, metrics: Any, expected: Any) -> None:
    assert best_validation({"best": best, "best_metrics": metrics}) == expected


def test_trials_are_compared_by_the_metric_of_the_phase_that_they_are_in() -> None:
    best, told = BestYet(), []
    for metric, value in (("accuracy", math.nan), ("accuracy", 90.0), ("accuracy", 80.0), ("WER", None), ("WER", 3.5)):
        best.add(metric, value)
        told.append((best.score, best.words))
    least = -sys.float_info.max
    assert told == [
        (least, "no accuracy"),
        (90.0, "accuracy 90.00"),
        (90.0, "accuracy 90.00"),
        (least, "no WER"),
        (-3.5, "WER 3.50"),
    ]
