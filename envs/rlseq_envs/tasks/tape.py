"""Tapes to be copied, copied several times, or searched: what a network with a memory is tried on.

The tasks are those of Graves, Wayne & Danihelka, Neural Turing Machines (2014). There a network reads and writes
vectors of bits. Here such a vector is one symbol of 2^bits, so that a policy chooses it by one distribution; a wrong
symbol is judged by how many of its bits are wrong. Token i + 1 is symbol i, and 0 is END. In a source there are marks
behind the symbols:

* copy: ``s … s xR``, where the mark xR asks for R copies.
* recall: ``/ s s s / s s s … ? s s s``, items of a few symbols, and an item that is asked for. The answer is what
  followed this item when it first came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.counters import GAMMA, Words, mix
from rlseq_envs.drawing import Strip
from rlseq_envs.rewards.mixture import Mixture
from rlseq_envs.settings.tape import TAPE, TAPE_REWARDS, TapeSettings
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
    Reward,
    SequenceTask,
    Split,
    SplitName,
)

_FIRST = {name: FIRST_IDS[name] for name in SPLITS}
_LENGTH, _REPEATS, _ASKED, _SYMBOLS = range(4)  # the words of an instance's stream


class TapeTask(SequenceTask):
    """Copy a tape, or recall an item of it.

    Reward components, each in [0, 1], over the symbols of the output or the reference, whichever has more:

    * ``bits``: 1 − bit error, the share of bits that are right. A symbol that is missing or too many counts as if it
      were guessed: half of its bits are wrong.
    * ``symbols``: the share of symbols that are right.
    * ``exact``: 1 if all symbols are right, and none is missing or too many.

    The symbols are those before END or, in a sequence cut off without END, all there are.
    """

    selection_metric = "bits_right"

    def __init__(self, artifacts: str | Path | None = None, **settings: Any) -> None:
        """Every tape is a pure function of seed and id.

        Args:
            artifacts: Unused: the settings are all that is needed to decode.
            **settings: The keys of ``TapeSettings``.

        Raises:
            ValueError: Settings are wrong; the message lists every problem.
        """
        del artifacts
        self.settings = given = TapeSettings(**settings)
        self._mixture = Mixture(given.reward, TAPE_REWARDS, given.reward_timeout)
        self._count = 2**given.bits  # of symbols
        self._sizes: dict[SplitName, int | None] = {
            "train": given.train_size,
            "validation": given.validation_size,
            "test": given.test_size,
        }
        self.sources: Mapping[str, Space]
        self.choices: Choices
        self.sources, self.choices = given.outline()

    @property
    def signature(self) -> str:
        """See the base class. Names the reward alone, so that a policy can be judged on tapes of any length."""
        weights = self._mixture.signature({name: name for name in TAPE_REWARDS})
        return f"tape|reward:{weights}|bits:{self.settings.bits}|missing or too many:half|version:1"

    def instances(self, split: SplitName) -> Split:
        """See the base class."""
        if split not in self._sizes:
            raise ValueError(f"no split {split!r}; choose from {', '.join(self._sizes)}")
        return Split(split, _FIRST[split], self._sizes[split])

    def prepare(self) -> None:
        """Try the rewards of the user's own on two tapes; raises ValueError if they cannot be used."""
        self._mixture.find()
        if self._mixture.has_own:
            ids = self.instances("train").ids(0, 2)
            self._mixture.check((*self._columns(*self.references(ids), ids), ids))

    # ------------------------------------------------------------------------------------------------------ instances
    def _streams(self, ids: Ints) -> Words:
        """The start of each id's stream of words, (batch_size,); raises ValueError if an id belongs to no split."""
        names: list[SplitName] = list(_FIRST)
        split = np.maximum(np.searchsorted(list(_FIRST.values()), ids, side="right") - 1, 0)
        positions = ids - np.array(list(_FIRST.values()))[split]
        most = np.array([math.inf if (size := self._sizes[name]) is None else size for name in names])[split]
        outside = np.flatnonzero((positions < 0) | (positions >= most))
        if outside.size:
            wrong, name = ids[outside[0]], names[split[outside[0]]]
            raise ValueError(f"instance {wrong} belongs to no split; take ids from instances({name!r}).ids()")
        return mix(mix(np.array([self.settings.seed], np.uint64) + GAMMA) ^ ids.astype(np.uint64))

    def _between(self, words: Words, ids: Ints, training: tuple[int, int], test: tuple[int, int] | None) -> Ints:
        """A number for each word, uniform in the range that the id's split has."""
        low, high = np.where(ids[:, None] >= _FIRST["test"], test or training, training).T
        return low + _scaled(words, high - low + 1)

    def _drawn(self, ids: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Tokens (batch_size, most) of each tape, its length, its repeats, and a number in [0, 2^32) that asks."""
        given, ids = self.settings, np.asarray(ids, np.int64)
        streams = self._streams(ids)
        lengths = self._between(_word(streams, _LENGTH), ids, given.lengths, given.test_lengths)
        repeats = self._between(_word(streams, _REPEATS), ids, given.repeats, given.test_repeats)
        symbols = lengths * (1 if given.kind == "copy" else given.item_length)
        columns = np.arange(symbols.max(initial=0))
        words = mix(streams[:, None] + GAMMA * (columns + 1 + _SYMBOLS).astype(np.uint64))
        tokens = np.where(columns < symbols[:, None], 1 + (words >> np.uint64(64 - given.bits)).astype(np.int64), 0)
        return tokens, lengths, repeats, _scaled(_word(streams, _ASKED), np.maximum(lengths - 1, 1))

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """Symbols and marks, (batch_size, longest), and how many; raises ValueError if an id is of no split."""
        tokens, lengths, repeats, asked = self._drawn(ids)
        if self.settings.kind == "copy":
            padded = np.pad(tokens, ((0, 0), (0, 1)))
            padded[np.arange(len(lengths)), lengths] = self._count + repeats
            return Source.of(tape=(padded, lengths + 1))
        size, rows = self.settings.item_length, np.arange(len(lengths))
        items = tokens.reshape(len(tokens), -1, size)
        marked = np.pad(items, ((0, 0), (0, 1), (1, 0)))
        marked[:, :, 0] = self._count + 1
        marked[rows, lengths, 0] = self._count + 2
        marked[rows, lengths, 1:] = items[rows, asked]
        there = np.arange(marked.shape[1]) <= lengths[:, None]
        return Source.of(tape=((marked * there[:, :, None]).reshape(len(tokens), -1), (lengths + 1) * (size + 1)))

    def sizes(self, ids: Ints) -> Ints:
        """Symbols and marks of each tape; raises as ``source``."""
        given, ids = self.settings, np.asarray(ids, np.int64)
        lengths = self._between(_word(self._streams(ids), _LENGTH), ids, given.lengths, given.test_lengths)
        return lengths + 1 if given.kind == "copy" else (lengths + 1) * (given.item_length + 1)

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        """The tape as often as it is asked for, or the item behind the one that is asked for; and END."""
        tokens, lengths, repeats, asked = self._drawn(ids)
        if self.settings.kind == "copy":
            copied = lengths * repeats
            columns = np.arange(copied.max(initial=0) + 1)
            again = np.take_along_axis(np.pad(tokens, ((0, 0), (0, 1))), columns % lengths[:, None], axis=1)
            return np.where(columns < copied[:, None], again, END), copied + 1
        items = tokens.reshape(len(tokens), -1, self.settings.item_length)
        rows = np.arange(len(items))
        first = (items == items[rows, asked][:, None]).all(axis=2).argmax(axis=1)
        return np.pad(items[rows, first + 1], ((0, 0), (0, 1))), np.full(len(items), items.shape[2] + 1)

    def length_limits(self, sizes: Ints) -> Ints:
        """The most symbols that a tape of this size may ask for, and END."""
        if self.settings.kind == "copy":
            return (sizes - 1) * self.settings.repeats[1] + 1
        return np.full(len(sizes), self.settings.item_length + 1, dtype=np.int64)

    # --------------------------------------------------------------------------------------------------------- rewards
    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        """The weighted sum of the components that were chosen."""
        columns = self._columns(sequences, lengths, ids)
        values = self._values(*columns[1:])
        return self._mixture.reward(values, (*columns, np.asarray(ids, np.int64)))

    def _columns(self, sequences: Ints, lengths: Ints, ids: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """Tapes, references, their lengths, sequences, their lengths; a tape is made once for all its samples."""
        different, instance = np.unique(ids, return_inverse=True)
        tapes, (references, expected) = self.source(different).fields[TAPE].values, self.references(different)
        shortened = np.minimum(lengths, sequences.shape[1]).astype(np.int64)
        outputs = np.ascontiguousarray(sequences, np.int64)
        return tapes[instance], references[instance], expected[instance], outputs, shortened

    def _values(self, references: Ints, expected: Ints, sequences: Ints, lengths: Ints) -> dict[str, Floats]:
        """Each component, (batch_size,)."""
        width = max(references.shape[1], sequences.shape[1])
        ours, theirs = (np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in (sequences, references))
        ends = (ours == END) | (np.arange(width) >= lengths[:, None])
        emitted = np.where(ends.any(axis=1), ends.argmax(axis=1), width)
        both, most = np.minimum(emitted, expected - 1), np.maximum(np.maximum(emitted, expected - 1), 1)
        compared = np.arange(width) < both[:, None]
        different = np.where(compared, (ours - 1) ^ (theirs - 1), 0)
        wrong = np.bitwise_count(different).sum(axis=1) / self.settings.bits
        alone = np.maximum(emitted, expected - 1) - both
        right = (compared & (different == 0)).sum(axis=1)
        return {
            "bits": 1 - (wrong + alone / 2) / most,
            "symbols": right / most,
            "exact": ((right == expected - 1) & (alone == 0)).astype(np.float64),
        }

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        """What the paper reports, and the means behind it.

        Returns:
            bits_right, bit_error: Percentage of bits that are right, and wrong; a mean over tapes.
            accuracy: Percentage of tapes with all symbols right.
            bits, symbols, exact: Means of the reward components, in [0, 1].
            truncated: Share of sequences without END.
        """
        values = self._values(*self._columns(sequences, lengths, ids)[1:])
        means = {name: float(values[name].mean()) for name in TAPE_REWARDS}
        ends = (sequences == END) & (np.arange(sequences.shape[1]) < lengths[:, None])
        return {
            "bits_right": 100 * means["bits"],
            "bit_error": 100 * (1 - means["bits"]),
            "accuracy": 100 * means["exact"],
            **means,
            "truncated": float(np.mean(~ends.any(axis=1))),
        }

    def instance_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, Bools | Floats]:
        """Accuracy as booleans; bits and symbols that are right, in [0, 1]."""
        values = self._values(*self._columns(sequences, lengths, ids)[1:])
        return {"bits_right": values["bits"], "accuracy": values["exact"] > 0, "symbols": values["symbols"]}

    # ------------------------------------------------------------------------------------------------------------ text
    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        """Symbols as numbers from 0; drawn are the bits of output and reference over time, a row for each bit."""
        ids = np.array([instance_id])
        tape = self.source(ids).fields[TAPE].values[0]
        reference = self.references(ids)[0][0]
        labels = tuple("END" if token == END else self._label(token) for token in sequence)
        return Rendering(
            source=self._line(tape),
            reference=self._line(reference),
            output=" ".join(labels),
            drawing=Strip(self._bits(sequence), self._bits(reference)),
            input_labels=tuple(map(self._label, tape)),
            output_labels=labels,
        )

    def _label(self, token: int) -> str:
        if token <= self._count:
            return str(token - 1)
        mark = int(token) - self._count
        return f"x{mark}" if self.settings.kind == "copy" else "/?"[mark - 1]

    def _line(self, tokens: Ints) -> str:
        """What stands before END."""
        return " ".join(map(self._label, _before_end(tokens)))

    def _bits(self, tokens: Ints) -> npt.NDArray[Any]:
        """(bits, time) 0 and 1 of the symbols before END, the lowest bit first."""
        return (np.array(_before_end(tokens), np.int64) - 1) >> np.arange(self.settings.bits)[:, None] & 1

    def parse_sources(self, lines: Sequence[str]) -> Source[npt.NDArray[Any]]:
        """Lines as ``render`` writes them: ``5 63 0 x2``, or ``/ 5 63 0 / 7 7 1 ? 5 63 0``; see the base class."""
        rows = [self._parse(line, number) for number, line in enumerate(lines, 1)]
        problems = [row for row in rows if isinstance(row, str)]
        if problems:
            raise ValueError("\n".join(problems))
        return Source.of(tape=_padded([row for row in rows if not isinstance(row, str)]))

    def _parse(self, line: str, number: int) -> list[int] | str:
        """The tokens of a line, or what is wrong with it."""
        names = {self._label(token): token for token in range(1, self.sources[TAPE].tokens or 0)}
        words = line.split()
        unknown = [word for word in words if word not in names]
        if unknown:
            marks = [name for name, token in names.items() if token > self._count]
            return (
                f"line {number}: {unknown[0]!r} is no symbol and no mark: give numbers from 0 to {self._count - 1} and "
                + (f"a mark x1 … {marks[-1]}" if self.settings.kind == "copy" else "the marks / and ?")
            )
        tokens = [names[word] for word in words]
        marks_at = [place for place, token in enumerate(tokens) if token > self._count]
        if self.settings.kind == "copy":
            if len(tokens) < 2 or marks_at != [len(tokens) - 1]:
                return f"line {number}: give the symbols and then one mark of how many copies, such as 5 63 0 x1"
            return tokens
        size = self.settings.item_length + 1
        asked = [place for place in marks_at if tokens[place] == self._count + 2]
        if (
            len(tokens) < 3 * size
            or len(tokens) % size
            or marks_at != [*range(0, len(tokens), size)]
            or (asked != [len(tokens) - size])
        ):
            return (
                f"line {number}: give two items or more of {size - 1} symbols, each behind a /, "
                "and one of them behind a ? at the end"
            )
        return tokens

    def format_outputs(self, sequences: Ints, lengths: Ints) -> list[str]:
        """The symbols before END as numbers from 0."""
        return [self._line(sequence[:length]) for sequence, length in zip(sequences, lengths, strict=True)]

    def parse_outputs(self, lines: Sequence[str], ids: Ints) -> tuple[Ints, Ints]:
        """Numbers as ``format_outputs`` writes them; see the base class."""
        del ids
        rows, problems = [], []
        for number, line in enumerate(lines, 1):
            words = line.split()
            wrong = [word for word in words if not (word.isascii() and word.isdigit() and int(word) < self._count)]
            if wrong:
                problems.append(f"line {number}: {wrong[0]!r} is no symbol: give numbers from 0 to {self._count - 1}")
            rows.append([int(word) + 1 for word in words if not wrong] + [END])
        if problems:
            raise ValueError("\n".join(problems))
        return _padded(rows)


def _word(streams: Words, place: int) -> Words:
    return mix(streams + GAMMA * np.array([place + 1], np.uint64))


def _scaled(words: Words, count: Ints) -> Ints:
    """From words to numbers in [0, count)."""
    return ((words >> np.uint64(32)) * count.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


def _before_end(tokens: Ints) -> list[int]:
    found: list[int] = tokens.tolist()
    return found[: found.index(END)] if END in found else found


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.zeros((len(rows), int(lengths.max(initial=0))), np.int64)
    for row, values in enumerate(rows):
        tokens[row, : len(values)] = values
    return tokens, lengths
