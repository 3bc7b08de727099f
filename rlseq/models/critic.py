"""The critic: what reward a decoder's state promises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.config.schema import CriticConfig
from rlseq.models.policy import SequencePolicy

PREFIX = "critic."  # of its parameters among the policy's


class Critic(nn.Sequential):
    """One hidden layer over the decoder's states; the baseline of Ranzato et al. (2016, sec. 3.2) has none.

    The last layer begins at 0: until it is fitted, the critic predicts 0 and REINFORCE has no baseline.
    """

    def __init__(self, state_size: int, config: CriticConfig) -> None:
        super().__init__(nn.Linear(state_size, config.hidden_size), nn.Tanh(), nn.Linear(config.hidden_size, 1))
        for parameter in self[2].parameters():
            nn.init.zeros_(parameter)

    def forward(self, states: Tensor) -> Tensor:
        """Predicted rewards (N,) from states (N, state_size)."""
        values: Tensor = super().forward(states)
        return values[:, 0]


def without_critic(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What decoding needs of a policy's weights."""
    return {name: value for name, value in weights.items() if not name.startswith(PREFIX)}


def load_weights(policy: SequencePolicy, weights: dict[str, Tensor]) -> None:
    """Load a policy's weights; its critic keeps its own where ``weights`` were trained without one."""
    kept = {name: value for name, value in policy.state_dict().items() if name.startswith(PREFIX)}
    found = weights if kept else without_critic(weights)
    policy.load_state_dict(kept | found)


def idle(critic: nn.Module) -> Tensor:
    """0 with a gradient of 0: data-parallel learners wait for a gradient of every parameter, in each phase."""
    return torch.stack([parameter.sum() for parameter in critic.parameters()]).sum() * 0.0
