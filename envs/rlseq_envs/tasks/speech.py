"""Speech: frames of a sound, and what is said in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.counters import counter_uniforms
from rlseq_envs.drawing import Strip
from rlseq_envs.media.digit_maker import make_clips
from rlseq_envs.media.recordings import (
    DIGITS,
    Clips,
    DigitStrings,
    Recordings,
    WholeRecordings,
    read_clips,
    read_manifest,
    read_sound,
)
from rlseq_envs.media.sound import LogMel, Samples
from rlseq_envs.settings.speech import SPEECH, SpeechSettings
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import (
    END,
    FIRST_IDS,
    SPLITS,
    Bools,
    Floats,
    Ints,
    Rendering,
    Split,
    SplitName,
    TextPairs,
    split_of,
)
from rlseq_envs.text.corpus import CorpusError, Problem, SplitReport
from rlseq_envs.text.output import TextOutput
from rlseq_envs.text.storage import TextRows
from rlseq_envs.text.task import TextTask
from rlseq_envs.text.vocabulary import Vocabulary, train_vocabulary


class SpeechTask(TextTask):
    """Write down what is said.

    A source is log-mel frames, (batch_size, frames, bands) float32; see ``LogMel``. Sounds are strings of digits, of
    one speaker each, or recordings of the user's. The reward is a mixture of ``TEXT_REWARDS``, by default − WER.

    Strings come from clips of single digits, made or from a file. No clip is in two splits, no made speaker either.
    ``corpus_metrics`` are told for each number of digits, too.
    """

    def __init__(self, artifacts: str | Path | None = None, **settings: Any) -> None:
        """Nothing is read or made yet.

        Args:
            artifacts: A directory that ``save_artifacts`` wrote the vocabulary to; no file is then needed to decode.
            **settings: The keys of ``SpeechSettings``.

        Raises:
            ValueError: Settings or artifacts cannot be used; the message lists every problem.
        """
        self.settings = given = SpeechSettings(**settings)
        self.log_mel = LogMel(given.sample_rate, given.samples(given.window), given.samples(given.hop), given.bands)
        self.output = TextOutput(given, self._learn, None if artifacts is None else Path(artifacts))
        self._files: dict[SplitName, str | None] = {
            "train": given.train_file, "validation": given.validation_file, "test": given.test_file
        }  # fmt: skip
        self._splits: dict[SplitName, Recordings] = {}
        self._reports: dict[SplitName, SplitReport] = {}

    # Instances

    def instances(self, split: SplitName) -> Split:
        """See the base class. Raises CorpusError for files that cannot be used."""
        given = self.settings
        if split not in SPLITS or (given.train_file and not self._files[split]):
            raise ValueError(f"there is no data for split {split!r}")
        sizes = {"train": given.train_size, "validation": given.validation_size, "test": given.test_size}
        recordings = self._recordings(split) if given.train_file else None
        size = len(recordings.said) if isinstance(recordings, WholeRecordings) else sizes[split]
        return Split(split, FIRST_IDS[split], size)

    def prepare(self) -> None:
        """Read every file or make the clips, and try the rewards of the user's own on two sounds.

        Raises:
            CorpusError: Files cannot be used; all faults of all of them.
            ValueError: Rewards cannot be used.
        """
        self.output.find_own()
        self._read([name for name in SPLITS if not self.settings.train_file or self._files[name]])
        if self.output.has_own:
            train = self.instances("train")
            ids = np.resize(train.ids(0, min(2, train.size or 2)), 2)
            self.output.check(self.text_pairs(*self.references(ids), ids), ids)

    def data_report(self) -> list[str]:
        """The recordings of each split that was read."""
        return [f"{name} data: {report}" for name, report in self._reports.items()]

    def shared_data(self) -> dict[SplitName, Recordings] | None:
        """The splits that were read or made."""
        return self._splits or None

    def use_shared_data(self, data: dict[SplitName, Recordings]) -> None:
        """Take these splits as read; the vocabulary has to come from artifacts."""
        self._splits = data

    def _recordings(self, split: SplitName) -> Recordings:
        self._read([split])
        return self._splits[split]

    def _read(self, names: Sequence[SplitName]) -> None:
        """Have these splits; raises CorpusError with the faults of all of them together."""
        given, missing = self.settings, [name for name in names if name not in self._splits]
        if not missing:
            return
        if given.train_file:
            self._splits |= self._listed(missing)
        elif given.clips_file:
            clips = read_clips(given.clips_file, given.left_out)
            self._splits |= {name: self._strings(name, clips[name]) for name in missing}
        else:
            self._splits |= {name: self._strings(name, self._made_clips(name)) for name in missing}

    def _listed(self, names: Sequence[SplitName]) -> dict[SplitName, Recordings]:
        problems: list[Problem] = []
        read: dict[SplitName, Recordings] = {}
        for name in names:
            report, path = SplitReport(), self._files[name]
            assert path is not None
            longest = self.settings.samples(self.settings.max_seconds)
            read[name] = read_manifest(path, self.settings.sample_rate, longest, report, problems)
            self._reports[name] = report
        if problems:
            raise CorpusError(problems)
        return read

    def _made_clips(self, split: SplitName) -> Clips:
        given = self.settings
        before = SPLITS.index(split)
        first = sum(given.speakers[:before])
        return make_clips(given.seed, np.arange(first, first + given.speakers[before]), given.takes, given.sample_rate)

    def _strings(self, split: SplitName, clips: Clips) -> DigitStrings:
        given = self.settings
        silence = given.samples(given.silence[0]), given.samples(given.silence[1])
        longest = given.samples(given.max_seconds)
        if (most := int(clips.sounds.lengths.max())) > longest:
            seconds = f"{most / given.sample_rate:.2f} seconds, more than {given.max_seconds:g}"
            raise ValueError(f"a clip lasts {seconds}: raise task.max_seconds")
        return DigitStrings(clips, given.digits, silence, longest, given.seed, FIRST_IDS[split])

    def _locate(self, ids: Ints) -> tuple[Recordings, Ints]:
        """The one split all ids belong to, and their numbers in it. Raises ValueError if there is none."""
        split = self.instances(split_of(ids))
        return self._recordings(split.name), split.rows(ids)

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """Frames (batch_size, frames, bands) float32, and their number."""
        recordings, numbers = self._locate(ids)
        return self._frames(recordings.sounds(numbers))

    def _frames(self, sounds: Sequence[Samples]) -> Source[npt.NDArray[Any]]:
        rows = [self.log_mel(sound) for sound in sounds]
        lengths = np.array([len(row) for row in rows], np.int64)
        frames = np.zeros((len(rows), lengths.max(initial=0), self.settings.bands), np.float32)
        frames[np.arange(frames.shape[1]) < lengths[:, None]] = np.concatenate(rows)
        return Source.of(**{SPEECH: (frames, lengths)})

    def sizes(self, ids: Ints) -> Ints:
        """Frames of each sound."""
        recordings, numbers = self._locate(ids)
        return self.log_mel.counts(recordings.lengths(numbers))

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        """The texts with END, (batch_size, time), and their lengths; cut to ``max_length``."""
        recordings, numbers = self._locate(ids)
        tokens = self.output.vocabulary.encode(self.output.cased(recordings.texts(numbers)))
        return tokens.truncated(self.settings.max_length, END).padded(np.arange(len(ids)))

    def training_pairs(self, ids: Ints, seed: int) -> tuple[Source[npt.NDArray[Any]], Ints, Ints]:
        """See ``SequenceTask``; a stretch of frames and one of bands are 0, by the seed and the instance.

        They are drawn as SpecAugment draws its masks (Park et al. 2019, sec. 2), one of each.
        """
        frames, lengths = self.source(ids).fields[SPEECH]
        assert lengths is not None
        draws = counter_uniforms(seed, 0, np.asarray(ids, np.int64), 2, 2)
        bands = np.full(len(ids), self.settings.bands)
        hidden = _stretch(draws[:, 0], self.settings.mask_frames, lengths, frames.shape[1])[:, :, None]
        hidden = hidden | _stretch(draws[:, 1], self.settings.mask_bands, bands, self.settings.bands)[:, None]
        return Source.of(**{SPEECH: (np.where(hidden, np.float32(0), frames), lengths)}), *self.references(ids)

    # Vocabulary

    def _learn(self) -> dict[str, Vocabulary]:
        given = self.settings
        recordings = self._recordings("train")
        said = recordings.said if isinstance(recordings, WholeRecordings) else TextRows.gather([" ".join(DIGITS)])
        arguments = (given.vocabulary_size, given.units, given.subword_model, given.lowercase)
        return {"target": train_vocabulary([said], *arguments)}

    @cached_property
    def sources(self) -> Mapping[str, Space]:  # type: ignore[override]
        """Frames."""
        return self.settings.spaces(len(self.output.vocabulary))[0]

    @cached_property
    def choices(self) -> Choices:  # type: ignore[override]
        """Tokens of texts, and END."""
        return self.settings.spaces(len(self.output.vocabulary))[1]

    def save_artifacts(self, directory: Path) -> None:
        """Write the vocabulary and a manifest."""
        self.output.save(directory, "recordings" if self.settings.train_file else "strings of digits")

    # Worth

    @property
    def signature(self) -> str:
        """Reward and vocabulary, exactly."""
        return f"speech|{self.output.signature}"

    def _references(self, ids: Ints) -> list[list[str]]:
        recordings, numbers = self._locate(ids)
        return [recordings.texts(numbers)]

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        """See ``TextTask``; of strings of digits also ``WER_1``, ``WER_2`` …, by the number of digits if it varies."""
        pairs = self.text_pairs(sequences, lengths, ids)
        found = self.output.corpus_metrics(pairs)
        low, high = self.settings.digits
        if self.settings.train_file or low == high:
            return found
        counts = np.array([len(text.split()) for text in pairs.references[0]])
        for count in np.unique(counts).tolist():
            rows = np.flatnonzero(counts == count)
            part = TextPairs([pairs.hypotheses[row] for row in rows], [[pairs.references[0][row] for row in rows]])
            found[f"WER_{count}"] = self.output.corpus_metrics(part)["WER"]
        return found

    # Text

    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        """How long the sound is, its text and the output; drawn are the frames."""
        ids = np.array([instance_id])
        recordings, numbers = self._locate(ids)
        (frames,) = self.source(ids).fields[SPEECH].values
        seconds = int(recordings.lengths(numbers)[0]) / self.settings.sample_rate
        return Rendering(
            source=f"sound {instance_id}, {seconds:.2f} seconds",
            reference=recordings.texts(numbers)[0],
            output=self.format_outputs(sequence[None], np.array([len(sequence)]))[0],
            drawing=Strip(frames.T),
            output_labels=self.output.vocabulary.labels(sequence),
        )

    def parse_sources(self, lines: Sequence[str]) -> Source[npt.NDArray[Any]]:
        """Frames of the WAV files that lines name. Raises ValueError naming every line that cannot be used."""
        longest, sounds, wrong = self.settings.samples(self.settings.max_seconds), [], []
        for number, line in enumerate(lines, 1):
            try:
                sounds.append(read_sound(Path(line.strip()), self.settings.sample_rate, longest))
            except ValueError as error:
                wrong.append(f"line {number}: {error}")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self._frames(sounds)


def _stretch(draws: Floats, most: int, sizes: Ints, width: int) -> Bools:
    """A stretch of each row of so many places, (rows, width): as long as ``draws`` (rows, 2) say, then where."""
    length = (draws[:, 0] * (np.minimum(most, sizes) + 1)).astype(np.int64)
    begin = (draws[:, 1] * (sizes - length + 1)).astype(np.int64)
    places = np.arange(width)
    return (places >= begin[:, None]) & (places < (begin + length)[:, None])
