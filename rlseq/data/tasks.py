"""From a task's configuration to the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium

from rlseq.config.schema import CustomTaskConfig, TaskConfig
from rlseq_envs.env import SequenceVectorEnv
from rlseq_envs.task import SequenceTask

ENVIRONMENTS = {
    "convex_hull": "rlseq_envs:rlseq/ConvexHull-v0",
    "translation": "rlseq_envs:rlseq/Translation-v0",
}


def make_vector_env(config: TaskConfig, artifacts: Path | None = None, num_envs: int = 1) -> SequenceVectorEnv:
    """The task's vector environment, made by Gymnasium from its registered id.

    Args:
        config: The task's section.
        artifacts: Directory of a checkpoint's or run's artifacts (a vocabulary); None builds them from the data.
        num_envs: Sub-environments, for stepping; ``rollout`` takes any number of sequences.
    """
    arguments: dict[str, Any]
    if isinstance(config, CustomTaskConfig):
        name, arguments = config.id, dict(config.arguments)
    else:
        name, arguments = ENVIRONMENTS[config.type], config.model_dump(exclude={"type"})
    if artifacts is not None:
        arguments["artifacts"] = str(artifacts)
    env = gymnasium.make_vec(name, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments)
    assert isinstance(env, SequenceVectorEnv)
    return env


def make_task(config: TaskConfig, artifacts: Path | None = None) -> SequenceTask:
    """The task behind the environment; see ``make_vector_env``."""
    return make_vector_env(config, artifacts).task
