"""Registration of tasks as Gymnasium environments, single and vector, and construction of tasks by name.

Importing this module registers the tasks of this package.
"""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium

from rlseq_envs.settings import (
    CaptionSettings,
    ConvexHullSettings,
    PixelsSettings,
    SpeechSettings,
    StorySettings,
    TapeSettings,
    TranslationSettings,
)
from rlseq_envs.task import SequenceTask

TaskLike = SequenceTask | type[SequenceTask] | str


def register(id: str, task: type[SequenceTask] | str, **arguments: Any) -> None:
    """Register a task under an environment id, for ``gymnasium.make`` and ``gymnasium.make_vec``.

    Args:
        id: The environment's id, such as ``"mine/Sorting-v0"``.
        task: The task's class, or ``"module:Class"``, which is imported when an environment is made.
        **arguments: Defaults for the task's constructor; what is given to ``make`` takes precedence.
    """
    gymnasium.register(
        id=id,
        entry_point="rlseq_envs.env:SequenceEnv",
        vector_entry_point="rlseq_envs.env:SequenceVectorEnv",
        kwargs={"task": task, **arguments},
    )


def make_task(task: TaskLike, **arguments: Any) -> SequenceTask:
    """Construct a task from its class or its name ``"module:Class"``; a task already made is passed through.

    Raises:
        ValueError: There is no such class, it is no task, or arguments were given for a task already made.
    """
    if isinstance(task, SequenceTask):
        if arguments:
            raise ValueError(f"{type(task).__name__} is made already; drop the arguments {', '.join(arguments)}")
        return task
    kind = _find_class(task) if isinstance(task, str) else task
    if not (isinstance(kind, type) and issubclass(kind, SequenceTask)):
        raise ValueError(f"{task!r} is no subclass of rlseq_envs.task.SequenceTask")
    return kind(**arguments)


def _find_class(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"task {name!r}: give it as 'module:Class'")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as problem:
        raise ValueError(f"task {name!r} cannot be found: {problem}") from problem


register(ConvexHullSettings.env_id, "rlseq_envs.tasks.convex_hull:ConvexHullTask")
register(TranslationSettings.env_id, "rlseq_envs.tasks.translation:TranslationTask")
register(TapeSettings.env_id, "rlseq_envs.tasks.tape:TapeTask")
register(StorySettings.env_id, "rlseq_envs.tasks.story:StoryTask")
register(CaptionSettings.env_id, "rlseq_envs.tasks.caption:CaptionTask")
register(SpeechSettings.env_id, "rlseq_envs.tasks.speech:SpeechTask")
register(PixelsSettings.env_id, "rlseq_envs.tasks.pixels:PixelsTask")
