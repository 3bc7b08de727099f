"""From a configuration to a policy."""

from __future__ import annotations

import torch

from rlseq.config.schema import AttentionPolicyConfig, PolicyConfig
from rlseq.models.attention_policy import AttentionPolicy
from rlseq.models.pointer_policy import PointerPolicy
from rlseq.models.policy import SequencePolicy
from rlseq.models.shape import TaskShape


def build_policy(config: PolicyConfig, shape: TaskShape, seed: int = 0) -> SequencePolicy:
    """A freshly initialised policy; the same seed gives the same weights, whatever ran before.

    Raises:
        ValueError: The policy cannot do this task; the message names the key and the remedy.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(config, AttentionPolicyConfig):
            return AttentionPolicy(config, shape)
        return PointerPolicy(config, shape)
