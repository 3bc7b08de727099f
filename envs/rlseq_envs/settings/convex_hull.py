"""The settings of the convex hull task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from rlseq_envs.settings.base import Settings
from rlseq_envs.settings.rules import (
    File,
    Instances,
    NonNegativeFloat,
    Points,
    RewardName,
    Seconds,
    Seed,
    falling_ranges,
    wrong_weights,
)
from rlseq_envs.spaces import Choices, Space

POINTS = "points"  # the field of a source
HULL_REWARDS = ("valid", "edge_f1", "coverage")
HullReward = Annotated[str, RewardName(HULL_REWARDS)]


@dataclass(frozen=True, kw_only=True)
class ConvexHullSettings(Settings):
    """Points in, hull vertices out."""

    env_id: ClassVar[str] = "rlseq/ConvexHull-v0"

    type: Literal["convex_hull"] = "convex_hull"
    min_points: Points = 5  # fewest points of a generated set
    max_points: Points = 10  # most points of a generated set
    test_points: tuple[Points, Points] | None = None  # range of n in the test set; default: as in training
    reward: dict[HullReward, NonNegativeFloat] = field(default_factory=lambda: {"valid": 1.0})  # weights of the mixture
    reward_timeout: Seconds = 60.0  # seconds that one call of a user's reward may take
    train_file: File = None  # Pointer Networks text format or .npy; default: endless random points
    validation_file: File = None  # as train_file; default: validation_size generated sets
    test_file: File = None  # as train_file; default: test_size generated sets
    train_size: Instances | None = None  # most sets to train on, the first of a file; default: all, or endless
    rl_file: File = None  # sets that rl is trained on, without labels; default: those of cross-entropy
    rl_generated: bool = False  # without rl_file, train rl on endless generated sets, which are in no other split
    validation_size: Instances = 4000  # generated sets to validate on
    test_size: Instances = 10000  # generated sets to evaluate on
    seed: Seed = 0  # chooses all generated sets

    def conflicts(self) -> Iterator[str]:
        """See the base class."""
        yield from wrong_weights(self.reward, HULL_REWARDS)
        if self.min_points > self.max_points:
            yield f"min_points {self.min_points} is larger than max_points {self.max_points}"
        yield from falling_ranges(self, "test_points")

    def outline(self) -> tuple[Mapping[str, Space], Choices]:
        """Points, pointed at."""
        return {POINTS: Space.of_vectors(2, 0)}, Choices(0, points_to=POINTS)

    @property
    def trains_rl_on_others(self) -> bool:
        """If sets for rl are named or generated."""
        return self.rl_generated or bool(self.rl_file)
