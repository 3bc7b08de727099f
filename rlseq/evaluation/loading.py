"""From a checkpoint to a policy and its task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlseq.config.load import data_files_of, parse_config, with_data
from rlseq.config.schema import Config
from rlseq.data.tasks import make_task, signature_difference
from rlseq.evaluation.errors import EvaluationError
from rlseq.models.build import build_policy
from rlseq.models.policy import SequencePolicy
from rlseq.models.spaces import TaskSpaces
from rlseq.training.checkpoint import META, Checkpoint, CheckpointError, load_checkpoint, load_meta
from rlseq.training.finding import read_checkpoint, run_of
from rlseq.training.fitting import check_fit
from rlseq.training.trust import OWN, Trust, TrustError, code_of
from rlseq_envs.rewards.own import RewardError
from rlseq_envs.task import SequenceTask

NO_DATA: Mapping[str, Any] = {}


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy ready to decode, and what it was trained for.

    Attributes:
        policy: In evaluation mode, on ``device``.
        task: Made with the checkpoint's own artifacts.
        config: Of the run, with the places of data files that were given anew.
        meta: Of the checkpoint.
        checkpoint: The checkpoint's directory.
        device: Where the policy is.
        trust: What of the user's code may be executed.
    """

    policy: SequencePolicy
    task: SequenceTask
    config: Config
    meta: dict[str, Any]
    checkpoint: Path
    device: torch.device
    trust: Trust = OWN

    @property
    def name(self) -> str:
        """The unmistakable one of ``checkpoint_names``."""
        return checkpoint_names(self.checkpoint, self.meta)[-1]

    def check_reward(self) -> None:
        """Make sure that outputs can be scored, and by what the policy was trained for: decoding does without.

        Raises:
            TrustError: The reward is code that is not trusted.
            EvaluationError: A module of the user's is missing, or the task's reward is not that of the checkpoint.
        """
        self.trust.check(self.checkpoint, [named for named in code_of(self.config) if named.use == "score"])
        expected = self.meta["signature"]
        try:
            found = self.task.signature
        except RewardError as error:
            raise EvaluationError(f"{self.checkpoint} cannot score outputs: {error}") from error
        if found != expected:
            raise EvaluationError(
                f"{self.checkpoint} was trained for another task than its configuration makes today:\n"
                f"{signature_difference(expected, found)}\n"
                f"use the versions that wrote it: {json.dumps(self.meta.get('versions', {}))}"
            )


def checkpoint_names(directory: Path, meta: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a checkpoint may be called, from short to unmistakable: mle, mle-6000, hull-20260101-120000/mle-6000."""
    phase, update = str(meta["phase"]), f"{meta['phase']}-{meta['update']}"
    return phase, update, f"{(run_of(directory) or directory).name}/{update}"


def check_trust(paths: Iterable[Path], trust: Trust, data: Mapping[str, Any] = NO_DATA) -> None:
    """Refuse code that checkpoints name and that is not trusted: that of all of them, before any is loaded.

    Args:
        paths: As of ``load_policy``.
        trust: What may be executed.
        data: As of ``load_policy``.

    Raises:
        CheckpointError: There is no checkpoint, or it cannot be read.
        TrustError: Some code is not trusted; none of it was executed.
        ConfigError: A configuration cannot be used by this version.
    """

    def check(place: Path) -> None:
        config = parse_config(with_data(load_meta(place)["config"], data), str(place / META))
        trust.check(place, [named for named in code_of(config) if named.use != "train"])

    refused = []
    for path in paths:
        try:
            read_checkpoint(path, check)
        except TrustError as error:
            refused.append(str(error))
    if refused:
        raise TrustError("\n".join(refused))


def load_policy(
    path: Path | str,
    device: str = "cpu",
    *,
    trust: Trust = OWN,
    data: Mapping[str, Any] = NO_DATA,
    scores: bool = True,
) -> LoadedPolicy:
    """Load the policy of a checkpoint, or of a run directory's best checkpoint.

    Args:
        path: The checkpoint, the run, or one of the run's phases.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        trust: What of the code that it names may be executed.
        data: Data files of the task that lie elsewhere now, by key.
        scores: Whether outputs will be scored; without it the user's rewards and their modules are not needed.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        TrustError: It names code that is not trusted; none of it was executed.
        EvaluationError: The task's reward is not the one that the checkpoint was trained with.
        ConfigError: Its configuration cannot be used by this version.
    """
    loaded = read_checkpoint(Path(path), lambda place: _load(load_checkpoint(place), device, trust, data))
    if scores:
        loaded.check_reward()
    return loaded


def _load(checkpoint: Checkpoint, device: str, trust: Trust, data: Mapping[str, Any]) -> LoadedPolicy:
    config = parse_config(with_data(checkpoint.meta["config"], data), str(checkpoint.directory / META))
    trust.check(checkpoint.directory, [named for named in code_of(config) if named.use == "decode"])
    task = make_task(config.task, checkpoint.artifacts)
    spaces = _spaces(checkpoint, config, task)
    where = torch.device(
        "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    )
    if not config.policy.own_parts:  # without memory: the sizes of its configuration are to be those of its weights
        try:
            with torch.device("meta"):
                sketch = build_policy(config.policy, spaces)
        except RuntimeError as error:  # such sizes cannot even be counted
            raise CheckpointError(f"{checkpoint.directory / META}: no policy has such sizes ({error})") from error
        check_fit(checkpoint, sketch)
    policy = build_policy(config.policy, spaces)
    check_fit(checkpoint, policy)
    policy.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.weights.items()})
    return LoadedPolicy(policy.to(where).eval(), task, config, checkpoint.meta, checkpoint.directory, where, trust)


def _spaces(checkpoint: Checkpoint, config: Config, task: SequenceTask) -> TaskSpaces:
    """What the policy was made for. Reading all data for it would demand files that decoding does not need.

    Raises:
        CheckpointError: The task has other ones, such as another vocabulary.
    """
    spaces = TaskSpaces.from_dict(checkpoint.meta["spaces"])
    if data_files_of(config) and not any(checkpoint.artifacts.glob("*")):
        return spaces
    wrong = [
        f"the task's {key} is {value}, in {META} it is {was}"
        for key, value, was in TaskSpaces.of(task).differences(spaces)
    ]
    if wrong:
        raise CheckpointError("\n  ".join([f"checkpoint {checkpoint.directory} does not fit its task:", *wrong]))
    return spaces
