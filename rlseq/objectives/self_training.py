"""Self-training (He et al. 2020): cross-entropy on the policy's greedy outputs."""

from __future__ import annotations

from torch import Tensor

from rlseq.config.objectives import SelfTrainingConfig
from rlseq.objectives.base import Objective, Scored, Statistics


class SelfTraining(Objective[SelfTrainingConfig]):
    """Σ −log p of the greedy sequence: its reward is 1, and nothing is subtracted."""

    def loss(self, scored: Scored, weights: Tensor) -> tuple[Tensor, Statistics]:
        """See the base class."""
        return scored.weighted_nll(weights), {}
