"""What is subtracted from the rewards: one section a baseline, and what each demands of the other keys of rl.

A new baseline is a section here, a member of ``BaselineSection``, and a class in ``rlseq.objectives.baselines``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from pydantic import Field

from rlseq.config.section import BARE_WORD, Fraction, Section, UnitInterval, Width, unmet
from rlseq_envs.settings.rules import PositiveFloat

if TYPE_CHECKING:
    from rlseq.config.rl import RLConfig


class BaselineConfig(Section):
    """A baseline.

    Attributes:
        decodes_greedy: Whether it is made of the greedy sequences.
        compares_samples: Whether it is made of the rewards of an instance's samples.
        follows_rewards: Whether it is meant to follow the rewards as they change from update to update.
    """

    decodes_greedy: ClassVar[bool] = False
    compares_samples: ClassVar[bool] = False
    follows_rewards: ClassVar[bool] = False
    type: str

    def misfits(self, rl: RLConfig) -> list[str]:
        """What of the other keys does not go with the baseline, each with its remedy."""
        why = f"baseline {self.type!r} compares the samples of an instance"
        return unmet(why, {"samples to 2 or more": rl.samples >= 2 or not self.compares_samples})


class GreedyConfig(BaselineConfig):
    """The reward of the instance's greedy sequence."""

    decodes_greedy = True
    follows_rewards = True
    type: Literal["greedy"] = "greedy"


class NoBaselineConfig(BaselineConfig):
    """Nothing is subtracted."""

    type: Literal["none"] = "none"


class MeanConfig(BaselineConfig):
    """The mean over the instance's samples."""

    compares_samples = True
    type: Literal["mean"] = "mean"


class LeaveOneOutConfig(BaselineConfig):
    """The mean over the instance's other samples."""

    compares_samples = True
    type: Literal["leave_one_out"] = "leave_one_out"


class RunningMeanConfig(BaselineConfig):
    """The moving average of earlier updates' mean rewards."""

    follows_rewards = True
    type: Literal["running_mean"] = "running_mean"
    decay: Fraction = 0.95  # of the mean so far, at each update


class CriticConfig(BaselineConfig):
    """A network that predicts the reward to come at each token of a sequence, from the decoder's state before it."""

    type: Literal["critic"] = "critic"
    hidden_size: Width = 64  # of the critic's one layer
    weight: PositiveFloat = 0.5  # of its mean squared error beside the objective; no gradient reaches the policy
    # Rewards come token by token, as increments of what the task says the tokens so far are worth: their sum, and so
    # what is optimised, is the same. Otherwise all of it comes with the last token.
    shaped: bool = False
    # λ of generalised advantage estimation (Schulman et al. 2016): 1 compares the rewards to come with the critic's
    # prediction, which is unbiased; less trusts its later predictions in place of far rewards: less noise, its errors.
    gae_lambda: UnitInterval = 1.0

    def misfits(self, rl: RLConfig) -> list[str]:
        """See the base class."""
        wrong = unmet(
            "baseline 'critic' is known only where an update is done",
            {"normalize_advantage to 'none'": rl.normalize_advantage == "none"},
        )
        return wrong + unmet(
            "baseline 'critic' that is shaped hands out the task's rewards, not the shuffled ones",
            {"baseline.shaped to false": not self.shaped or rl.reward_source != "shuffled"},
        )


AnyBaseline = GreedyConfig | NoBaselineConfig | MeanConfig | LeaveOneOutConfig | RunningMeanConfig | CriticConfig
BaselineSection = Annotated[AnyBaseline, Field(discriminator="type"), BARE_WORD]
BASELINE_SECTIONS: tuple[type[BaselineConfig], ...] = get_args(AnyBaseline)
