"""Self-training (He et al. 2020): cross-entropy on the policy's greedy outputs."""

from __future__ import annotations

from rlseq.config.objectives import SelfTrainingConfig
from rlseq.objectives.base import Objective


class SelfTraining(Objective[SelfTrainingConfig]):
    """Σ −log p of the greedy sequence: its reward is 1, and nothing is subtracted."""
