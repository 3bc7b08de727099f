"""Every objective by its type in the configuration."""

from __future__ import annotations

from typing import Any

from rlseq.config.rl import RLConfig
from rlseq.objectives.base import Objective
from rlseq.objectives.mixer import Mixer
from rlseq.objectives.mrt import MinimumRisk
from rlseq.objectives.ppo import PPO
from rlseq.objectives.reinforce import Reinforce
from rlseq.objectives.self_training import SelfTraining

OBJECTIVES: dict[str, type[Objective[Any]]] = {
    "reinforce": Reinforce,
    "mixer": Mixer,
    "mrt": MinimumRisk,
    "ppo": PPO,
    "self_training": SelfTraining,
}


def build_objective(rl: RLConfig) -> Objective[Any]:
    """The objective of an rl section."""
    return OBJECTIVES[rl.objective.type](rl)
