"""From a task's settings to the task."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import gymnasium

from rlseq_envs import registration
from rlseq_envs.env import SequenceVectorEnv
from rlseq_envs.settings import TaskSettings
from rlseq_envs.task import SequenceTask, SplitName
from rlseq_envs.user_code import search_working_directory


def make_vector_env(settings: TaskSettings, artifacts: Path | None = None, num_envs: int = 1) -> SequenceVectorEnv:
    """The task's vector environment, made by Gymnasium from its registered id.

    Args:
        settings: Those of the task.
        artifacts: Directory of a checkpoint's or run's artifacts (a vocabulary). If it is None, empty, or missing as an
            empty one may be in a copy, they are built from the data.
        num_envs: Sub-environments, for stepping; ``rollout`` takes any number of sequences.
    """
    name, arguments = _registered(settings, artifacts)
    env = gymnasium.make_vec(name, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments)
    assert isinstance(env, SequenceVectorEnv)
    return env


def make_task(settings: TaskSettings, artifacts: Path | None = None) -> SequenceTask:
    """The task alone; see ``make_vector_env``, whose spaces are those of all data, which decoding does not need."""
    name, arguments = _registered(settings, artifacts)
    defaults = gymnasium.spec(name).kwargs
    if "task" not in defaults:  # an environment of the user's that finds its task itself
        return make_vector_env(settings, artifacts).task
    return registration.make_task(**{**defaults, **arguments})


def _registered(settings: TaskSettings, artifacts: Path | None) -> tuple[str, dict[str, Any]]:
    """An environment's id, its module imported, and its arguments."""
    name, arguments = settings.environment()
    if artifacts is not None and artifacts.is_dir() and any(artifacts.iterdir()):
        arguments["artifacts"] = str(artifacts)
    module, colon, name_within = name.partition(":")
    if not colon:
        return name, arguments
    search_working_directory()
    importlib.invalidate_caches()  # the file may have been written a moment ago
    importlib.import_module(module)
    return name_within, arguments


def held_out(task: SequenceTask) -> tuple[SplitName, int | None]:
    """The test split, or validation if the task has no test data; the first 10,000 instances of an endless one."""
    try:
        name: SplitName = "test"
        split = task.instances(name)
    except ValueError:
        name = "validation"
        split = task.instances(name)
    return name, 10_000 if split.size is None else None


def signature_difference(first: str, second: str) -> str:
    """The parts of two signatures that differ, one line each."""
    ours, theirs = first.split("|"), second.split("|")
    return "\n".join(
        [
            *(f"  - {part}" for part in ours if part not in theirs),
            *(f"  + {part}" for part in theirs if part not in ours),
        ]
    )
