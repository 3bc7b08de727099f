"""Controls: what a run would have come to without the reward, each made of keys that any run may set.

A second phase always trains longer than the first one alone. So a gain over it is the reward's only if it is also a
gain over these (Choshen et al. 2020; Kiegeland & Kreutzer 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlseq.config.objectives import MRTConfig
from rlseq.config.phases import Phase
from rlseq.config.schema import Config


@dataclass(frozen=True)
class Control:
    """One control.

    Attributes:
        phase: The phase that it trains: ``mle`` from scratch, or ``rl`` from the checkpoint that rl starts from.
        overrides: The keys that make it, from the configuration of the run that it controls.
        applies: Whether there is anything to control in that configuration.
    """

    phase: Phase
    overrides: Callable[[Config], list[str]]
    applies: Callable[[Config], bool] = lambda config: True


def _constant_reward(config: Config) -> list[str]:
    # Over any baseline, equal rewards leave nothing; and minimum risk, which compares candidates, would not move.
    objective = ["rl.objective=reinforce"] if isinstance(config.rl.objective, MRTConfig) else []
    alone = ["rl.reward_source=constant", "rl.baseline=none", "rl.normalize_advantage=none", "rl.dynamic_sampling=0"]
    return alone + objective


def _shuffled_reward(config: Config) -> list[str]:
    shaped = config.rl.critic is not None and config.rl.critic.shaped
    return ["rl.reward_source=shuffled", *(["rl.baseline.shaped=false"] if shaped else [])]


def _self_training(config: Config) -> list[str]:
    return [*_constant_reward(config), "rl.starts=policy", "rl.objective=self_training", "rl.samples=1"]


CONTROLS = {  # each beside the explanation of a gain that it rules out
    "equal_time": Control("mle", lambda config: ["rl.updates=0"]),  # it only trained longer
    "constant_reward": Control("rl", _constant_reward),  # sharpening the distribution was all it took
    "shuffled_reward": Control("rl", _shuffled_reward),  # any noise of this size does it
    "same_instances": Control(  # more of the same did it
        "rl", lambda config: ["rl.instances=train"], applies=lambda config: sees_others(config)
    ),
    "self_training": Control("rl", _self_training),  # new inputs did it, not the reward
}


def sees_others(config: Config) -> bool:
    """Whether rl may be trained on other instances than cross-entropy; of a user's task it is not known before."""
    return config.rl.instances == "task" and config.task.trains_rl_on_others
