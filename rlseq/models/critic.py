"""The critic: what reward a decoder's state promises."""

from __future__ import annotations

from torch import Tensor, nn

from rlseq.config.baselines import CriticConfig


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
