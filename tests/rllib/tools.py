"""A tiny hull experiment, its updates, and comparisons."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import rlseq_envs
from rlseq.config.mle import MLEConfig
from rlseq.config.phases import Phase
from rlseq.config.rl import RLConfig
from rlseq.config.schema import ComputeConfig, Config
from rlseq.data.tasks import make_task
from rlseq.rllib.engine import RllibEngine
from rlseq.training.engine import Tensors, UpdateRequest
from rlseq.training.plain import PlainEngine
from rlseq_envs.env import SequenceVectorEnv
from rlseq_envs.settings import ConvexHullSettings, CustomTaskSettings
from rlseq_envs.task import Ints, Reward
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from tests.support import POINTER, policy_config

BATCH = 12
EVERYTHING: dict[str, Any] = {
    "samples": 2,
    "baseline": "greedy",
    "kl": 0.1,
    "cross_entropy": 0.1,
    "dropout": True,
    "temperature": 0.9,
}


def config(
    runners: int = 0,
    learners: int = 0,
    *,
    policy_dropout: float = 0.1,
    shard_size: int = 4,
    accumulation: int = 1,
    **rl: Any,
) -> Config:
    """Hulls of five points, a pointer network of 16 units, averaged weights in both phases."""
    phase: Any = {"updates": 9, "batch_size": BATCH, "average": 0.9, "accumulation": accumulation}
    return Config(
        name="tiny",
        task=ConvexHullSettings(type="convex_hull", min_points=5, max_points=5, reward={"edge_f1": 1.0}),
        policy=policy_config(POINTER, hidden_size=16, dropout=policy_dropout),
        mle=MLEConfig(**phase),
        rl=RLConfig(**phase, **rl),
        compute=ComputeConfig(runners=runners, learners=learners, shard_size=shard_size, device="cpu", timeout=120.0),
    )


def make_engine(experiment: Config) -> RllibEngine:
    return RllibEngine(experiment, make_task(experiment.task))


def make_plain(experiment: Config) -> PlainEngine:
    task = make_task(experiment.task)
    return PlainEngine(experiment, task, SequenceVectorEnv(task).rollout)


def requests(phase: Phase, first: int, count: int, rows: int = BATCH) -> list[UpdateRequest]:
    """Consecutive updates, each with instances, further draws and a learning rate of its own."""
    return [
        UpdateRequest(phase, i, i, ids(i, rows), 0.002 / (1 + i), spare=(ids(i + 1000, rows), ids(i + 2000, rows)))
        for i in range(first, first + count)
    ]


def ids(update: int, rows: int = BATCH) -> Ints:
    return np.arange(1000 + update * rows, 1000 + (update + 1) * rows, dtype=np.int64)


def both_phases(engine: RllibEngine | PlainEngine, mle: int = 4, rl: int = 4) -> list[dict[str, float]]:
    """Statistics of a short run."""
    statistics = engine.update(requests("mle", 0, mle))
    engine.start_phase("rl")
    return statistics + engine.update(requests("rl", mle, rl))


def without_times(statistics: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in statistics]


def assert_equal(ours: Tensors, theirs: Tensors, tolerance: float = 0.0) -> None:
    """The same names, and the same values to the bit or within an absolute tolerance."""
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=tolerance, err_msg=name)


def runner_pids(engine: RllibEngine) -> list[int]:
    pids: list[int] = engine.algorithm.env_runner_group.foreach_env_runner(lambda runner: os.getpid())
    return pids


def learner_states(engine: RllibEngine) -> list[Tensors]:
    group = engine.algorithm.learner_group
    states: list[Tensors] = group.ask("pack", [{}] * group.world)
    return states


def learner_pids(engine: RllibEngine) -> list[int]:
    return [result.get() for result in engine.algorithm.learner_group.foreach_learner(lambda learner: os.getpid())]


class BrokenTask(ConvexHullTask):
    """Cannot tell what a sequence is worth."""

    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        raise ZeroDivisionError("no reward today")


rlseq_envs.register("rlseq-tests/Broken-v0", BrokenTask)


def broken(experiment: Config) -> Config:
    task = CustomTaskSettings(type="custom", id="tests.rllib.tools:rlseq-tests/Broken-v0")
    return experiment.model_copy(update={"task": task})


def nan_rewards(task: ConvexHullTask) -> Callable[[Ints, Ints, Ints], Reward]:
    """The task's reward with NaN in the first row."""
    reward = task.reward

    def poisoned(sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        result = reward(sequences, lengths, ids)
        total: npt.NDArray[np.float64] = result.total.copy()
        total[0] = np.nan
        return Reward(total, result.components)

    return poisoned
