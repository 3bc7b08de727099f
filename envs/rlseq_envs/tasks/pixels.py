"""Pictures of digits, pixel by pixel: a sequence without END, as long as a picture has pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.drawing import Picture
from rlseq_envs.media.digits import digits_of, draw_digits
from rlseq_envs.media.picture_files import Pictures, read_pictures
from rlseq_envs.rewards.mixture import Mixture
from rlseq_envs.rewards.recogniser import Recogniser
from rlseq_envs.settings.pixels import PIXELS_REWARDS, PixelsSettings
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import (
    FIRST_IDS,
    SPLITS,
    Bools,
    Floats,
    Ints,
    Rendering,
    Reward,
    SequenceTask,
    Split,
    SplitName,
    split_of,
)

_CLASSIFIER = "classifier.npz"
_LEARNED_FROM = 20_000  # pictures that the classifier sees at most
_EMPTY, _INK = 1, 2  # tokens
_LEAST = -5.0  # a log-probability below it is worth no less
_SIGNS = ".#"


class PixelsTask(SequenceTask):
    """Draw a digit: the one that is asked for, or any.

    A picture has ``side`` rows of as many pixels, the first row first; each is token 1, empty, or 2, ink. END is never
    emitted, and a picture that is cut off is empty from there on. Reward components, each in [0, 1]:

    * ``digit``: 1 + log p / 5 of the digit that is asked for, by a small classifier that was trained on the training
      pictures; 0 if log p is below −5. The logarithm tells a bad picture from a worse one, where p is flat at 0. The
      bound keeps one picture that the classifier is sure against from outweighing all others of a batch.
    * ``match``: the fraction of pixels that are those of the reference.
    """

    selection_metric = "nats_per_sequence"
    validates_likelihood = True
    decodes_samples = True

    def selects_by(self, phase: str) -> str:
        """Likelihood, and of rl that asks for digits how many are recognised."""
        return "recognised" if phase == "rl" and self.settings.conditional else self.selection_metric

    def __init__(self, artifacts: str | Path | None = None, **settings: Any) -> None:
        """Nothing is read or drawn yet.

        Args:
            artifacts: A directory that ``save_artifacts`` wrote the classifier to.
            **settings: The keys of ``PixelsSettings``.

        Raises:
            ValueError: Settings are wrong; the message lists every problem.
        """
        self.settings = given = PixelsSettings(**settings)
        self._artifacts = None if artifacts is None else Path(artifacts)
        self._mixture = Mixture(given.reward, PIXELS_REWARDS, given.reward_timeout)
        self.sources: Mapping[str, Space]
        self.choices: Choices
        self.sources, self.choices = given.outline()
        self._shared: dict[SplitName, Pictures] | None = None

    @property
    def signature(self) -> str:
        """See the base class; it names the classifier by its weights."""
        given = self.settings
        weights = self._mixture.signature({name: name for name in PIXELS_REWARDS})
        judge = f"|classifier:{self._recogniser.digest[:16]}" if given.conditional else ""
        return f"pixels|reward:{weights}|side:{given.side}{judge}|version:1"

    # ------------------------------------------------------------------------------------------------------ instances
    def instances(self, split: SplitName) -> Split:
        """See the base class."""
        if split not in SPLITS:
            raise ValueError(f"there is no data for split {split!r}")
        made = self.settings.sizes[SPLITS.index(split)]
        return Split(split, FIRST_IDS[split], len(self._files[split]) if self._files else made)

    @cached_property
    def _files(self) -> dict[SplitName, Pictures] | None:
        """The splits of ``file``; None: digits are made."""
        given = self.settings
        if self._shared is not None or given.file is None:
            return self._shared
        found = read_pictures(given.file, given.side)
        nameless = [name for name, pictures in found.items() if pictures.digits is None]
        if given.conditional and nameless:
            raise ValueError(
                f"{given.file}: no labels of {', '.join(nameless)}, but conditional asks for digits: "
                "add arrays of labels such as train_y, or set task.conditional to false"
            )
        return found

    def shared_data(self) -> dict[SplitName, Pictures] | None:
        """What was read from a file."""
        return self._files

    def use_shared_data(self, data: dict[SplitName, Pictures]) -> None:
        """See the base class."""
        self._shared = data

    def prepare(self) -> None:
        """Read the file, train the classifier, and try the rewards of the user's own on two pictures.

        Raises:
            ValueError: File or rewards cannot be used.
        """
        self._mixture.find()
        ids = np.resize(self.instances("train").ids()[:2], 2)
        if self.settings.conditional:
            _ = self._recogniser  # trained now
        if self._mixture.has_own:
            self._mixture.check((*self.references(ids), ids))

    def data_report(self) -> list[str]:
        """How many pictures there are, and how good the classifier is."""
        sizes = " / ".join(f"{self.instances(split).size:,}" for split in SPLITS)
        report = [f"pictures to train, validate and evaluate on: {sizes}"]
        if self.settings.conditional:
            ids = self.instances("validation").ids()[:1000]
            right = self._log_probs(*self.references(ids)).argmax(axis=1) == self._digits(ids)
            report.append(f"the classifier knows {100 * right.mean():.1f} % of {len(ids):,} validation pictures")
        return report

    def _located(self, ids: Ints) -> tuple[SplitName, Ints]:
        """The one split that all ids belong to, and their rows in it; raises ValueError if there is none."""
        split = self.instances(split_of(ids))
        return split.name, split.rows(ids)

    def _pixels(self, ids: Ints) -> Bools:
        """(pictures, pixels)."""
        split, rows = self._located(ids)
        if self._files:
            return self._files[split].pixels(rows, self.choices.longest)
        return draw_digits(self.settings.seed, np.asarray(ids, np.int64), self.settings.side).reshape(len(ids), -1)

    def _digits(self, ids: Ints) -> Ints:
        """(pictures,) from 0 to 9; of a task that asks for digits."""
        split, rows = self._located(ids)
        if self._files and (digits := self._files[split].digits) is not None:
            return digits[rows]
        return digits_of(self.settings.seed, np.asarray(ids, np.int64))

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """One token, the digit and 1; no field if none is asked for."""
        if not self.settings.conditional:
            return Source(len(ids), {})
        return Source.of(digit=(self._digits(ids)[:, None] + 1, np.ones(len(ids), np.int64)))

    def sizes(self, ids: Ints) -> Ints:
        """1, or 0 if nothing is asked for."""
        return np.full(len(ids), int(self.settings.conditional), np.int64)

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        """The pictures, (batch_size, pixels)."""
        return np.where(self._pixels(ids), _INK, _EMPTY), np.full(len(ids), self.choices.longest, np.int64)

    # ------------------------------------------------------------------------------------------------------ the judge
    @cached_property
    def _recogniser(self) -> Recogniser:
        given = self.settings
        if self._artifacts is not None:
            return Recogniser.load(self._artifacts / _CLASSIFIER, self.choices.longest)
        ids = self.instances("train").ids()[:_LEARNED_FROM]
        pictures = self._pixels(ids).reshape(-1, given.side, given.side)
        return Recogniser.train(pictures, self._digits(ids), given.classifier_size, given.seed)

    def save_artifacts(self, directory: Path) -> None:
        """Write the classifier, if there is one."""
        if self.settings.conditional:
            self._recogniser.save(directory / _CLASSIFIER)

    def _log_probs(self, sequences: Ints, lengths: Ints) -> Floats:
        """What the classifier says of each output, (batch_size, 10)."""
        return self._recogniser.log_probs(self._drawn(sequences, lengths))

    def _drawn(self, sequences: Ints, lengths: Ints) -> Bools:
        """Whole pictures (batch_size, pixels); what is cut off is empty."""
        ink = (sequences == _INK) & (np.arange(sequences.shape[1]) < lengths[:, None])
        return np.pad(ink, ((0, 0), (0, self.choices.longest - ink.shape[1])))

    def _values(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, Floats]:
        """Each component, (batch_size,), and whether the digit is recognised, if one is asked for."""
        ids = np.asarray(ids, np.int64)
        different, row = np.unique(ids, return_inverse=True)
        values = {"match": (self._drawn(sequences, lengths) == self._pixels(different)[row]).mean(axis=1)}
        if self.settings.conditional:
            digits, said = self._digits(different)[row], self._log_probs(sequences, lengths)
            values["digit"] = 1 - said[np.arange(len(ids)), digits].clip(_LEAST) / _LEAST
            values["recognised"] = (said.argmax(axis=1) == digits).astype(np.float64)
        return values

    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        """The weighted sum of the components that were chosen."""
        values = self._values(sequences, lengths, ids)
        return self._mixture.reward(values, (sequences, lengths, np.asarray(ids, np.int64)))

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        """What outputs look like.

        Returns:
            recognised: Percentage that the classifier takes for the digit that was asked for, if one was.
            digit, match: Means of the reward components, in [0, 1].
            ink: Percentage of pixels that are set.
        """
        means = {name: float(value.mean()) for name, value in self._values(sequences, lengths, ids).items()}
        found = {"recognised": 100 * means.pop("recognised")} if self.settings.conditional else {}
        return {**found, **means, "ink": 100 * float(self._drawn(sequences, lengths).mean())}

    def instance_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, Bools | Floats]:
        """Whether the digit is recognised, if one is asked for, as booleans; and the components."""
        values = self._values(sequences, lengths, ids)
        found: dict[str, Bools | Floats] = {name: values[name] for name in PIXELS_REWARDS if name in values}
        return found if "recognised" not in values else {"recognised": values["recognised"] > 0, **found}

    # ------------------------------------------------------------------------------------------------------------ text
    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        """The digit, and how much ink there is; drawn is the output beside the reference."""
        ids, side = np.array([instance_id]), self.settings.side
        lengths = np.array([len(sequence)])
        output, reference = self._drawn(sequence[None], lengths)[0], self._pixels(ids)[0]
        told = f"{output.sum()} pixels of ink"
        if self.settings.conditional:
            probabilities = np.exp(self._log_probs(sequence[None], lengths)[0])
            told += f", {probabilities.argmax()} with probability {probabilities.max():.2f}"
        return Rendering(
            source=str(self._digits(ids)[0]) if self.settings.conditional else "nothing",
            reference=f"{reference.sum()} pixels of ink",
            output=told,
            drawing=Picture(*(255 * ink.reshape(side, side).astype(np.uint8) for ink in (output, reference))),
            input_labels=tuple(map(str, self._digits(ids))) if self.settings.conditional else (),
            output_labels=tuple(_SIGNS[int(token == _INK)] for token in sequence),
        )

    def parse_sources(self, lines: Sequence[str]) -> Source[npt.NDArray[Any]]:
        """Lines of one digit each; empty ones if nothing is asked for. See the base class."""
        problems = []
        for number, line in enumerate(map(str.strip, lines), 1):
            if self.settings.conditional and line not in list("0123456789"):
                problems.append(f"line {number}: {line!r} is no digit: give one from 0 to 9")
            elif line and not self.settings.conditional:
                problems.append(f"line {number}: {line!r}, but nothing is asked for: leave it empty")
        if problems:
            raise ValueError("\n".join(problems))
        if not self.settings.conditional:
            return Source(len(lines), {})
        digits = np.array([[int(line) + 1] for line in lines], np.int64).reshape(-1, 1)
        return Source.of(digit=(digits, np.ones(len(lines), np.int64)))

    def format_outputs(self, sequences: Ints, lengths: Ints) -> list[str]:
        """Rows of ``.`` and ``#``, with spaces between them."""
        side = self.settings.side
        signs = ("".join(_SIGNS[ink] for ink in picture) for picture in self._drawn(sequences, lengths).astype(int))
        return [" ".join(each[start : start + side] for start in range(0, side**2, side)) for each in signs]

    def parse_outputs(self, lines: Sequence[str], ids: Ints) -> tuple[Ints, Ints]:
        """Rows as ``format_outputs`` writes them; see the base class."""
        del ids
        side, pictures, problems = self.settings.side, [], []
        for number, line in enumerate(lines, 1):
            rows = line.split()
            if [len(row) for row in rows] != [side] * side or set("".join(rows)) - set(_SIGNS):
                problems.append(f"line {number}: no picture: give {side} rows of {side} signs . or #, spaces between")
            pictures.append([_EMPTY + _SIGNS.find(sign) for sign in "".join(rows)])
        if problems:
            raise ValueError("\n".join(problems))
        tokens = np.array(pictures, np.int64).reshape(len(lines), side**2)
        return tokens, np.full(len(lines), side**2, np.int64)
