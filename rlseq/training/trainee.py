"""What an update changes, and all that is done with it once gradients are there."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlseq.config.phases import Phase, PhaseConfig
from rlseq.config.schema import Config
from rlseq.models.policy import SequencePolicy
from rlseq.training.engine import Tensors, TrainingError, not_finite, to_numpy
from rlseq.training.optimizer import build_optimizer, update_average


class Trainee:
    """A policy, the moving average of its weights, the anchor of its KL term, and its optimiser.

    Every engine trains one, so that steps and states are the same in all of them.

    Args:
        policy: Where it is to be trained.
        config: The experiment.

    Attributes:
        section: Of the phase that is trained.
        average: Holds the averaged weights; None if the phase keeps no average.
        anchor: The policy as it was when rl began; None if the phase does not keep near it.
    """

    section: PhaseConfig
    average: SequencePolicy | None
    anchor: SequencePolicy | None
    optimizer: torch.optim.Optimizer

    def __init__(self, policy: SequencePolicy, config: Config) -> None:
        self.policy, self.config = policy, config
        self.start_phase("mle")

    def start_phase(self, phase: Phase) -> None:
        """A fresh optimiser and average; at ``rl`` the current weights become the anchor's."""
        self.section = self.config.phase(phase)
        keeps_near = phase == "rl" and self.config.rl.kl
        self.anchor = copy.deepcopy(self.policy).eval() if keeps_near else None
        self.average = copy.deepcopy(self.policy).eval() if self.section.average else None
        self.optimizer = build_optimizer(self.policy.parameters(), self.section.optimizer)

    def chosen(self, averaged: bool) -> SequencePolicy:
        """The policy, or if asked for and there, its average."""
        return self.average if averaged and self.average is not None else self.policy

    # ----------------------------------------------------------------------------------------------- steps
    def clip_gradients(self) -> Tensor:
        """Clip the gradients by their global norm, in place; the norm before."""
        limit = self.section.optimizer.clip_norm
        return torch.nn.utils.clip_grad_norm_(self.policy.parameters(), math.inf if limit is None else limit)

    def check(self, stats: dict[str, float], update: int, step: int = 0) -> None:
        """Raises TrainingError, and forgets the gradients, if a statistic that led to them is not finite."""
        bad = {name: value for name, value in stats.items() if not math.isfinite(value)}
        if bad:
            self.forget_gradients()
            raise TrainingError(not_finite(update, bad, step))

    def step(self, learning_rate: float, update: int) -> None:
        """One optimiser step; raises TrainingError if it led to weights that are not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.forget_gradients()
        # Their 2-norm, which is not finite if one of them is not: the largest weight takes 40 times as long to find.
        norm = torch.nn.utils.get_total_norm([weight.detach() for weight in self.policy.parameters()])
        if not math.isfinite(norm):
            raise TrainingError(f"update {update}: its step led to weights that are not finite")

    def forget_gradients(self) -> None:
        """The next gradients are added to nothing."""
        self.optimizer.zero_grad(set_to_none=True)

    def move_average(self, phase_update: int) -> None:
        """Once an update, after its last step."""
        if self.average is not None:
            with torch.no_grad():
                averaged, current = list(self.average.parameters()), list(self.policy.parameters())
                update_average(averaged, current, self.section.average, phase_update)  # type: ignore[arg-type]

    # ----------------------------------------------------------------------------------------------- state
    def weights(self, averaged: bool) -> Tensors:
        """Copies of the weights to decode with."""
        return {name: np.array(value.cpu().numpy()) for name, value in self.chosen(averaged).state_dict().items()}

    def set_weights(self, weights: Tensors) -> None:
        """Weights of the policy alone."""
        self.policy.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})

    def pack(self) -> Tensors:
        """All that training goes on from: see ``Tensors`` for the names."""
        state: Tensors = {}
        for name, policy in self._policies():
            state |= to_numpy(policy.state_dict(), name)
        return state | optimizer_state(self.optimizer, self.policy)

    def unpack(self, state: Tensors, phase: Phase) -> None:
        """The inverse of ``pack``, for a phase. All is copied: learners of a node may be handed the same memory."""
        self.start_phase(phase)
        for name, policy in self._policies():
            policy.load_state_dict(with_prefix(state, name))
        load_optimizer_state(self.optimizer, self.policy, state)

    def _policies(self) -> list[tuple[str, SequencePolicy]]:
        named = (("policy", self.policy), ("average", self.average), ("reference", self.anchor))
        return [(name, policy) for name, policy in named if policy is not None]


def with_prefix(state: Tensors, prefix: str) -> dict[str, Tensor]:
    """The tensors under ``prefix``, copied, by their own names."""
    start = f"{prefix}/"
    return {n.removeprefix(start): torch.from_numpy(np.array(v)) for n, v in state.items() if n.startswith(start)}


def optimizer_state(optimizer: torch.optim.Optimizer, policy: torch.nn.Module) -> Tensors:
    """Adam's moments and step counts by parameter name: "optimizer/<parameter>/<exp_avg|exp_avg_sq|step>"."""
    return {
        f"optimizer/{name}/{key}": np.array(torch.as_tensor(value).detach().cpu().numpy())
        for name, parameter in policy.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, policy: torch.nn.Module, state: Tensors) -> None:
    """The inverse of ``optimizer_state``: values are copied, so no two optimisers share moments."""
    for name, parameter in policy.named_parameters():
        found: dict[str, Any] = with_prefix(state, f"optimizer/{name}")
        if found:
            device = {key: "cpu" if key == "step" and not parameter.is_cuda else parameter.device for key in found}
            optimizer.state[parameter] = {key: value.to(device[key]) for key, value in found.items()}
