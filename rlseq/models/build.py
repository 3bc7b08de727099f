"""From a configuration to a policy."""

from __future__ import annotations

import torch

from rlseq.config.schema import AttentionPolicyConfig, Config, PolicyConfig
from rlseq.models.attention_policy import AttentionPolicy
from rlseq.models.critic import Critic
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


def build_for_training(config: Config, shape: TaskShape) -> SequencePolicy:
    """The policy of an experiment with all that its training learns; raises as ``build_policy``."""
    policy = build_policy(config.policy, shape, config.seed)
    if config.mle.attention_regularization:
        policy.learn_attention_target()
    if config.rl.baseline == "critic":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            policy.critic = Critic(config.policy.hidden_size, config.rl.critic)
    return policy
