"""The plain loop: rollout → reward → advantage → loss → step, on one page and in one process.

It does what the RLlib engine does with no runners and no learners, to the bit; tests hold the two together and the
benchmark measures what the framework adds.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from rlseq.config.phases import Phase, PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.config.schema import Config
from rlseq.models.build import build_for_training
from rlseq.models.linear import fast_matmul
from rlseq.models.policy import Memory, SequencePolicy
from rlseq.models.shape import TaskShape
from rlseq.objectives.law import SamplingLaw
from rlseq.training.allocator import keep_freed_memory
from rlseq.training.batch import Batch, mle_batch, step_batches
from rlseq.training.draw import Drawn, draw
from rlseq.training.engine import Tensors, TrainingError, UpdateRequest, not_finite, to_numpy
from rlseq.training.optimizer import build_optimizer, update_average
from rlseq.training.prefetch import prefetched
from rlseq.training.rollout import Decoding, Rollout, Score, rollout, shards
from rlseq.training.update import RESAMPLED, batch_loss, flat_gradient, gradient_variance, mean_statistics
from rlseq_envs.task import Ints, SequenceTask


def update_seed(seed: int, rank: int, update: int) -> int:
    """The seed of what an update draws beside samples: no state to save, and no two learners share dropout masks."""
    return int(np.random.SeedSequence((seed, rank, update)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class PlainEngine:
    """The reference implementation of ``Engine``.

    Args:
        config: The experiment.
        task: Gives sources and references.
        score: The vector environment's ``rollout``.
        device: Where the policy lives.
    """

    def __init__(self, config: Config, task: SequenceTask, score: Score, device: str = "cpu") -> None:
        self.config, self.task, self.score, self.device = config, task, score, device
        keep_freed_memory()
        self.policy = build_for_training(config, TaskShape.of(task)).to(device)
        self.reference: SequencePolicy | None = None
        self.average: SequencePolicy | None = None
        self.start_phase("mle")

    # ---------------------------------------------------------------------------------------- one update
    def update(self, requests: list[UpdateRequest]) -> list[dict[str, float]]:
        """See ``Engine.update``."""
        mle = (request for request in requests if request.phase == "mle")
        with fast_matmul(), prefetched(self._read, mle) as references:
            return [self._step(request, self.config.phase(request.phase), references) for request in requests]

    def _read(self, request: UpdateRequest) -> Batch:
        seed = update_seed(self.config.seed, 0, request.update)
        return mle_batch(self.task, request.ids, self.config.mle, seed, request.phase_update)

    def _step(self, request: UpdateRequest, phase: PhaseConfig, references: Iterator[Batch]) -> dict[str, float]:
        started, cpu = time.perf_counter(), time.process_time()
        seed = update_seed(self.config.seed, 0, request.update)
        if isinstance(phase, RLConfig):
            drawn = self._draw(request, phase, phase.encodes_once)
        else:
            drawn = Drawn(next(references), {}, None)
        stats = drawn.stats
        self._check(stats, request.update)
        sampled = time.perf_counter()
        self.policy.train(phase.uses_dropout)
        other = self._resampled_gradient(request, phase)
        torch.manual_seed(seed)
        first, *later = step_batches(drawn.batch, phase, seed)
        steps = [self._take_step(request, phase, first, drawn.memory, other)]
        for number, batch in enumerate(later, 1):
            steps.append(self._take_step(request, phase, batch, number=number))
        self._move_average(request, phase)
        stats |= mean_statistics(steps)
        done = time.perf_counter()
        seconds = {"time/sample_frac": sampled - started, "time/update_frac": done - sampled}
        tokens = int(drawn.batch["target_lengths"].sum())
        stats |= {name: value / (done - started) for name, value in seconds.items()}
        stats |= {"time/tokens_per_sec": tokens / (done - started), "time/cpu_seconds": time.process_time() - cpu}
        return stats | {"train/learning_rate": request.learning_rate}

    def _take_step(
        self,
        request: UpdateRequest,
        phase: PhaseConfig,
        batch: Batch,
        memory: Memory | None = None,
        other: torch.Tensor | None = None,
        number: int = 0,
    ) -> dict[str, float]:
        """One optimiser step; only the first can use what the rollout encoded, and another batch's gradient."""
        parts = self._backward(phase, batch, memory)
        if other is not None:
            parts["train/grad_variance"] = gradient_variance(flat_gradient(self.policy), other)
        parts["train/grad_norm"] = self._clip(phase)
        stats = {name: float(value) for name, value in parts.items()}
        self._check(stats, request.update, number)
        for group in self.optimizer.param_groups:
            group["lr"] = request.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return stats

    def _backward(self, phase: PhaseConfig, batch: Batch, memory: Memory | None) -> dict[str, torch.Tensor]:
        tensors = {name: torch.from_numpy(column).to(self.device) for name, column in batch.items()}
        loss, parts = batch_loss(self.policy, self.reference, tensors, phase, memory, self.config.compute.shard_size)
        loss.backward()
        return parts

    def _resampled_gradient(self, request: UpdateRequest, phase: PhaseConfig) -> torch.Tensor | None:
        """The gradient of the same instances with other samples, where its variance is to be estimated."""
        if not isinstance(phase, RLConfig) or not phase.estimates_variance(request.phase_update):
            return None
        batch = self._draw(request, phase, with_graph=False, shift=RESAMPLED).batch
        torch.manual_seed(seed := update_seed(self.config.seed, 0, request.update))
        self._backward(phase, step_batches(batch, phase, seed)[0], None)
        gradient = flat_gradient(self.policy)
        self.optimizer.zero_grad(set_to_none=True)
        return gradient

    def _clip(self, phase: PhaseConfig) -> torch.Tensor:
        limit = phase.optimizer.clip_norm
        return torch.nn.utils.clip_grad_norm_(self.policy.parameters(), math.inf if limit is None else limit)

    def _check(self, stats: dict[str, float], update: int, step: int = 0) -> None:
        bad = {name: value for name, value in stats.items() if not math.isfinite(value)}
        if bad:
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingError(not_finite(update, bad, step))

    def _move_average(self, request: UpdateRequest, phase: PhaseConfig) -> None:
        if self.average is not None:
            with torch.no_grad():
                ours, theirs = list(self.average.parameters()), list(self.policy.parameters())
                update_average(ours, theirs, phase.average, request.phase_update)  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------------- rollouts
    def rollout(
        self, ids: Ints, *, num_samples: int, greedy: bool, update: int, averaged: bool, with_attention: bool = False
    ) -> Rollout:
        """See ``Engine.rollout``."""
        policy = self.average if averaged and self.average is not None else self.policy
        return self._roll_out(policy, ids, Decoding(num_samples, greedy, update, with_attention, score_greedy=True))

    def _draw(self, request: UpdateRequest, phase: RLConfig, with_graph: bool, shift: int = 0) -> Drawn:
        """What a request trains on; with a shift, other samples of the same instances."""

        def roll_out(ids: Ints, number: int) -> Rollout:
            decoding = Decoding.for_update(phase, number, request.phase_update, with_graph)
            return self._roll_out(self.policy, ids, decoding)

        return draw(self.task, roll_out, request, phase, update_seed(self.config.seed, 0, request.update), shift)

    def _roll_out(self, policy: SequencePolicy, ids: Ints, decoding: Decoding) -> Rollout:
        parts, law = shards(ids, self.config.compute.shard_size), SamplingLaw.of(self.config.rl)
        seed, device = self.config.seed, self.device
        drawn = rollout(policy, self.task, self.score, parts, decoding, seed=seed, law=law, device=device)
        return Rollout.concatenate(drawn)

    # ---------------------------------------------------------------------------------------------- state
    def start_phase(self, phase: Phase) -> None:
        """See ``Engine.start_phase``."""
        section = self.config.phase(phase)
        self.reference = copy.deepcopy(self.policy).eval() if phase == "rl" and self.config.rl.kl else None
        self.average = copy.deepcopy(self.policy).eval() if section.average else None
        self.optimizer = build_optimizer(self.policy.parameters(), section.optimizer)

    def get_state(self) -> Tensors:
        """See ``Engine.get_state``."""
        state = to_numpy(self.policy.state_dict(), "policy")
        for name, policy in (("average", self.average), ("reference", self.reference)):
            state |= to_numpy(policy.state_dict(), name) if policy is not None else {}
        return state | optimizer_state(self.optimizer, self.policy)

    def set_state(self, state: Tensors, phase: Phase) -> None:
        """See ``Engine.set_state``."""
        self.start_phase(phase)
        for name, policy in (("policy", self.policy), ("average", self.average), ("reference", self.reference)):
            if policy is not None:
                policy.load_state_dict(with_prefix(state, name))
        load_optimizer_state(self.optimizer, self.policy, state)

    def set_weights(self, weights: Tensors) -> None:
        """See ``Engine.set_weights``."""
        self.policy.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})

    def close(self) -> None:
        """See ``Engine.close``."""


def with_prefix(state: Tensors, prefix: str) -> dict[str, torch.Tensor]:
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
