"""The policy as RLlib sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.rllib.core.rl_module.torch import TorchRLModule

from rlseq.config.phases import PhaseConfig
from rlseq.models.build import build_for_training
from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy
from rlseq.rllib.context import WorkerContext
from rlseq.training.allocator import keep_freed_memory
from rlseq.training.update import batch_loss


@dataclass
class LossContext:
    """What the train forward minimises. No ``nn.Module``, so the anchor is no part of the module's parameters.

    Attributes:
        phase: The phase's section.
        anchor: The policy that the phase keeps near, if it does.
        memory: The batch's sources as a rollout in this process encoded them, with their graph. The learner puts it
            here, and the next forward takes it away; later ones encode anew.
    """

    phase: PhaseConfig
    anchor: SequencePolicy | None = None
    memory: Memory | None = None


class SequenceModule(TorchRLModule):
    """Wraps a ``SequencePolicy``; ``model_config`` is ``{"context": WorkerContext}``.

    The loss is part of the train forward, because data parallelism hooks into the outermost module's forward. Sequences
    are decoded by ``rlseq.training.rollout`` on ``policy`` and not by per-token forwards, and the module counts as
    stateless: the recurrence lives inside one forward.
    """

    policy: SequencePolicy
    loss_context: LossContext

    def setup(self) -> None:
        """Build the policy from the run's seed; every process that trains or samples does so."""
        keep_freed_memory()
        context: WorkerContext = self.model_config["context"]
        self.policy = build_for_training(context.config, context.spaces)
        self.loss_context = LossContext(context.config.mle)
        self.compute = context.config.compute

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The objective's loss and its parts: ``{"loss": scalar, "parts": {tag: scalar}}``."""
        phase = self.loss_context.phase
        self.policy.train(phase.uses_dropout)
        memory, self.loss_context.memory = self.loss_context.memory, None
        size, learners = self.compute.shard_size, max(1, self.compute.learners)
        loss, parts = batch_loss(self.policy, self.loss_context.anchor, batch, phase, memory, size, learners)
        return {"loss": loss, "parts": parts}

    def get_initial_state(self) -> dict[str, Any]:
        """Nothing: a state would switch RLlib to slicing batches by sequence."""
        return {}
