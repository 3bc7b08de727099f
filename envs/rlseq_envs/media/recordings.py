"""Sounds with what is said in them: clips of digits, which are joined into strings, and recordings of whole texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlseq_envs.counters import counter_uniforms
from rlseq_envs.media.archives import BROKEN_ARCHIVE
from rlseq_envs.media.sound import Samples, Sounds, read_wave
from rlseq_envs.task import Bools, Ints, SplitName
from rlseq_envs.text.corpus import CorpusError, Problem, SplitReport, first_problems, read_lines
from rlseq_envs.text.storage import TextRows

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FORMAT = "`path of a WAV file<TAB>text`"
_FIELDS = ("audio", "offset", "digit", "speaker", "index")


@dataclass(frozen=True)
class Clips:
    """Recordings of single digits.

    Attributes:
        sounds: A row a clip.
        digit: (clips,) 0 … 9.
        speaker: (clips,) number of who says it.
    """

    sounds: Sounds
    digit: Ints
    speaker: Ints

    def select(self, keep: Bools) -> Clips:
        """Only the clips where ``keep`` (clips,) is true."""
        kept = Sounds.gather(self.sounds[row] for row in np.flatnonzero(keep).tolist())
        return Clips(kept, self.digit[keep], self.speaker[keep])


class Recordings(ABC):
    """One split: sounds and texts by number, from 0."""

    @abstractmethod
    def lengths(self, numbers: Ints) -> Ints:
        """Samples of each, (batch_size,)."""

    @abstractmethod
    def texts(self, numbers: Ints) -> list[str]:
        """What is said."""

    @abstractmethod
    def sounds(self, numbers: Ints) -> list[Samples]:
        """The samples of each."""


@dataclass(frozen=True)
class WholeRecordings(Recordings):
    """Sounds as they were recorded.

    Attributes:
        rows: A row a recording.
        said: Its text.
    """

    rows: Sounds
    said: TextRows

    def lengths(self, numbers: Ints) -> Ints:
        """See the base class."""
        return self.rows.lengths[numbers]

    def texts(self, numbers: Ints) -> list[str]:
        """See the base class."""
        return self.said.take(numbers)

    def sounds(self, numbers: Ints) -> list[Samples]:
        """See the base class."""
        return [self.rows[number] for number in numbers.tolist()]


@dataclass(frozen=True)
class DigitStrings(Recordings):
    """Strings of digits, clips of one speaker with silence between them.

    A string is a function of ``seed`` and its instance. The clips take turns at being the first of a string; in as many
    rounds as there are numbers of digits, each clip is the first of a string of each number.

    Attributes:
        clips: What strings are made of.
        digits: Fewest and most of a string.
        silence: Fewest and most samples between two clips.
        longest: Samples that no string exceeds: one that would has fewer digits.
        seed: Chooses the strings.
        first: The instance that number 0 is.
    """

    clips: Clips
    digits: tuple[int, int]
    silence: tuple[int, int]
    longest: int
    seed: int
    first: int = 0

    @cached_property
    def _by_speaker(self) -> tuple[Ints, Ints, Ints]:
        """Clips sorted by speaker, and for each clip where those of its speaker begin and how many there are."""
        order = np.argsort(self.clips.speaker, kind="stable")
        _, first, index, count = np.unique(
            self.clips.speaker[order], return_index=True, return_inverse=True, return_counts=True
        )
        back = np.empty_like(order)
        back[order] = index
        return order, first[back], count[back]

    @cached_property
    def _turns(self) -> Ints:
        """The clips in the order in which they begin strings."""
        ids = np.arange(len(self.clips.digit))
        return np.argsort(counter_uniforms(self.seed, 1, ids, 1, 1)[:, 0, 0], kind="stable")

    def plan(self, numbers: Ints) -> tuple[Ints, Ints, Ints]:
        """How strings are made.

        Returns:
            Clips (batch_size, most), samples of silence before each, likewise, and how many clips count, (batch_size,).
        """
        low, high = self.digits
        draws = counter_uniforms(self.seed, 0, self.first + numbers, 2, high)
        order, begin, count = self._by_speaker
        turn, place = np.divmod(numbers, len(self._turns))
        first = self._turns[place]
        drawn = begin[first, None] + (draws[:, 0] * count[first, None]).astype(np.int64)
        clips = np.concatenate([first[:, None], order[drawn][:, 1:]], axis=1)
        least, most = self.silence
        gaps = least + (draws[:, 1] * (most - least + 1)).astype(np.int64)
        gaps[:, 0] = 0
        wanted = low + (place + turn) % (high - low + 1)
        fitting = (np.cumsum(gaps + self.clips.sounds.lengths[clips], axis=1) <= self.longest).sum(axis=1)
        return clips, gaps, np.minimum(wanted, fitting)

    def lengths(self, numbers: Ints) -> Ints:
        """See the base class."""
        clips, gaps, count = self.plan(numbers)
        there = np.arange(clips.shape[1]) < count[:, None]
        return np.where(there, gaps + self.clips.sounds.lengths[clips], 0).sum(axis=1)

    def texts(self, numbers: Ints) -> list[str]:
        """See the base class."""
        clips, _, count = self.plan(numbers)
        rows = zip(self.clips.digit[clips].tolist(), count.tolist(), strict=True)
        return [" ".join(DIGITS[digit] for digit in row[:length]) for row, length in rows]

    def sounds(self, numbers: Ints) -> list[Samples]:
        """See the base class."""
        made = []
        for clips, gaps, count in zip(*self.plan(numbers), strict=True):
            parts = [np.zeros(0, np.int16)]
            for clip, gap in zip(clips[:count], gaps[:count], strict=True):
                parts += [np.zeros(gap, np.int16), self.clips.sounds[clip]]
            made.append(np.concatenate(parts))
        return made


def read_clips(path: str, left_out: Sequence[int]) -> dict[SplitName, Clips]:
    """The clips of each split, from an ``.npz`` of the Free Spoken Digit Dataset's parts.

    Its fields: ``audio`` (samples,) int16 of all clips one after another; ``offset`` (clips + 1,) where each begins;
    and (clips,) each ``digit``, ``speaker`` and ``index``, the number of a clip among those of its digit and speaker.
    Indices 0–4 are tested on, 5–9 validated on, all others trained on.

    Args:
        path: The file.
        left_out: Speakers who are tested on, with all their clips, and no others; empty: all are in every split.

    Raises:
        CorpusError: It cannot be used.
    """
    try:
        if not Path(path).is_file():
            raise ValueError("there is no such file")
        with np.load(path, allow_pickle=False) as file:
            audio, offset, digit, speaker, index = fields = [file[name] for name in _FIELDS]
    except (KeyError, *BROKEN_ARCHIVE) as error:
        wanted = f"give an .npz of {', '.join(_FIELDS)}"
        raise CorpusError([Problem(path, None, f"cannot be read as clips ({error}): {wanted}")]) from error
    wrong = [f"{name} is no row of whole numbers" for name, values in zip(_FIELDS, fields, strict=True)
             if values.ndim != 1 or values.dtype.kind not in "iu"]  # fmt: skip
    wrong = wrong or list(_faults(audio, offset, digit, speaker, index))
    if not wrong:
        wrong = [f"has no speaker {name}: change task.left_out" for name in left_out if name not in speaker]
    if wrong:
        raise CorpusError([Problem(path, None, message) for message in wrong])
    clips = Clips(Sounds(audio, offset.astype(np.int64)), digit.astype(np.int64), speaker.astype(np.int64))
    outside = np.isin(speaker, left_out)
    parts: dict[SplitName, Bools] = {
        "train": (index >= 10) & ~outside,
        "validation": (index >= 5) & (index < 10) & ~outside,
        "test": outside if left_out else index < 5,
    }
    if empty := [name for name, rows in parts.items() if not rows.any()]:
        remedy = "indices 0–4 are tested on, 5–9 validated on, all others trained on"
        raise CorpusError([Problem(path, None, f"has no clip for {', '.join(empty)}: {remedy}")])
    return {name: clips.select(rows) for name, rows in parts.items()}


def _faults(audio: Any, offset: Any, digit: Any, speaker: Any, index: Any) -> Iterator[str]:
    """What is wrong with the fields of a file."""
    if audio.dtype != np.int16:
        yield f"audio is {audio.dtype}: give int16"
    counts = len(digit), len(speaker), len(index), len(offset) - 1
    if len(set(counts)) > 1 or not len(digit):
        yield "digit, speaker, index and offset less its last have {}, {}, {} and {} entries: give one a clip".format(
            *counts
        )
    if digit.min(initial=0) < 0 or digit.max(initial=0) >= len(DIGITS):
        yield "digit leaves 0 … 9"
    bounds = offset.astype(np.int64)
    if (np.diff(bounds) <= 0).any() or bounds[:1].any() or bounds[-1:].sum() != len(audio):
        yield "offset does not rise from 0 to the length of audio with a sample a clip at least"


def read_manifest(path: str, rate: int, longest: int, report: SplitReport, problems: list[Problem]) -> WholeRecordings:
    """Recordings that a file lists, one a line; paths are relative to it.

    Args:
        path: The list, plain or gzip.
        rate: Samples a second of all recordings.
        longest: Most samples of one.
        report: Counts are added to it.
        problems: Faults are appended to it; the recordings are of use only if there were none.
    """
    lines = read_lines(path, report, problems)
    sounds, texts, found = [], [], []
    for number, line in enumerate(lines, 1):
        try:
            name, tab, text = line.partition("\t")
            if not tab or "\t" in text or not name.strip():
                raise ValueError(f"is no {FORMAT}")
            if not text.strip():
                raise ValueError(f"has no text behind the tab: write what {name} says, or leave the line out")
            sounds.append(read_sound(Path(path).parent / name, rate, longest))
            texts.append(" ".join(text.split()))
        except ValueError as error:
            found.append(Problem(path, number, str(error)))
    problems += first_problems(found)
    report.pairs += len(texts)
    return WholeRecordings(Sounds.gather(sounds), TextRows.gather(texts))


def read_sound(path: Path, rate: int, longest: int) -> Samples:
    """``read_wave`` of sounds of at most so many samples; a message names the file."""
    try:
        samples = read_wave(path, rate)
        if len(samples) > longest:
            seconds = f"{len(samples) / rate:.1f} seconds, more than {longest / rate:g}"
            raise ValueError(f"lasts {seconds}: cut it, or raise task.max_seconds")
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    return samples
