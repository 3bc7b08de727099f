"""The learner: one update of either phase on its share of the rows."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from rlseq.config.phases import Phase, PhaseConfig
from rlseq.models.linear import fast_matmul
from rlseq.models.policy import SequencePolicy
from rlseq.rllib.context import Share, WorkerContext, driver_device, guarded
from rlseq.rllib.module import Objective, SequenceModule
from rlseq.training.batch import Batch, mle_batch, split_batch
from rlseq.training.engine import Tensors, TrainingError, UpdateRequest, not_finite, to_numpy
from rlseq.training.optimizer import build_optimizer, update_average
from rlseq.training.plain import load_optimizer_state, optimizer_state, update_seed, with_prefix
from rlseq.training.prefetch import prefetched
from rlseq.training.update import flat_gradient, gradient_variance, mean_statistics

Statistics = dict[str, float]


class SequenceLearner(TorchLearner):
    """Does what ``PlainEngine`` does with a batch, through RLlib's update.

    RLlib's own gradient checks, schedules and metrics are replaced: a gradient that is not finite stops the training
    before the step, the learning rate comes with each request, and statistics are returned update by update.
    """

    context: WorkerContext
    average: SequencePolicy | None
    phase: Phase

    # ----------------------------------------------------------------------------------------- construction
    def build(self) -> None:
        """Build module and optimiser for the first phase."""
        self.context = self.config.context
        self.task = self.context.task()
        self.phase, self.average = "mle", None
        self._request: UpdateRequest | None = None
        self._statistics: list[Statistics] = []
        self._steps: list[Statistics] = []  # of the update in progress
        self._last = 1  # how many steps it has
        self._resampling = False  # a second batch is being read
        self._resampled: torch.Tensor | None = None  # its gradient
        self._references: Iterator[Batch] = iter(())
        if self.config.num_learners:
            torch.set_num_threads(self.context.threads)
        super().build()
        self.start_phase("mle")

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """The optimiser of the current phase."""
        parameters = self.get_parameters(self._module[module_id])
        optimizer = build_optimizer(parameters, self.section.optimizer)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=parameters)

    @property
    def _device(self) -> torch.device:
        """RLlib's choice for a learner of its own process; ours in the driver."""
        return self._chosen_device if self.config.num_learners else driver_device(self.context.config.compute.device)

    @_device.setter
    def _device(self, device: torch.device) -> None:
        self._chosen_device = device

    @property
    def policy(self) -> SequencePolicy:
        """The policy being trained."""
        return self._sequence_module.policy

    @property
    def section(self) -> PhaseConfig:
        """The current phase's section."""
        return self.context.config.phase(self.phase)

    @property
    def _sequence_module(self) -> SequenceModule:
        module: SequenceModule = self._module[DEFAULT_MODULE_ID].unwrapped()
        return module

    # ---------------------------------------------------------------------------------------------- updates
    def work(self, share: Share) -> list[Statistics]:
        """Do this learner's share of some updates; statistics of each, equal on all learners but for the loss parts.

        Raises:
            TrainingError: A loss or gradient is not finite; the step was not taken on any learner.
        """
        self._statistics = []
        to_read = share.requests if share.steps is None else []
        with fast_matmul(), prefetched(lambda request: self._own_rows(request, share), to_read) as self._references:
            self.update(training_data=TrainingData(data_iterators=[share]), _no_metrics_reduce=True)
        return self._statistics

    def _create_iterator_if_necessary(self, *, training_data: TrainingData, **kwargs: Any) -> Iterator[MultiAgentBatch]:
        share: Share = training_data.data_iterators[0]
        for request in share.requests:
            self._request, self._started = request, (time.perf_counter(), time.process_time())
            steps = [next(self._references)] if share.steps is None else share.steps
            self._count(steps)
            seed = update_seed(self.context.config.seed, share.rank, request.update)
            if share.resampled is not None:
                torch.manual_seed(seed)
                yield from self._resample(share.resampled)
            torch.manual_seed(seed)
            self._sequence_module.objective.memory = share.memory
            for step in steps:
                yield MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(self._to_tensors(step))}, max(1, self._tokens))

    def _count(self, steps: list[Batch]) -> None:
        """Note what an update is: its optimiser steps, and the tokens of an epoch."""
        self._steps, self._last = [], len(steps)
        epoch = steps[: self.section.minibatches]
        self._tokens = sum(int(step["target_lengths"].sum()) for step in epoch)
        self._reference_tokens = sum(int(step.get("reference_lengths", step["target_lengths"]).sum()) for step in epoch)

    def _resample(self, batch: Batch) -> Iterator[MultiAgentBatch]:
        """The second batch, whose gradient is kept and not followed."""
        self._resampling = True
        yield MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(self._to_tensors(batch))}, 1)
        self._resampling = False

    def _own_rows(self, request: UpdateRequest, share: Share) -> Batch:
        config = self.context.config  # one seed for all ranks: they take their shares of one batch
        seed = update_seed(config.seed, 0, request.update)
        batch = mle_batch(self.task, request.ids, config.mle, seed, request.phase_update)
        return split_batch(batch, share.world)[share.rank] if share.world > 1 else batch

    def _to_tensors(self, batch: Batch) -> dict[str, torch.Tensor]:
        # What Ray delivers is read-only shared memory, which torch must not alias.
        writable = {name: column if column.flags.writeable else column.copy() for name, column in batch.items()}
        return {name: torch.from_numpy(column).to(self._device) for name, column in writable.items()}

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss that the train forward computed."""
        self._parts = dict(fwd_out["parts"])
        loss: torch.Tensor = fwd_out["loss"]
        # Averaging the gradients tells all learners, so that none of them steps.
        return loss if math.isfinite(loss.item()) else loss * math.nan

    def postprocess_gradients(self, gradients_dict: dict[Any, Any]) -> dict[Any, Any]:
        """Clip by the global norm, in place; before that, compare with the gradient of a second batch."""
        if self._resampling:
            self._resampled = flat_gradient(self.policy)
            return gradients_dict
        if self._resampled is not None:
            self._parts["train/grad_variance"] = gradient_variance(flat_gradient(self.policy), self._resampled)
            self._resampled = None
        limit = self.section.optimizer.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), math.inf if limit is None else limit)
        self._parts["train/grad_norm"] = norm
        return gradients_dict

    def apply_gradients(self, gradients_dict: dict[Any, Any]) -> None:
        """Take the step, if all that led to it is finite; with the last of an update, move the average."""
        assert self._request is not None
        if self._resampling:
            self.get_optimizer().zero_grad(set_to_none=True)
            return
        stats = {name: float(value) for name, value in self._parts.items()}
        optimizer = self.get_optimizer()
        bad = {name: value for name, value in stats.items() if not math.isfinite(value)}
        if bad:
            optimizer.zero_grad(set_to_none=True)
            raise TrainingError(not_finite(self._request.update, bad, len(self._steps)))
        self._set_optimizer_lr(optimizer, self._request.learning_rate)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._steps.append(stats)
        if len(self._steps) == self._last:
            self._move_average(self._request.phase_update)
            self._statistics.append(mean_statistics(self._steps) | self._counts(self._request))

    def _counts(self, request: UpdateRequest) -> Statistics:
        return {
            "train/learning_rate": request.learning_rate,
            "tokens": float(self._tokens),
            "reference_tokens": float(self._reference_tokens),
            "seconds": time.perf_counter() - self._started[0],
            "worker_seconds": time.process_time() - self._started[1] if self.config.num_learners else 0.0,
        }

    def _move_average(self, phase_update: int) -> None:
        if self.average is not None:
            with torch.no_grad():
                ours, theirs = list(self.average.parameters()), list(self.policy.parameters())
                update_average(ours, theirs, self.section.average, phase_update)  # type: ignore[arg-type]

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """No schedule to advance: the learning rate comes with the request."""

    def _log_steps_trained_metrics(self, batch: MultiAgentBatch) -> None:
        """Counted by the driver; RLlib's lifetime counters cost more than a small update's optimiser step."""

    # ------------------------------------------------------------------------------------------------ state
    def start_phase(self, phase: Phase) -> None:
        """See ``Engine.start_phase``."""
        self.phase = phase
        for registry in (
            self._optimizer_parameters,
            self._named_optimizers,
            self._params,
            self._module_optimizers,
            self._optimizer_name_to_module,
        ):
            registry.clear()
        self.configure_optimizers_for_module(DEFAULT_MODULE_ID)
        self.average = copy.deepcopy(self.policy).eval() if self.section.average else None
        keeps_near = phase == "rl" and self.context.config.rl.kl
        reference = copy.deepcopy(self.policy).eval() if keeps_near else None
        self._sequence_module.objective = Objective(self.section, reference)

    def weights(self, averaged: bool) -> Tensors:
        """Copies of the policy's weights, or of their moving average where there is one."""
        policy = self.average if averaged and self.average is not None else self.policy
        return {name: np.array(value.detach().cpu().numpy()) for name, value in policy.state_dict().items()}

    def set_weights(self, weights: Tensors) -> None:
        """See ``Engine.set_weights``."""
        self.policy.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})

    def pack(self) -> Tensors:
        """See ``Engine.get_state``."""
        state = to_numpy(self.policy.state_dict(), "policy")
        for name, policy in self._companions():
            state |= to_numpy(policy.state_dict(), name)
        return state | optimizer_state(self.get_optimizer(), self.policy)

    def unpack(self, state: Tensors, phase: Phase) -> None:
        """See ``Engine.set_state``. All values are copied: learners of one node may be handed the same memory."""
        self.start_phase(phase)
        self.policy.load_state_dict(with_prefix(state, "policy"))
        for name, policy in self._companions():
            policy.load_state_dict(with_prefix(state, name))
        load_optimizer_state(self.get_optimizer(), self.policy, state)

    def _companions(self) -> list[tuple[str, SequencePolicy]]:
        reference = self._sequence_module.objective.reference
        pairs = (("average", self.average), ("reference", reference))
        return [(name, policy) for name, policy in pairs if policy is not None]

    # ----------------------------------------------------------------------------------------------- remote
    @guarded
    def ask(self, method: str, arguments: dict[str, Any]) -> Any:
        """Call a method for the driver; see ``guarded``."""
        return getattr(self, method)(**arguments)
