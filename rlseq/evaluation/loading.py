"""From a checkpoint to a policy and its task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlseq.config.load import parse_config
from rlseq.config.schema import Config
from rlseq.data.tasks import make_task
from rlseq.evaluation.errors import EvaluationError
from rlseq.models.build import build_policy
from rlseq.models.policy import SequencePolicy
from rlseq.models.spaces import TaskSpaces
from rlseq.training.checkpoint import META, Checkpoint, CheckpointError, load_checkpoint
from rlseq.training.finding import read_checkpoint, run_of
from rlseq.training.fitting import check_fit
from rlseq_envs.task import SequenceTask


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy ready to decode, and what it was trained for.

    Attributes:
        policy: In evaluation mode, on ``device``.
        task: Made with the checkpoint's own artifacts.
        config: Of the run.
        meta: Of the checkpoint.
        checkpoint: The checkpoint's directory.
        device: Where the policy is.
    """

    policy: SequencePolicy
    task: SequenceTask
    config: Config
    meta: dict[str, Any]
    checkpoint: Path
    device: torch.device

    @property
    def name(self) -> str:
        """The unmistakable one of ``checkpoint_names``."""
        return checkpoint_names(self.checkpoint, self.meta)[-1]


def checkpoint_names(directory: Path, meta: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a checkpoint may be called, from short to unmistakable: mle, mle-6000, hull-20260101-120000/mle-6000."""
    phase, update = str(meta["phase"]), f"{meta['phase']}-{meta['update']}"
    return phase, update, f"{(run_of(directory) or directory).name}/{update}"


def load_policy(path: Path | str, device: str = "cpu") -> LoadedPolicy:
    """Load the policy of a checkpoint, or of a run directory's best checkpoint.

    Args:
        path: The checkpoint, the run, or one of the run's phases.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        EvaluationError: The task's reward is not the one that the checkpoint was trained with.
        ConfigError: Its configuration cannot be used by this version.
    """
    return read_checkpoint(Path(path), lambda place: _load(load_checkpoint(place), device))


def _load(checkpoint: Checkpoint, device: str) -> LoadedPolicy:
    config = parse_config(checkpoint.meta["config"], str(checkpoint.directory / META))
    task = _make_task(config, checkpoint)
    where = torch.device(
        "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    )
    if not config.policy.own_parts:  # without memory: the sizes of its configuration are to be those of its weights
        try:
            with torch.device("meta"):
                sketch = build_policy(config.policy, TaskSpaces.of(task))
        except RuntimeError as error:  # such sizes cannot even be counted
            raise CheckpointError(f"{checkpoint.directory / META}: no policy has such sizes ({error})") from error
        check_fit(checkpoint, sketch)
    policy = build_policy(config.policy, TaskSpaces.of(task))
    check_fit(checkpoint, policy)
    policy.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.weights.items()})
    return LoadedPolicy(policy.to(where).eval(), task, config, checkpoint.meta, checkpoint.directory, where)


def _make_task(config: Config, checkpoint: Checkpoint) -> SequenceTask:
    """The task, its signature compared with the checkpoint's."""
    task = make_task(config.task, checkpoint.artifacts)
    expected = checkpoint.meta["signature"]
    if task.signature != expected:
        raise EvaluationError(
            f"{checkpoint.directory} was trained for another task than its configuration makes today:\n"
            f"{signature_difference(expected, task.signature)}\n"
            f"use the versions that wrote it: {json.dumps(checkpoint.meta.get('versions', {}))}"
        )
    return task


def signature_difference(first: str, second: str) -> str:
    """The parts of two signatures that differ, one line each."""
    ours, theirs = first.split("|"), second.split("|")
    return "\n".join(
        [
            *(f"  - {part}" for part in ours if part not in theirs),
            *(f"  + {part}" for part in theirs if part not in ours),
        ]
    )
