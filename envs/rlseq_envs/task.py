"""The interface of a task: what is to be generated, and what it is worth.

Conventions shared by every task:

* A sequence is a row of token ids. ``END`` (0) closes it and counts: in its length, in the loss, in the reward.
* Arrays of sequences are padded on the right with ``END``; whatever stands beyond a row's length never counts.
* ``END`` is never an input of the decoder, so the same id stands for "begin" there. There is no PAD, no BOS to forbid:
  every token a policy can score, it can also draw.
* An instance is known by a stable integer id; the ids of a split are consecutive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rlseq_envs.drawing import Drawing
from rlseq_envs.source import Source, source_sizes
from rlseq_envs.spaces import Choices, Space

END = 0
_SCORED_TOGETHER = 4096  # prefixes that exist at once, as rows of tokens

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
SplitName = Literal["train", "validation", "test", "rl"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")  # that every task may have
_ROOM = 1 << 40  # ids of an endless split
FIRST_IDS: dict[SplitName, int] = {"train": 0, "validation": _ROOM, "test": 2 * _ROOM, "rl": 4 * _ROOM}


def split_of(ids: Ints, first_ids: dict[SplitName, int] = FIRST_IDS) -> SplitName:
    """The split that the least of ids is of, by the first id of each, in ascending order; of no ids the first one."""
    least = int(ids.min()) if len(ids) else 0
    return next((name for name in reversed(first_ids) if first_ids[name] <= least), next(iter(first_ids)))


@dataclass(frozen=True)
class Split:
    """The instances of one split: ids ``first … first + size - 1``, or endless when ``size`` is None.

    Attributes:
        name: Of the split.
        first: The first id.
        size: How many instances there are; None: endless.
        labelled: Whether the instances have references. Only those that rl alone is trained on may have none.
    """

    name: SplitName
    first: int
    size: int | None
    labelled: bool = True

    def ids(self, start: int = 0, stop: int | None = None) -> Ints:
        """Ids of positions ``start … stop - 1`` in the split; ``stop`` defaults to its end.

        Raises:
            ValueError: The split is endless and no stop is given, or the range leaves the split.
        """
        if stop is None:
            if self.size is None:
                raise ValueError(f"split {self.name!r} is endless: give a stop")
            stop = self.size
        if start < 0 or stop < start or (self.size is not None and stop > self.size):
            raise ValueError(f"positions {start}…{stop} leave split {self.name!r} of {self.size} instances")
        return np.arange(self.first + start, self.first + stop, dtype=np.int64)

    def rows(self, ids: Ints) -> Ints:
        """Positions of ids in the split, the inverse of ``ids``.

        Raises:
            ValueError: Some are not in it.
        """
        rows: Ints = np.asarray(ids, np.int64) - self.first
        if ((rows < 0) | (rows >= (_ROOM if self.size is None else self.size))).any():
            raise ValueError(f"instance ids {min(ids)}…{max(ids)} are not all in split {self.name!r}")
        return rows


@dataclass(frozen=True)
class Reward:
    """Rewards of a batch of sequences.

    Attributes:
        total: (batch_size,) the number that is optimised.
        components: Each named part of it, (batch_size,), unweighted.
    """

    total: Floats
    components: dict[str, Floats]


@dataclass(frozen=True)
class TextPairs:
    """Detokenised outputs and references of the same instances, for corpus metrics on text.

    Attributes:
        hypotheses: One text per instance.
        references: One list per reference stream, each holding one text per instance (sacrebleu's layout).
    """

    hypotheses: list[str]
    references: list[list[str]]


@dataclass(frozen=True)
class Rendering:
    """One instance and one output for it, as text and, of tasks that draw, as a drawing.

    Attributes:
        source: The source as one line of text.
        reference: The reference as one line of text; empty if there is none.
        output: The sequence as one line of text.
        drawing: The output beside its reference, or the source; None: there is nothing to draw.
        input_labels: One label per source position, for attention maps.
        output_labels: One label per emitted token, for attention maps.
    """

    source: str
    reference: str
    output: str
    drawing: Drawing | None = None
    input_labels: tuple[str, ...] = ()
    output_labels: tuple[str, ...] = ()


class SequenceTask(ABC):
    """A task: instances, sources, references, reward and corpus metrics.

    Every method is deterministic and takes whole batches. Shapes: ``ids`` (batch_size,), ``sequences``
    (batch_size, time) int64 padded with ``END``, ``lengths`` (batch_size,) int64 counting ``END`` where it was emitted.

    Attributes:
        sources: The fields of a source by name; none if sequences are generated from nothing. The size of a source is
            the number of positions of its first field.
        choices: What can be emitted.
        selection_metric: The metric of validations that picks the best checkpoint: a corpus metric, or one of the
            likelihood. ``rlseq_envs.settings.metrics`` says which way it is better.
        validates_likelihood: Whether validations also say how likely the references are, as ``rlseq evaluate
            --likelihood`` does: a pass more over them.
        decodes_samples: Whether a sample of each instance is looked at, not the greedy output, by validations and
            if nobody says how to decode: of tasks whose sources leave open what is right.
    """

    sources: Mapping[str, Space]
    choices: Choices
    selection_metric: str
    validates_likelihood: bool = False
    decodes_samples: bool = False

    def selects_by(self, phase: str) -> str:
        """The metric that picks the best checkpoint of a phase, ``mle`` or ``rl``: ``selection_metric`` of both."""
        return self.selection_metric

    @property
    @abstractmethod
    def signature(self) -> str:
        """Names the reward exactly: tokeniser, smoothing, END handling, weights, version. Equal means comparable."""

    @abstractmethod
    def instances(self, split: SplitName) -> Split:
        """The split's ids. Raises ValueError for a split this task has no data for."""

    @property
    def points_to(self) -> str | None:
        """``choices.points_to``; a task whose choices are known once all data were read knows this before."""
        return self.choices.points_to

    @property
    def ends(self) -> bool:
        """``choices.ends``, known before any data if tokens are positions: these have END."""
        return self.points_to is not None or self.choices.ends

    def rl_instances(self) -> Split:
        """The instances that rl is trained on: those of cross-entropy, unless a task has others for it.

        They may be many more if the reward reads no reference.
        """
        return self.instances("train")

    @abstractmethod
    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """Sources with the fields that ``sources`` describes, padded to the longest of this batch."""

    def sizes(self, ids: Ints) -> Ints:
        """The size of each source, (batch_size,). A task that knows it without reading sources says so."""
        return source_sizes(self.source(ids))

    @abstractmethod
    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        """The (first) reference of each instance, END included, and its length."""

    def training_pairs(self, ids: Ints, seed: int) -> tuple[Source[npt.NDArray[Any]], Ints, Ints]:
        """Sources, references and the references' lengths, as cross-entropy trains on them under this seed.

        What ``source`` and ``references`` give, unless a task draws variants of its training instances.
        """
        return self.source(ids), *self.references(ids)

    @abstractmethod
    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        """What each sequence is worth. A sequence cut off without END is worth what is there."""

    def potentials(self, sequences: Ints, lengths: Ints, ids: Ints) -> Floats:
        """What each sequence has come to after each of its tokens: a reward is handed out in the increments of this.

        At the last token it is the reward, before it whatever follows from the tokens until there. Here that is the
        reward of these tokens, closed by END; of equal prefixes of an instance one is scored.

        Returns:
            (batch_size, time), 0 beyond a length.
        """
        places = np.arange(sequences.shape[1])
        live = places < lengths[:, None]
        ends = live & (sequences == END) & (places > 0)
        scored = live & ~ends
        numbers = 2 * _number_prefixes(sequences, ids) + (places == lengths[:, None] - 1)  # the last is not closed
        _, first, back = np.unique(numbers[scored], return_index=True, return_inverse=True)
        row, place = (index[first] for index in np.nonzero(scored))
        values = np.zeros(sequences.shape)
        values[scored] = self._prefix_rewards(sequences, lengths, ids, row, place)[back]
        values[ends] = values[:, :-1][ends[:, 1:]]  # END itself closed the prefix before
        return values

    def _prefix_rewards(self, sequences: Ints, lengths: Ints, ids: Ints, rows: Ints, places: Ints) -> Floats:
        """Rewards (prefixes,) of the tokens of ``rows`` up to ``places``, closed by END where more came."""
        found = [np.zeros(0)]
        for start in range(0, len(rows), _SCORED_TOGETHER):
            row, place = (column[start : start + _SCORED_TOGETHER] for column in (rows, places))
            closed = np.minimum(place + 2, lengths[row])
            prefixes = np.where(np.arange(closed.max()) <= place[:, None], sequences[row, : closed.max()], END)
            found.append(self.reward(prefixes, closed, ids[row]).total)
        return np.concatenate(found)

    @abstractmethod
    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        """What a paper would report over these instances; NaN if a metric's own rule says FAIL."""

    @abstractmethod
    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        """One output (cut to its length) as text, and what is drawn of it."""

    def prepare(self) -> None:  # noqa: B027
        """Read and check all data now, so that every fault shows before training starts; nothing by default."""

    def data_report(self) -> list[str]:
        """What was read, skipped and changed in the data by then, a line each; nothing by default."""
        return []

    def shared_data(self) -> Any:
        """What was read by then and other processes may be handed instead of reading it themselves; None by default.

        Of any type that can be pickled. Its arrays are handed on without a copy and are read-only there.
        """
        return None

    def use_shared_data(self, data: Any) -> None:
        """Use what ``shared_data`` of a task of the same settings gave."""
        raise NotImplementedError(f"{type(self).__name__} shares no data")

    def starts(self, ids: Ints, count: int) -> Ints:
        """Tokens that a right sequence may begin with, for tasks that have several: (batch_size, count).

        They follow from the sources, not from the references. Tokens may repeat if there are fewer than ``count``.

        Raises:
            NotImplementedError: The task names none; the message says so.
        """
        raise NotImplementedError(f"{type(self).__name__} names no first tokens")

    def length_limits(self, sizes: Ints) -> Ints:
        """Most tokens that may be emitted for sources of these sizes, END included."""
        return np.full(len(sizes), self.choices.longest, dtype=np.int64)

    def instance_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, Bools | Floats]:
        """Metrics that are means over instances, as one value each; boolean ones are tested with McNemar's test.

        NaN marks an instance that does not count.
        """
        return dict(self.reward(sequences, lengths, ids).components)

    def text_pairs(self, sequences: Ints, lengths: Ints, ids: Ints) -> TextPairs | None:
        """Texts for sacrebleu's paired tests; None if the output is no text."""
        return None

    def text_metrics(self) -> dict[str, Any]:
        """The sacrebleu metric objects behind the text corpus metrics, by metric name."""
        return {}

    def parse_sources(self, lines: Sequence[str]) -> Source[npt.NDArray[Any]]:
        """Sources written as text, one a line, with the fields of ``source``.

        Raises:
            ValueError: A line cannot be read; the message names the line's number.
        """
        raise NotImplementedError(f"{type(self).__name__} reads no sources from text")

    def format_outputs(self, sequences: Ints, lengths: Ints) -> list[str]:
        """Sequences as lines of text."""
        raise NotImplementedError(f"{type(self).__name__} writes no outputs as text")

    def parse_outputs(self, lines: Sequence[str], ids: Ints) -> tuple[Ints, Ints]:
        """Sequences, END included, and their lengths, from lines as ``format_outputs`` writes them.

        Raises:
            ValueError: A line cannot be read; the message names the line's number.
        """
        raise NotImplementedError(f"{type(self).__name__} reads no outputs from text")

    def text_reward(self, texts: Sequence[str], ids: Ints) -> Reward:
        """``reward`` of texts that need not be made of the vocabulary; of tasks that have ``text_pairs``."""
        raise NotImplementedError(f"{type(self).__name__} rewards no texts")

    def save_artifacts(self, directory: Path) -> None:  # noqa: B027 - most tasks have none
        """Write what must travel with a checkpoint (a vocabulary) into an existing directory; nothing by default.

        A task whose artifacts matter takes ``artifacts=directory`` at construction and then needs no corpus to decode.
        """


def _number_prefixes(sequences: Ints, ids: Ints) -> Ints:
    """A number for the tokens up to each place, (batch_size, time), the same where they and the instance are."""
    rows, choices = len(sequences), sequences.max(initial=0) + 1
    numbers = np.empty_like(sequences)
    last = np.unique(ids, return_inverse=True)[1]
    for place, tokens in enumerate(sequences.T):
        last = np.unique(last * choices + tokens, return_inverse=True)[1]
        numbers[:, place] = place * rows + last
    return numbers
