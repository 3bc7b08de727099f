"""What travels between the driver and its workers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from traceback import format_exc
from typing import Any
from weakref import WeakValueDictionary

import torch

from rlseq.config.errors import UserError
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.models.memory import Memory
from rlseq.models.spaces import TaskSpaces
from rlseq.rllib import cluster
from rlseq.rllib.luggage import Luggage
from rlseq.training.batch import Batch
from rlseq.training.engine import TrainingError, UpdateRequest, WorkersFailed
from rlseq.training.remedies import is_out_of_memory
from rlseq_envs.env import SequenceVectorEnv
from rlseq_envs.rewards.own import RewardError
from rlseq_envs.task import SequenceTask

# Tasks of this process. The driver's own is lent to workers that live in the driver; other processes make theirs.
_TASKS: WeakValueDictionary[str, SequenceTask] = WeakValueDictionary()


@dataclass(frozen=True)
class WorkerContext:
    """What every worker is built from. It is copied and pickled often, so it holds no arrays and no task.

    Attributes:
        config: The experiment.
        spaces: Those of its task.
        threads: Torch threads of a worker process.
        luggage: Files that worker processes need, as ``cluster.publish`` names them; None: there are no such workers.
        data: What the task shares, as ``cluster.publish`` names it; None has workers read by themselves.
        key: Names the task among those of a process.
    """

    config: Config
    spaces: TaskSpaces
    threads: int = 1
    luggage: bytes | None = None
    data: bytes | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def lend(self, task: SequenceTask) -> None:
        """Let workers of this process use ``task``, for as long as somebody holds it."""
        _TASKS[self.key] = task

    def task(self) -> SequenceTask:
        """The task, made now unless this process has it; keep the reference."""
        task = _TASKS.get(self.key)
        if task is None:
            task = _TASKS[self.key] = self.vector_env().task
        return task

    def vector_env(self) -> SequenceVectorEnv:
        """The task's registered vector environment, made anew."""
        luggage: Luggage | None = None if self.luggage is None else cluster.published(self.luggage)
        env = make_vector_env(self.config.task, luggage.unpack(self.key) if luggage else None)
        if self.data is not None:
            env.task.use_shared_data(cluster.published(self.data))
        return env


def driver_device(device: str) -> torch.device:
    """Where work in the driver is done; ``auto`` takes a GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


@dataclass(frozen=True)
class LearnerJob:
    """What one learner is to do.

    Attributes:
        requests: The updates, in order.
        rank: Of the learner.
        world: How many learners there are.
        steps: Its rows of what each optimiser step of the only update trains on; None has it read its rows of the
            references by itself.
        memory: The batch's sources as a rollout in the same process encoded them, with their graph.
        resampled: Its rows of the first step with other samples, for the gradient's variance.
    """

    requests: list[UpdateRequest]
    rank: int
    world: int
    steps: list[Batch] | None = None
    memory: Memory | None = None
    resampled: Batch | None = None


@dataclass(frozen=True)
class Failure:
    """What a worker returns in place of an exception, which RLlib would answer by ending the worker.

    Attributes:
        message: For the user; with a traceback where the cause is a fault and not the training.
        kind: What it is raised as in the driver.
    """

    message: str
    kind: type[Exception] = TrainingError

    def raise_error(self, where: str) -> None:
        """Raise it in the driver."""
        raise self.kind(f"{where}{self.message}")


def first_fault(*steps: tuple[str, Callable[[], Any]]) -> Failure | None:
    """Make things in order until one cannot be made; raised, that would end a worker before it can tell why.

    Args:
        steps: What is made, as the user is told, and what makes it.
    """
    for what, make in steps:
        try:
            make()
        except Exception as error:
            return Failure(f"its {what} cannot be made there: {type(error).__name__}: {error}", UserError)
    return None


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a worker's method return a ``Failure`` instead of raising."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except (TrainingError, RewardError) as error:
            return Failure(str(error), type(error))
        except Exception as error:
            if is_out_of_memory(error):
                return Failure(str(error), MemoryError)
            return Failure(f"\n{format_exc()}", WorkersFailed)

    return call
