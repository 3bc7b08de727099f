"""The settings of the caption task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from rlseq_envs.settings.rules import (
    Directory,
    File,
    Instances,
    Limit,
    NonNegativeFloat,
    Range,
    Seed,
    Tokens,
    falling_ranges,
)
from rlseq_envs.settings.text import Metric, TextReward, TextSettings, Units, VocabularySize
from rlseq_envs.spaces import Choices, Space

Feature = Literal["regions", "pooled"]
PICTURE = "picture"  # the field of a source of pixels; features are fields of their own names
AXES: dict[Feature, int] = {"regions": 3, "pooled": 1}  # of one picture: rows, columns and width; width
MOST_OBJECTS = 3  # of a scene
Side = Annotated[int, Range(ge=12), Limit(512)]  # of a picture, in pixels
Objects = Annotated[int, Range(ge=2), Limit(MOST_OBJECTS)]
References = Annotated[int, Range(gt=0), Limit(20)]  # of a scene


@dataclass(frozen=True, kw_only=True)
class CaptionSettings(TextSettings):
    """A picture in, a sentence about it out."""

    env_id: ClassVar[str] = "rlseq/Caption-v0"

    type: Literal["caption"] = "caption"
    # scenes: made pictures, nothing to download; default: files if any are named, else scenes
    corpus: Literal["files", "scenes"] | None = None
    # Plain text or .gz, a picture a line: `picture<TAB>split`, the split train, validation (or dev), test or none.
    picture_file: File = None
    # Plain text or .gz, a caption a line: `picture<TAB>number<TAB>split<TAB>caption`; the least numbers are read.
    caption_file: File = None
    skip_unlisted: bool = False  # captions of pictures that picture_file lacks: of training, they teach words alone
    feature_file: File = None  # .npz with a row for each line of picture_file; default: pictures themselves are read
    # What is read of feature_file: regions (pictures, rows, columns, width), pooled (pictures, width), or both.
    features: tuple[Feature, ...] = ("regions",)
    picture_directory: Directory = None  # of the pictures as files, by their names; with features they are drawn alone
    # Made pictures to train, validate and evaluate on. What a picture shows is in one split alone.
    sizes: tuple[Instances, Instances, Instances] = (20000, 1000, 1000)
    picture_size: Side = 32  # height and width; pictures in files are scaled and cropped to it
    objects: tuple[Objects, Objects] = (2, 3)  # range of the objects in a made picture
    captions: References = 5  # of each picture; cross-entropy trains on another one each time
    seed: Seed = 0  # of made pictures
    units: Units = "word"
    vocabulary_size: VocabularySize = 1000
    max_length: Tokens = 30
    reward: dict[TextReward, NonNegativeFloat] = field(default_factory=lambda: {"cider": 1.0})
    metrics: tuple[Metric, ...] = ("BLEU", "BLEU-1", "CIDEr-D")

    def conflicts(self) -> Iterator[str]:
        """See the base class."""
        yield from super().conflicts()
        yield from falling_ranges(self, "objects")
        yield from self._faults_of_files()

    @property
    def named_files(self) -> list[str]:
        """The keys that name files or directories here."""
        return [key for key in (*self.file_keys(), *self.directory_keys()) if getattr(self, key)]

    @property
    def is_made(self) -> bool:
        """Whether pictures are made."""
        return not self.named_files if self.corpus is None else self.corpus == "scenes"

    def _faults_of_files(self) -> Iterator[str]:
        given = self.named_files
        if self.corpus == "scenes" and given:
            yield f"{', '.join(given)} given, but corpus is 'scenes': set corpus to 'files'"
        if self.is_made:
            return
        if missing := [key for key in ("picture_file", "caption_file") if key not in given]:
            yield f"corpus is 'files' and {', '.join(missing)} is not given"
        if not self.feature_file and not self.picture_directory:
            yield "corpus is 'files': give feature_file or picture_directory, or both"
        if not self.features or len(set(self.features)) < len(self.features):
            yield f"features is {list(self.features)}: give some of {', '.join(AXES)}, each once"

    def outline(self) -> tuple[Mapping[str, Space], Choices]:
        """A picture in colour or its features, and tokens."""
        picture = Space((self.picture_size, self.picture_size, 3), dtype="uint8")
        unread: dict[str, Space] = {name: Space((0,) * AXES[name]) for name in self.features}
        return unread if self.feature_file else {PICTURE: picture}, self.choices(0)

    def choices(self, vocabulary: int) -> Choices:
        """Choices, given the size of the vocabulary."""
        return Choices(self.max_length, vocabulary)
