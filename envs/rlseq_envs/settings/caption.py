"""The settings of the caption task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from rlseq_envs.settings.rules import Instances, Limit, NonNegativeFloat, Range, Seed, Tokens
from rlseq_envs.settings.text import Metric, TextReward, TextSettings, Units, VocabularySize
from rlseq_envs.spaces import Choices, Space

PICTURE = "picture"  # the field of a source
MOST_OBJECTS = 3  # of a scene
Side = Annotated[int, Range(ge=12), Limit(512)]  # of a picture, in pixels
Objects = Annotated[int, Range(ge=2), Limit(MOST_OBJECTS)]
References = Annotated[int, Range(gt=0), Limit(20)]  # of a scene


@dataclass(frozen=True, kw_only=True)
class CaptionSettings(TextSettings):
    """A picture in, a sentence about it out."""

    env_id: ClassVar[str] = "rlseq/Caption-v0"

    type: Literal["caption"] = "caption"
    # Made pictures to train, validate and evaluate on. What a picture shows is in one split alone.
    sizes: tuple[Instances, Instances, Instances] = (20000, 1000, 1000)
    picture_size: Side = 32  # height and width
    objects: tuple[Objects, Objects] = (2, 3)  # range of the objects in a picture
    captions: References = 5  # of each picture; cross-entropy trains on another one each time
    seed: Seed = 0  # of the pictures
    units: Units = "word"
    vocabulary_size: VocabularySize = 1000
    max_length: Tokens = 30
    reward: dict[TextReward, NonNegativeFloat] = field(default_factory=lambda: {"cider": 1.0})
    metrics: tuple[Metric, ...] = ("BLEU", "BLEU-1", "CIDEr-D")

    def conflicts(self) -> Iterator[str]:
        """See the base class."""
        yield from super().conflicts()
        if self.objects[0] > self.objects[1]:
            yield f"objects is {self.objects}: give the smaller number first"

    def outline(self) -> tuple[Mapping[str, Space], Choices]:
        """A picture in colour, and tokens."""
        return self.spaces(0)

    def spaces(self, vocabulary: int) -> tuple[Mapping[str, Space], Choices]:
        """Sources and choices, given the size of the vocabulary."""
        picture = Space((self.picture_size, self.picture_size, 3), dtype="uint8")
        return {PICTURE: picture}, Choices(self.max_length, vocabulary)
