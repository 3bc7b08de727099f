"""The settings of the speech task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from rlseq_envs.settings.rules import (
    File,
    Instances,
    Limit,
    NonNegativeFloat,
    NonNegativeInt,
    Range,
    Seed,
    Tokens,
    falling_ranges,
)
from rlseq_envs.settings.text import Metric, TextReward, TextSettings, Units, VocabularySize
from rlseq_envs.spaces import Choices, Space

SPEECH = "speech"  # the field of a source
Rate = Annotated[int, Range(ge=1000), Limit(192_000)]  # samples a second
Duration = Annotated[float, Range(gt=0.0), Limit(600.0)]  # in seconds
Pause = Annotated[float, Range(ge=0.0), Limit(60.0)]  # in seconds
Bands = Annotated[int, Range(gt=0), Limit(1000)]
Digits = Annotated[int, Range(gt=0), Limit(100)]  # of a string
People = Annotated[int, Range(gt=0), Limit(10_000)]
Takes = Annotated[int, Range(gt=0), Limit(1000)]


@dataclass(frozen=True, kw_only=True)
class SpeechSettings(TextSettings):
    """A sound in, what is said in it out: strings of digits, made or joined from clips, or recordings of any text."""

    env_id: ClassVar[str] = "rlseq/Speech-v0"
    selection_metric: ClassVar[Metric] = "WER"

    type: Literal["speech"] = "speech"
    clips_file: File = None  # .npz of spoken digits, see docs/speech.md; default: made ones
    train_file: File = None  # in place of digits: lines of `path of a WAV file<TAB>text`
    validation_file: File = None  # likewise, with train_file
    test_file: File = None  # likewise; default: validation_file is evaluated on
    left_out: tuple[NonNegativeInt, ...] = ()  # speakers of clips_file who are evaluated on, and not trained on
    speakers: tuple[People, People, People] = (60, 10, 10)  # made speakers to train, validate and evaluate on
    takes: Takes = 4  # made clips of each digit by each speaker
    digits: tuple[Digits, Digits] = (1, 5)  # range of the digits in a string
    silence: tuple[Pause, Pause] = (0.05, 0.15)  # range of the seconds between two digits
    train_size: Instances | None = None  # strings to train on; default: endless
    validation_size: Instances = 500  # strings to validate on
    test_size: Instances = 2000  # strings to evaluate on
    seed: Seed = 0  # of made clips, and of strings
    sample_rate: Rate = 8000  # samples a second of all sounds
    max_seconds: Duration = 6.0  # of a sound: strings have no more digits than fit, longer recordings are refused
    bands: Bands = 40  # numbers of a frame
    window: Duration = 0.025  # seconds that a frame reads
    hop: Duration = 0.01  # seconds from one frame to the next
    # Most neighbouring bands hidden from cross-entropy, drawn anew each time (Park et al. 2019).
    mask_bands: NonNegativeInt = 0
    mask_frames: NonNegativeInt = 0  # most neighbouring frames, likewise
    units: Units = "word"
    vocabulary_size: VocabularySize = 1000
    max_length: Tokens = 32
    reward: dict[TextReward, NonNegativeFloat] = field(default_factory=lambda: {"neg_wer": 1.0})
    metrics: tuple[Metric, ...] = ("WER", "CER")

    def conflicts(self) -> Iterator[str]:
        """See the base class."""
        yield from super().conflicts()
        yield from falling_ranges(self, "digits", "silence")
        if self.train_file and self.clips_file:
            yield "train_file and clips_file exclude each other: leave one out"
        if bool(self.train_file) != bool(self.validation_file):
            yield "train_file and validation_file go together: give both, or neither"
        if self.test_file and not self.train_file:
            yield "test_file is for recordings: give train_file and validation_file too"
        if self.left_out and not self.clips_file:
            yield "left_out is for clips_file: leave it out, or give the file"
        if self.samples(self.hop) < 1 or self.samples(self.window) < 2:
            yield "hop and window hold less than one and two samples: raise them, or sample_rate"

    def samples(self, seconds: float) -> int:
        """How many samples that is."""
        return round(seconds * self.sample_rate)

    def outline(self) -> tuple[Mapping[str, Space], Choices]:
        """Frames, and tokens."""
        return self.spaces(0)

    def spaces(self, vocabulary: int) -> tuple[Mapping[str, Space], Choices]:
        """Sources and choices, given the size of the vocabulary."""
        reach = max(self.samples(self.max_seconds) - self.samples(self.window), 0)
        longest = 1 + reach // self.samples(self.hop)
        return {SPEECH: Space((None, self.bands), (longest,))}, Choices(self.max_length, vocabulary)
