"""The user's rewards and networks in workers: as in the driver, and told at once if they fail or are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq.config.errors import UserError
from rlseq.config.schema import Config
from rlseq.rllib.engine import RllibEngine
from rlseq.rllib.luggage import Luggage
from rlseq.training.rollout import RolloutRequest
from rlseq_envs.rewards.own import RewardError
from rlseq_envs.settings import ConvexHullSettings, CustomTaskSettings
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from tests.models.toys import MatrixDecoder, MeanEncoder, own
from tests.rllib.tools import config, ids, make_engine, requests
from tests.support import POINTER, policy_config


def with_reward(experiment: Config, **weights: float) -> Config:
    named = {f"tests.rllib.own_rewards:{name}" if name != "valid" else name: w for name, w in weights.items()}
    task = ConvexHullSettings(type="convex_hull", min_points=5, max_points=5, reward=named)
    return experiment.model_copy(update={"task": task})


def drawn(engine: RllibEngine) -> Any:
    return engine.rollout(ids(3), RolloutRequest(2, True, 3), averaged=False)


def test_runners_reward_as_the_driver_does(ray_cluster: None) -> None:
    engine = make_engine(with_reward(config(1), valid=1.0, share=0.5))
    try:
        ours, theirs = drawn(engine), drawn(make_engine(with_reward(config(), valid=1.0, share=0.5)))
    finally:
        engine.close()
    assert list(ours.components) == ["valid", "share"] and ours.components["share"].any()
    np.testing.assert_array_equal(ours.rewards, theirs.rewards)


def test_runners_and_learners_have_the_users_network(ray_cluster: None) -> None:
    parts = {"encoder": own(MeanEncoder), "decoder": own(MatrixDecoder)}
    network = policy_config(POINTER | parts, hidden_size=8, dropout=0.0)
    ours, theirs = (
        make_engine(config(runners, learners).model_copy(update={"policy": network}))
        for runners, learners in ((1, 2), (0, 0))
    )
    try:
        for engine in (ours, theirs):
            engine.update(requests("mle", 0, 1))
        found, expected = drawn(ours), drawn(theirs)
    finally:
        ours.close()
    np.testing.assert_array_equal(found.sequences, expected.sequences)


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


@pytest.mark.parametrize(
    ("kind", "workers", "who"),
    [
        ("reward", (1, 0), "an environment runner cannot start"),
        ("task", (1, 0), "an environment runner cannot start"),
        ("network", (1, 0), "an environment runner cannot start"),
        ("task", (0, 1), "learner 0"),
        ("network", (0, 2), "learner 0"),
    ],
)
def test_what_workers_cannot_import_is_told_at_once(
    kind: str,
    workers: tuple[int, int],
    who: str,
    ray_cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A module that the driver finds, and that was not sent, as if it were installed there alone."""
    monkeypatch.setattr(Luggage, "of", lambda *arguments: Luggage({}, {}))
    code = "from tests.models.toys import MatrixDecoder\ndef worth(*columns): raise NotImplementedError\n"
    (tmp_path / "driver_only.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    experiment = config(*workers)
    if kind == "reward":
        hulls = ConvexHullSettings(type="convex_hull", reward={"driver_only:worth": 1.0})
        experiment = experiment.model_copy(update={"task": hulls})
    elif kind == "network":
        decoder = {"type": "own", "class": "driver_only:MatrixDecoder"}
        network = policy_config(POINTER | {"decoder": decoder}, hidden_size=8)
        experiment = experiment.model_copy(update={"policy": network})
    else:
        custom = CustomTaskSettings(type="custom", id="driver_only:mine/Task-v0")
        experiment = experiment.model_copy(update={"task": custom})
    with pytest.raises(UserError, match=rf"{who}: .*[Nn]o module (named )?'driver_only'"):
        RllibEngine(experiment, ConvexHullTask(min_points=5, max_points=5))  # it is the worker that has to import
