"""Rewards of the user's own in runners: the same as in the driver, and told at once where they fail or are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq.config.errors import UserError
from rlseq.config.schema import Config
from rlseq.rllib.engine import RllibEngine
from rlseq_envs.rewards.own import RewardError
from rlseq_envs.settings import ConvexHullSettings, CustomTaskSettings
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from tests.rllib.tools import config, ids, make_engine, requests


def with_reward(experiment: Config, **weights: float) -> Config:
    named = {f"tests.rllib.own_rewards:{name}" if name != "valid" else name: w for name, w in weights.items()}
    task = ConvexHullSettings(type="convex_hull", min_points=5, max_points=5, reward=named)
    return experiment.model_copy(update={"task": task})


def drawn(engine: RllibEngine) -> Any:
    return engine.rollout(ids(3), num_samples=2, greedy=True, update=3, averaged=False)


def test_runners_reward_as_the_driver_does(ray_cluster: None) -> None:
    engine = make_engine(with_reward(config(1), valid=1.0, share=0.5))
    try:
        ours, theirs = drawn(engine), drawn(make_engine(with_reward(config(), valid=1.0, share=0.5)))
    finally:
        engine.close()
    assert list(ours.components) == ["valid", "share"] and ours.components["share"].any()
    np.testing.assert_array_equal(ours.rewards, theirs.rewards)


def test_one_that_fails_in_a_runner_is_named_and_ends_the_update(ray_cluster: None) -> None:
    engine = make_engine(with_reward(config(1), fails=1.0))
    engine.start_phase("rl")
    message = (
        "update 6: an environment runner failed: task.reward: tests.rllib.own_rewards:fails raised ZeroDivisionError"
    )
    try:
        with pytest.raises(RewardError, match=message):
            engine.update(requests("rl", 6, 1))
        assert engine.algorithm.env_runner_group.num_healthy_remote_env_runners() == 1
    finally:
        engine.close()


@pytest.mark.parametrize("kind", ["reward", "task"])
def test_what_runners_cannot_import_is_told_at_once(
    kind: str, ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that the driver finds, where the workers, started before, do not look."""
    (tmp_path / "driver_only.py").write_text("def worth(*columns): raise NotImplementedError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    experiment = config(1)
    if kind == "reward":
        hulls = ConvexHullSettings(type="convex_hull", reward={"driver_only:worth": 1.0})
        experiment = experiment.model_copy(update={"task": hulls})
    else:
        custom = CustomTaskSettings(type="custom", id="driver_only:mine/Task-v0")
        experiment = experiment.model_copy(update={"task": custom})
    with pytest.raises(UserError, match=r"an environment runner cannot start: .*[Nn]o module (named )?'driver_only'"):
        RllibEngine(experiment, ConvexHullTask(min_points=5, max_points=5))  # it is the runner that has to import
