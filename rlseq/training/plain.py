"""The plain loop: rollout → reward → advantage → loss → step, on one page and in one process.

It does what the RLlib engine does with no runners and no learners, to the bit; tests hold the two together and the
benchmark measures what the framework adds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from rlseq.config.phases import Phase, PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.config.schema import Config
from rlseq.models.build import build_for_training
from rlseq.models.layers.linear import fast_matmul
from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy
from rlseq.models.spaces import TaskSpaces
from rlseq.objectives.distribution import SamplingDistribution
from rlseq.training.allocator import keep_freed_memory
from rlseq.training.batch import Batch, mle_batch, step_batches, to_tensors
from rlseq.training.draw import Drawn, draw
from rlseq.training.engine import Tensors, UpdateRequest, update_seed
from rlseq.training.prefetch import prefetched
from rlseq.training.rollout import Rollout, RolloutRequest, Score, rollout, shards
from rlseq.training.stopping import giving_up
from rlseq.training.trainee import Trainee
from rlseq.training.update import RESAMPLED, batch_loss, flat_gradient, gradient_variance, mean_statistics
from rlseq_envs.task import Ints, SequenceTask


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
        self.trainee = Trainee(build_for_training(config, TaskSpaces.of(task)).to(device), config)

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
        self.trainee.check(stats, request.update)
        sampled = time.perf_counter()
        self.trainee.policy.train(phase.uses_dropout)
        other = self._resampled_gradient(request, phase)
        torch.manual_seed(seed)
        first, *later = to_tensors(step_batches(drawn.batch, phase, seed), self.device)
        steps = [self._take_step(request, phase, first, drawn.memory, other)]
        for number, batch in enumerate(later, 1):
            steps.append(self._take_step(request, phase, batch, number=number))
        self.trainee.move_average(request.phase_update)
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
        batch: dict[str, torch.Tensor],
        memory: Memory | None = None,
        other: torch.Tensor | None = None,
        number: int = 0,
    ) -> dict[str, float]:
        """One optimiser step; only the first can use what the rollout encoded, and another batch's gradient."""
        parts, trainee = self._backward(phase, batch, memory), self.trainee
        if other is not None:
            parts["train/grad_variance"] = gradient_variance(flat_gradient(trainee.policy), other)
        parts["train/grad_norm"] = trainee.clip_gradients()
        stats = {name: float(value) for name, value in parts.items()}
        trainee.check(stats, request.update, number)
        trainee.step(request.learning_rate, request.update)
        return stats

    def _backward(
        self, phase: PhaseConfig, batch: dict[str, torch.Tensor], memory: Memory | None
    ) -> dict[str, torch.Tensor]:
        trainee, size = self.trainee, self.config.compute.shard_size
        trainee.forget_gradients()
        loss, parts = batch_loss(trainee.policy, trainee.anchor, batch, phase, memory, size)
        loss.backward()
        return parts

    def _resampled_gradient(self, request: UpdateRequest, phase: PhaseConfig) -> torch.Tensor | None:
        """The gradient of the same instances with other samples, if its variance is to be estimated."""
        if not isinstance(phase, RLConfig) or not phase.estimates_variance(request.phase_update):
            return None
        batch = self._draw(request, phase, with_graph=False, shift=RESAMPLED).batch
        torch.manual_seed(seed := update_seed(self.config.seed, 0, request.update))
        (first,) = to_tensors(step_batches(batch, phase, seed)[:1], self.device)
        self._backward(phase, first, None)
        gradient = flat_gradient(self.trainee.policy)
        self.trainee.forget_gradients()
        return gradient

    # ------------------------------------------------------------------------------------------- rollouts
    def rollout(self, ids: Ints, decoding: RolloutRequest, *, averaged: bool) -> Rollout:
        """See ``Engine.rollout``."""
        return self._roll_out(self.trainee.chosen(averaged), ids, decoding)

    def _draw(self, request: UpdateRequest, phase: RLConfig, with_graph: bool, shift: int = 0) -> Drawn:
        """What a request trains on; with a shift, other samples of the same instances."""

        def roll_out(ids: Ints, number: int) -> Rollout:
            decoding = RolloutRequest.for_update(phase, number, request.phase_update, with_graph)
            return self._roll_out(self.trainee.policy, ids, decoding)

        with giving_up():
            return draw(self.task, roll_out, request, phase, update_seed(self.config.seed, 0, request.update), shift)

    def _roll_out(self, policy: SequencePolicy, ids: Ints, decoding: RolloutRequest) -> Rollout:
        parts, distribution = shards(ids, self.config.compute.shard_size), SamplingDistribution.of(self.config.rl)
        seed, device = self.config.seed, self.device
        drawn = rollout(
            policy, self.task, self.score, parts, decoding, seed=seed, distribution=distribution, device=device
        )
        return Rollout.concatenate(drawn)

    # ---------------------------------------------------------------------------------------------- state
    def start_phase(self, phase: Phase) -> None:
        """See ``Engine.start_phase``."""
        self.trainee.start_phase(phase)

    def get_state(self) -> Tensors:
        """See ``Engine.get_state``."""
        return self.trainee.pack()

    def set_state(self, state: Tensors, phase: Phase) -> None:
        """See ``Engine.set_state``."""
        self.trainee.unpack(state, phase)

    def set_weights(self, weights: Tensors) -> None:
        """See ``Engine.set_weights``."""
        self.trainee.set_weights(weights)

    def close(self) -> None:
        """See ``Engine.close``."""
