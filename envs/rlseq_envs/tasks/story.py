"""Questions about stories: sentences as memory, a question, an answer of one word or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.rewards.mixture import Mixture
from rlseq_envs.settings.story import QUESTION, STORY, STORY_REWARDS, StorySettings
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
    split_of,
)
from rlseq_envs.text import story_maker
from rlseq_envs.text.corpus import CorpusError, Problem, SplitReport
from rlseq_envs.text.storage import TokenRows
from rlseq_envs.text.stories import Stories, Told, name_of_group, read_stories, split_words
from rlseq_envs.text.vocabulary import UNKNOWN, ListedVocabulary, load_vocabulary

_VOCABULARY = "words"
_KEPT_BATCHES = 16  # of made stories: an update asks for source, reference and reward of the same ones
_Read = tuple[list[Told], list[int]]  # questions, and the group of each


class StoryTask(SequenceTask):
    """Answer a question about a story.

    A source is a story of sentences, the last ``memory`` before the question, and the question; both are words of one
    vocabulary, and so is the answer. Reward components, each in [0, 1]:

    * ``exact_match``: 1 where the answer is the reference, word by word.
    * ``f1``: F1 between the words of the two, whatever their order (Rajpurkar et al. 2016).

    Metrics are told for each group, too: a group is a file, or a kind of question of made stories.
    """

    selection_metric = "accuracy"

    def __init__(self, artifacts: str | Path | None = None, **settings: Any) -> None:
        """Nothing is read yet.

        Args:
            artifacts: A directory that ``save_artifacts`` wrote the vocabulary to; no file is then needed to decode.
            **settings: The keys of ``StorySettings``.

        Raises:
            ValueError: Settings are wrong; the message lists every problem.
        """
        self.settings = given = StorySettings(**settings)
        self._artifacts = None if artifacts is None else Path(artifacts)
        self._mixture = Mixture(given.reward, STORY_REWARDS, given.reward_timeout)
        self._files: dict[SplitName, tuple[str, ...]] = {
            "train": _paths(given.train_files),
            "validation": _paths(given.validation_files),
            "test": _paths(given.test_files),
        }
        self._read: dict[SplitName, _Read] = {}
        self._reports: dict[SplitName, SplitReport] = {}
        self._splits: dict[SplitName, Stories] = {}
        self._make = lru_cache(_KEPT_BATCHES)(self._made_stories)

    # Instances

    @property
    def _is_made(self) -> bool:
        return not self.settings.train_files

    def instances(self, split: SplitName) -> Split:
        """See the base class. Raises CorpusError for files that cannot be used."""
        given = self.settings
        if self._is_made and split in SPLITS:
            sizes = {"train": given.train_size, "validation": given.validation_size, "test": given.test_size}
            return Split(split, FIRST_IDS[split], sizes[split])
        if split not in SPLITS or (split == "test" and not self._files["test"]):
            raise ValueError(f"there is no data for split {split!r}: set task.{split}_files")
        return Split(split, FIRST_IDS[split], len(self._encoded(split)))

    def prepare(self) -> None:
        """Read every file, and try the rewards of the user's own on two answers.

        Raises:
            CorpusError: Files cannot be used; all faults of all of them.
            ValueError: Rewards cannot be used.
        """
        self._mixture.find()
        if not self._is_made:
            self._read_files([name for name in SPLITS if name == "validation" or self._files[name]])
        if self._mixture.has_own:
            ids = np.resize(self.instances("train").ids(0, 2), 2)
            self._mixture.check(self._columns(*self.references(ids), ids))

    def data_report(self) -> list[str]:
        """The questions of each split that was read."""
        return [f"{name} data: {report}" for name, report in self._reports.items()]

    def shared_data(self) -> dict[SplitName, Stories] | None:
        """The splits that were read."""
        for name in self._read:
            self._encoded(name)
        return self._splits or None

    def use_shared_data(self, data: dict[SplitName, Stories]) -> None:
        """Take these splits as read; the vocabulary has to come from artifacts."""
        self._splits = data

    def _encoded(self, name: SplitName) -> Stories:
        if name not in self._splits:
            self._read_files([name])
            told, groups = self._read[name]
            names = [name_of_group(path) for path in self._files[name] or self._files["train"]]
            self._splits[name] = Stories.encode(told, self.vocabulary, groups, names)
        return self._splits[name]

    def _read_files(self, names: Sequence[SplitName]) -> None:
        """Read the files of splits; raises CorpusError with the faults of all of them together."""
        problems: list[Problem] = []
        wanted: list[SplitName] = [name for name in names if name not in self._read]
        if "validation" in wanted and not self._files["validation"]:
            wanted = [name for name in wanted if name not in ("train", "validation")] + ["train"]
        for name in wanted:
            report = self._reports[name] = SplitReport()
            told: list[Told] = []
            groups: list[int] = []
            for group, path in enumerate(self._files[name]):
                found = read_stories(path, self.settings, report, problems)
                told += found
                groups += [group] * len(found)
            self._read[name] = told, groups
        if problems:
            self._read.clear()
            raise CorpusError(problems)
        if "train" in wanted and not self._files["validation"]:
            self._hold_out()

    def _hold_out(self) -> None:
        """Take stories out of training, evenly spaced in each file, and validate on them."""
        told, groups = self._read["train"]
        part = self.settings.held_out
        out = [int((one.story + 1) * part) > int(one.story * part) for one in told]
        parts: dict[SplitName, bool] = {"train": False, "validation": True}
        for name, wanted in parts.items():
            rows = [row for row, held in enumerate(out) if held == wanted]
            if not rows:
                files = ", ".join(self._files["train"])
                raise ValueError(f"no story is left to {name} on: {files}: set task.held_out, or give more stories")
            self._read[name] = [told[row] for row in rows], [groups[row] for row in rows]
            self._reports[name] = replace(self._reports["train"], pairs=len(rows))

    def _made_stories(self, ids: bytes) -> Stories:
        given = self.settings
        told, groups = story_maker.make_stories(
            given.seed, np.frombuffer(ids, np.int64), given.questions, given.sentences
        )
        if given.lists == "class":
            told = [Told(one.sentences, one.question, one.answer.replace(" ", ",")) for one in told]
        told = [Told(one.sentences[-given.memory :], one.question, one.answer) for one in told]
        return Stories.encode(told, self.vocabulary, groups, given.questions)

    def _locate(self, ids: Ints) -> tuple[Stories, Ints]:
        """Stories with those of all ids, and their rows.

        Raises:
            ValueError: An id belongs to no split, or ids to several splits of files.
        """
        ids = np.asarray(ids, np.int64)
        split = self.instances(split_of(ids))
        places = split.rows(ids)
        if not self._is_made:
            return self._encoded(split.name), places
        different, rows = np.unique(ids, return_inverse=True)
        return self._make(different.tobytes()), rows

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """Words of sentences (batch_size, sentences, words) and of the question (batch_size, words)."""
        stories, rows = self._locate(ids)
        return Source.of(**{STORY: stories.story(rows), QUESTION: stories.questions.padded(rows)})

    def sizes(self, ids: Ints) -> Ints:
        """Words of each story."""
        stories, rows = self._locate(ids)
        ends = stories.sentences.offsets[stories.first]
        return ends[rows + 1] - ends[rows]

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        """The answers with END, (batch_size, time), and their lengths."""
        stories, rows = self._locate(ids)
        return stories.answers.padded(rows)

    # Vocabulary

    @cached_property
    def vocabulary(self) -> ListedVocabulary:
        """The words of stories, questions and answers: of the artifacts, of the maker, or of all ``train_files``."""
        if self._artifacts is not None:
            path = self._artifacts / f"{_VOCABULARY}{ListedVocabulary.file_suffix}"
            loaded = load_vocabulary(path)
            if not isinstance(loaded, ListedVocabulary) or loaded.units != "word":
                raise ValueError(f"{path}: holds {loaded.units} units, not words")
            return loaded
        if self._is_made:
            lists = [",".join(some) for n in range(2, len(story_maker.OBJECTS) + 1)
                     for some in permutations(story_maker.OBJECTS, n)]  # fmt: skip
            return ListedVocabulary("word", story_maker.words() + (lists if self.settings.lists == "class" else []))
        self._read_files(["train"])
        held_out = [] if self._files["validation"] else self._read["validation"][0]
        told = self._read["train"][0] + held_out
        texts = (text for one in told for text in (*one.sentences, one.question, one.answer))
        return ListedVocabulary.count(texts, 10**7, "word")

    @cached_property
    def sources(self) -> Mapping[str, Space]:  # type: ignore[override]
        """Sentences and a question."""
        return self.settings.spaces(len(self.vocabulary))[0]

    @cached_property
    def choices(self) -> Choices:  # type: ignore[override]
        """The words of the source, and END."""
        return self.settings.spaces(len(self.vocabulary))[1]

    @property
    def points_to(self) -> None:
        """Nothing, whatever the data."""
        return None

    def save_artifacts(self, directory: Path) -> None:
        """Write the vocabulary as a JSON list."""
        self.vocabulary.save(directory, _VOCABULARY)

    # Worth

    @property
    def signature(self) -> str:
        """Reward, vocabulary and what a list is, exactly."""
        weights = self._mixture.signature({name: name for name in STORY_REWARDS})
        words = f"lists:{self.settings.lists}|words:{self.vocabulary.digest[:16]}"
        return f"story|reward:{weights}|end:optional|case:lc|{words}|version:1"

    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        """The weighted sum of the components that were chosen."""
        values = self._components(sequences, lengths, ids)
        own = self._columns(sequences, lengths, ids) if self._mixture.has_own else (np.asarray(ids, np.int64),)
        return self._mixture.reward({name: values[name] for name in self._mixture.names}, own)

    def _columns(self, sequences: Ints, lengths: Ints, ids: Ints) -> tuple[list[str], list[tuple[str, ...]], Ints]:
        """What functions of the user's are called with: answers, the references of each, and ids."""
        references = self.format_outputs(*self.references(ids))
        return self.format_outputs(sequences, lengths), [(one,) for one in references], ids

    def _components(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, Floats]:
        """Every component; a word that the vocabulary does not have is never right."""
        references = self.references(ids)[0]
        width = max(sequences.shape[1], references.shape[1])
        given = np.where(np.arange(sequences.shape[1]) < lengths[:, None], sequences, END)
        given, wanted = (np.pad(each, ((0, 0), (0, width - each.shape[1]))) for each in (given, references))
        same = (given == wanted).all(axis=1) & (wanted != UNKNOWN).all(axis=1)
        counts = [_counts(each, len(self.vocabulary)) for each in (given, wanted)]
        words = counts[0].sum(axis=1) + counts[1].sum(axis=1)
        common = np.minimum(*counts)
        common[:, UNKNOWN] = 0
        return {"exact_match": same.astype(np.float64), "f1": 2 * common.sum(axis=1) / words}

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        """Means over answers.

        Returns:
            accuracy: Percentage of answers that are the reference.
            accuracy_GROUP: The same of each group, if there are several.
            f1: Mean of the component, in [0, 1].
            truncated: Share of answers without END.
        """
        values = self._components(sequences, lengths, ids)
        right, (stories, rows) = values["exact_match"], self._locate(ids)
        groups = stories.groups[rows]
        ends = (sequences == END) & (np.arange(sequences.shape[1]) < lengths[:, None])
        parts = {
            f"accuracy_{name}": 100 * float(right[groups == group].mean())
            for group, name in enumerate(stories.names)
            if len(stories.names) > 1 and (groups == group).any()
        }
        return {
            "accuracy": 100 * float(right.mean()),
            **parts,
            "f1": float(values["f1"].mean()),
            "truncated": float(np.mean(~ends.any(axis=1))),
        }

    def instance_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, Bools | Floats]:
        """Accuracy as booleans, and F1."""
        values = self._components(sequences, lengths, ids)
        return {"accuracy": values["exact_match"] > 0, "f1": values["f1"]}

    # Text

    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        """Story and question, the reference and the answer; a label of a position is its sentence."""
        ids = np.array([instance_id])
        stories, rows = self._locate(ids)
        (words,), (lengths,) = stories.story(rows)
        sentences = self.vocabulary.decode(words, lengths)
        question = self.vocabulary.decode(*stories.questions.padded(rows))[0]
        return Rendering(
            source=" ".join([*(f"{sentence}." for sentence in sentences), f"{question}?"]),
            reference=self.format_outputs(*self.references(ids))[0],
            output=self.format_outputs(sequence[None], np.array([len(sequence)]))[0],
            input_labels=tuple(sentences),
            output_labels=self.vocabulary.labels(sequence),
        )

    def parse_sources(self, lines: Sequence[str]) -> Source[npt.NDArray[Any]]:
        """Lines ``sentence. sentence. question?``, as ``render`` writes them; see the base class."""
        told, problems, most = [], [], self.settings.max_words
        for number, line in enumerate(lines, start=1):
            *sentences, question = [split_words(part) for part in line.strip().rstrip("?").split(".")]
            longest = max(len(text.split()) for text in (*sentences, question))
            if not question or not line.strip().endswith("?"):
                problems.append(f"line {number}: no question: expected `sentence. sentence. question?`")
            elif not sentences or not all(sentences):
                problems.append(f"line {number}: no sentence, or an empty one: expected `sentence. question?`")
            elif longest > most:
                problems.append(f"line {number}: a sentence has {longest} words, more than task.max_words {most}")
            else:
                told.append(Told(sentences[-self.settings.memory :], question, ""))
        if problems:
            raise ValueError("\n".join(problems))
        stories, rows = Stories.encode(told, self.vocabulary, [0] * len(told), ("",)), np.arange(len(told))
        return Source.of(**{STORY: stories.story(rows), QUESTION: stories.questions.padded(rows)})

    def format_outputs(self, sequences: Ints, lengths: Ints) -> list[str]:
        """The words of each answer."""
        return self.vocabulary.decode(sequences, lengths)

    def parse_outputs(self, lines: Sequence[str], ids: Ints) -> tuple[Ints, Ints]:
        """Answers as ``format_outputs`` writes them; see the base class."""
        rows = [self.vocabulary.encode_one(" ".join(line.lower().split())) for line in lines]
        long = [number for number, row in enumerate(rows, start=1) if len(row) > self.settings.max_answer]
        if long:
            raise ValueError(f"lines {long[:10]} have more tokens than task.max_answer {self.settings.max_answer}")
        return TokenRows.gather(rows, len(self.vocabulary)).padded(np.arange(len(rows)))


def _paths(files: str | Sequence[str] | None) -> tuple[str, ...]:
    return (files,) if isinstance(files, str) else tuple(files or ())


def _counts(tokens: Ints, size: int) -> Ints:
    """How often each token but END stands in each row: (batch_size, size)."""
    rows = np.arange(len(tokens))[:, None]
    flat = np.bincount((rows * size + tokens).ravel(), minlength=len(tokens) * size).reshape(len(tokens), size)
    flat[:, END] = 0
    return flat
