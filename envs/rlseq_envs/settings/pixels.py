"""The settings of the task of pictures, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from rlseq_envs.settings.base import Settings
from rlseq_envs.settings.rules import (
    File,
    Instances,
    Limit,
    NonNegativeFloat,
    Range,
    RewardName,
    Seconds,
    Seed,
    wrong_weights,
)
from rlseq_envs.spaces import Choices, Space

DIGIT = "digit"  # the field of a source, if there is one
PIXELS_REWARDS = ("digit", "match")
PixelsReward = Annotated[str, RewardName(PIXELS_REWARDS)]
Side = Annotated[int, Range(ge=4), Limit(128)]  # of a picture, in pixels
Units = Annotated[int, Range(gt=0), Limit(10**4)]


@dataclass(frozen=True, kw_only=True)
class PixelsSettings(Settings):
    """A picture of a digit in black and white, one pixel after the other; the digit is asked for, or nothing is."""

    env_id: ClassVar[str] = "rlseq/Pixels-v0"

    type: Literal["pixels"] = "pixels"
    file: File = None  # .npz of pictures to learn from; default: made digits
    sizes: tuple[Instances, Instances, Instances] = (20000, 1000, 1000)  # made digits to train, validate, evaluate on
    side: Side = 28  # height and width
    conditional: bool = True  # the source is the digit that is asked for; false: nothing
    reward: dict[PixelsReward, NonNegativeFloat] = field(default_factory=lambda: {"digit": 1.0})  # weights of the sum
    reward_timeout: Seconds = 60.0  # seconds that one call of a user's reward may take
    classifier_size: Units = 100  # hidden units of the classifier that the reward digit asks
    seed: Seed = 0  # of made digits, and of the classifier

    def conflicts(self) -> Iterator[str]:
        """See the base class."""
        yield from wrong_weights(self.reward, PIXELS_REWARDS)
        if "digit" in self.reward and not self.conditional:
            yield (
                "reward digit is the probability of the digit that is asked for, but conditional is false: "
                "set conditional to true, or reward to {match: 1.0}"
            )

    def outline(self) -> tuple[Mapping[str, Space], Choices]:
        """A digit or nothing in, black and white pixels out."""
        choices = Choices(self.side**2, 3, ends=False, columns=self.side)
        return {DIGIT: Space.of_tokens(11, 1)} if self.conditional else {}, choices
