"""The learner: one update of either phase on its part of the rows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from rlseq.config.phases import Phase
from rlseq.models.layers.linear import fast_matmul
from rlseq.rllib.context import Failure, LearnerJob, WorkerContext, driver_device, first_fault, guarded
from rlseq.rllib.module import LossContext, SequenceModule
from rlseq.training.batch import Batch, mle_batch, split_batch, to_tensors
from rlseq.training.engine import Tensors, UpdateRequest, update_seed
from rlseq.training.prefetch import prefetched
from rlseq.training.trainee import Trainee
from rlseq.training.update import flat_gradient, gradient_variance, mean_statistics

Statistics = dict[str, float]


class SequenceLearner(TorchLearner):
    """Does what ``PlainEngine`` does with a batch, through RLlib's update.

    RLlib's own gradient checks, schedules and metrics are replaced: a gradient that is not finite stops the training
    before the step, the learning rate comes with each request, and statistics are returned update by update.
    """

    context: WorkerContext

    # ----------------------------------------------------------------------------------------- construction
    def build(self) -> None:
        """Build module and optimiser for the first phase."""
        self.context = self.config.context
        self._request: UpdateRequest | None = None
        self._statistics: list[Statistics] = []
        self._steps: list[Statistics] = []  # of the update in progress
        self._last = 1  # how many steps it has
        self._resampling = False  # a second batch is being read
        self._resampled: torch.Tensor | None = None  # its gradient
        self._references: Iterator[Batch] = iter(())
        self._fault: Failure | None = None
        if self.config.num_learners:
            torch.set_num_threads(self.context.threads)
            self._fault = first_fault(("task", self._make_task), ("network", super().build))
        else:
            self._make_task()
            super().build()

    def _make_task(self) -> None:
        self.task = self.context.task()

    def find_fault(self) -> Failure | None:
        """Why there is no task or no network; None if there are both."""
        return self._fault

    @cached_property
    def trainee(self) -> Trainee:
        """What updates change; it is there once RLlib has built the module."""
        return Trainee(self._sequence_module.policy, self.context.config)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """The trainee's optimiser of the current phase."""
        parameters = self.get_parameters(self._module[module_id])
        self.register_optimizer(module_id=module_id, optimizer=self.trainee.optimizer, params=parameters)

    @property
    def _device(self) -> torch.device:
        """RLlib's choice for a learner of its own process; ours in the driver."""
        return self._chosen_device if self.config.num_learners else driver_device(self.context.config.compute.device)

    @_device.setter
    def _device(self, device: torch.device) -> None:
        self._chosen_device = device

    @property
    def _sequence_module(self) -> SequenceModule:
        module: SequenceModule = self._module[DEFAULT_MODULE_ID].unwrapped()
        return module

    # ---------------------------------------------------------------------------------------------- updates
    def work(self, job: LearnerJob) -> list[Statistics]:
        """Do this learner's part of some updates; statistics of each, equal on all learners but for the loss parts.

        Raises:
            TrainingError: A loss or gradient is not finite; the step was not taken on any learner.
        """
        self._statistics = []
        to_read = job.requests if job.steps is None else []
        with fast_matmul(), prefetched(lambda request: self._rows_of(request, job), to_read) as self._references:
            self.update(training_data=TrainingData(data_iterators=[job]), _no_metrics_reduce=True)
        return self._statistics

    def _create_iterator_if_necessary(self, *, training_data: TrainingData, **kwargs: Any) -> Iterator[MultiAgentBatch]:
        job: LearnerJob = training_data.data_iterators[0]
        for request in job.requests:
            self._request, self._started = request, (time.perf_counter(), time.process_time())
            steps = [next(self._references)] if job.steps is None else job.steps
            self._count(steps)
            seed = update_seed(self.context.config.seed, job.rank, request.update)
            if job.resampled is not None:
                torch.manual_seed(seed)
                yield from self._resample(job.resampled)
            torch.manual_seed(seed)
            self._sequence_module.loss_context.memory = job.memory
            for step in to_tensors(steps, self._device):
                self.trainee.forget_gradients()
                yield MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(step)}, max(1, self._tokens))

    def _count(self, steps: list[Batch]) -> None:
        """Note what an update is: its optimiser steps, and the tokens of an epoch."""
        self._steps, self._last = [], len(steps)
        epoch = steps[: self.trainee.section.minibatches]
        self._tokens = sum(int(step["target_lengths"].sum()) for step in epoch)
        self._reference_tokens = sum(int(step.get("reference_lengths", step["target_lengths"]).sum()) for step in epoch)

    def _resample(self, batch: Batch) -> Iterator[MultiAgentBatch]:
        """The second batch, whose gradient is kept and not followed."""
        self._resampling = True
        (tensors,) = to_tensors([batch], self._device)
        self.trainee.forget_gradients()
        yield MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(tensors)}, 1)
        self._resampling = False

    def _rows_of(self, request: UpdateRequest, job: LearnerJob) -> Batch:
        config = self.context.config  # one seed for all ranks: they take their parts of one batch
        seed = update_seed(config.seed, 0, request.update)
        batch = mle_batch(self.task, request.ids, config.mle, seed, request.phase_update)
        return split_batch(batch, job.world)[job.rank] if job.world > 1 else batch

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """The loss that the train forward computed."""
        self._parts = dict(fwd_out["parts"])
        loss: torch.Tensor = fwd_out["loss"]
        # Averaging the gradients tells all learners, so that none of them steps.
        return loss if math.isfinite(loss.item()) else loss * math.nan

    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> dict[Any, Any]:
        """Add to the gradients that the train forward may have left, of a step whose rows are read in parts."""
        loss_per_module[DEFAULT_MODULE_ID].backward()
        return {key: parameter.grad for key, parameter in self._params.items()}

    def postprocess_gradients(self, gradients_dict: dict[Any, Any]) -> dict[Any, Any]:
        """Clip by the global norm, in place; before that, compare with the gradient of a second batch."""
        policy = self.trainee.policy
        if self._resampling:
            self._resampled = flat_gradient(policy)
            return gradients_dict
        if self._resampled is not None:
            self._parts["train/grad_variance"] = gradient_variance(flat_gradient(policy), self._resampled)
            self._resampled = None
        self._parts["train/grad_norm"] = self.trainee.clip_gradients()
        return gradients_dict

    def apply_gradients(self, gradients_dict: dict[Any, Any]) -> None:
        """Take the step, if all that led to it is finite; with the last of an update, move the average."""
        assert self._request is not None
        if self._resampling:
            self.trainee.forget_gradients()
            return
        stats = {name: float(value) for name, value in self._parts.items()}
        self.trainee.check(stats, self._request.update, len(self._steps))
        self.trainee.step(self._request.learning_rate, self._request.update)
        self._steps.append(stats)
        if len(self._steps) == self._last:
            self.trainee.move_average(self._request.phase_update)
            self._statistics.append(mean_statistics(self._steps) | self._counts(self._request))

    def _counts(self, request: UpdateRequest) -> Statistics:
        return {
            "train/learning_rate": request.learning_rate,
            "tokens": float(self._tokens),
            "reference_tokens": float(self._reference_tokens),
            "seconds": time.perf_counter() - self._started[0],
            "worker_seconds": time.process_time() - self._started[1] if self.config.num_learners else 0.0,
        }

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """No schedule to advance: the learning rate comes with the request."""

    def _log_steps_trained_metrics(self, batch: MultiAgentBatch) -> None:
        """Counted by the driver; RLlib's lifetime counters cost more than a small update's optimiser step."""

    # ------------------------------------------------------------------------------------------------ state
    def start_phase(self, phase: Phase) -> None:
        """See ``Engine.start_phase``."""
        self.trainee.start_phase(phase)
        self._use_trainee()

    def _use_trainee(self) -> None:
        """Have RLlib step with the trainee's optimiser, and the module compute its phase's loss."""
        for registry in (
            self._optimizer_parameters,
            self._named_optimizers,
            self._params,
            self._module_optimizers,
            self._optimizer_name_to_module,
        ):
            registry.clear()
        self.configure_optimizers_for_module(DEFAULT_MODULE_ID)
        self._sequence_module.loss_context = LossContext(self.trainee.section, self.trainee.anchor)

    def weights(self, averaged: bool) -> Tensors:
        """Copies of the weights to decode with: the policy's, or their moving average if there is one."""
        return self.trainee.weights(averaged)

    def set_weights(self, weights: Tensors) -> None:
        """See ``Engine.set_weights``."""
        self.trainee.set_weights(weights)

    def pack(self) -> Tensors:
        """See ``Engine.get_state``."""
        return self.trainee.pack()

    def unpack(self, state: Tensors, phase: Phase) -> None:
        """See ``Engine.set_state``."""
        self.trainee.unpack(state, phase)
        self._use_trainee()

    # ----------------------------------------------------------------------------------------------- remote
    @guarded
    def ask(self, method: str, arguments: dict[str, Any]) -> Any:
        """Call a method for the driver; see ``guarded``."""
        return getattr(self, method)(**arguments)
