"""What the trainer asks of whatever does the work: a plain loop, or RLlib."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rlseq.config.phases import Phase
from rlseq.training.rollout import Rollout, RolloutRequest
from rlseq_envs.task import Ints

Tensors = dict[str, npt.NDArray[Any]]  # "policy/…", "average/…", "reference/…", "optimizer/…"


class TrainingError(RuntimeError):
    """Training cannot go on: the message names the update and what went wrong.

    Attributes:
        go_on: The command that helps; None: none is known.
    """

    def __init__(self, message: str, go_on: str | None = None) -> None:
        super().__init__(message)
        self.go_on = go_on


class WorkersFailed(TrainingError):
    """What does the work is gone or faulty. Smaller steps would not help, and what was trained can still be saved."""


def not_finite(update: int, bad: dict[str, float], step: int = 0) -> str:
    """What a ``TrainingError`` says about statistics that are not finite, at an optimiser step of an update, from 0."""
    return f"update {update}: {bad} is not finite; no {'further ' if step else ''}step was taken"


def update_seed(seed: int, rank: int, update: int) -> int:
    """The seed of what an update draws beside samples: no state to save, and no two learners share dropout masks."""
    return int(np.random.SeedSequence((seed, rank, update)).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class UpdateRequest:
    """One update: an optimiser step, or the steps on one batch of rollouts.

    Attributes:
        phase: Whose objective.
        update: Number of the update in the whole run; seeds the samples and the dropout.
        phase_update: Number of the update in its phase, from 0.
        ids: (batch_size,) instances.
        learning_rate: Of its steps.
        baseline_state: What the baseline knows of earlier updates.
        spare: (batch_size,) instances of each further draw that dynamic sampling may make.
    """

    phase: Phase
    update: int
    phase_update: int
    ids: Ints
    learning_rate: float
    baseline_state: Mapping[str, float] = field(default_factory=dict)
    spare: tuple[Ints, ...] = ()


class Engine(Protocol):
    """Does updates and rollouts; holds weights, optimiser and moving average, and knows nothing of phases' ends."""

    def start_phase(self, phase: Phase) -> None:
        """A fresh optimiser and average for this phase; at ``rl`` the current weights become the KL reference."""

    def update(self, requests: list[UpdateRequest]) -> list[dict[str, float]]:
        """Do the steps in order; statistics of each by tag.

        Raises:
            TrainingError: A loss or gradient is not finite; the step was not taken.
            RewardError: A reward of the user's own failed; the step was not taken.
            GivenUp: A stop was asked for; the step was not taken.
        """

    def rollout(self, ids: Ints, decoding: RolloutRequest, *, averaged: bool) -> Rollout:
        """Decode and score, with the moving average of the weights if it is asked for and there is one."""

    def get_state(self) -> Tensors:
        """Everything that must be restored to continue exactly, under deterministic names."""

    def set_state(self, state: Tensors, phase: Phase) -> None:
        """Restore what ``get_state`` gave in this phase, on every worker, before returning."""

    def set_weights(self, weights: Tensors) -> None:
        """Replace the policy's weights alone (names without prefix)."""

    def close(self) -> None:
        """End what was started."""


def policy_weights(state: Tensors) -> Tensors:
    """The weights to decode with: the average if there is one, the policy's otherwise, without the prefix."""
    prefix = "average/" if any(name.startswith("average/") for name in state) else "policy/"
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def to_numpy(tensors: dict[str, Any], prefix: str) -> Tensors:
    """Copies of tensors as arrays, their names behind a prefix."""
    return {f"{prefix}/{name}": np.array(tensor.detach().cpu().numpy()) for name, tensor in tensors.items()}
