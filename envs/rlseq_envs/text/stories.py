"""Stories with questions: read from files in the format of the bAbI tasks (Weston et al. 2016), and kept as tokens.

A line is ``ID sentence``, or ``ID question<TAB>answer``, optionally with another tab and the sentences that support the
answer, which nothing here reads. IDs count from 1; a 1 begins a new story. A question is about all sentences of its
story before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlseq_envs.settings.story import StorySettings
from rlseq_envs.task import END, Ints
from rlseq_envs.text.corpus import Problem, SplitReport, first_problems, read_lines
from rlseq_envs.text.storage import TokenRows
from rlseq_envs.text.vocabulary import ListedVocabulary

FORMAT = "`ID sentence` or `ID question<TAB>answer`"
_WORD = re.compile(r"[^\s.,;:!?]+")
_SUFFIX = re.compile(r"[_.-](train|valid|validation|dev|test)$")
_DIGITS = 10  # an ID has fewer


@dataclass(frozen=True)
class Told:
    """One question about one story, as words.

    Attributes:
        sentences: Of the story up to the question.
        question: Its words.
        answer: Its words; one if a list is a class of its own.
        story: Number of the story in its file.
    """

    sentences: Sequence[str]
    question: str
    answer: str
    story: int = 0


@dataclass(frozen=True)
class Stories:
    """Many questions as tokens.

    Attributes:
        sentences: All sentences, those of an instance one after another.
        first: (instances + 1,) the first sentence of each instance; it ends before the next one's.
        questions: A row an instance.
        answers: A row an instance, END included.
        groups: (instances,) an index into ``names``.
        names: Of the groups.
    """

    sentences: TokenRows
    first: Ints
    questions: TokenRows
    answers: TokenRows
    groups: Ints
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.groups)

    @classmethod
    def encode(
        cls, told: Sequence[Told], vocabulary: ListedVocabulary, groups: Sequence[int], names: Sequence[str]
    ) -> Stories:
        """As tokens of a vocabulary."""
        rows = [[sentence for one in told for sentence in one.sentences], [one.question for one in told]]
        words = [[vocabulary.encode_one(text)[:-1] for text in texts] for texts in rows]
        words.append([vocabulary.encode_one(one.answer) for one in told])
        sentences, questions, answers = (TokenRows.gather(each, len(vocabulary)) for each in words)
        first = np.cumsum([0, *(len(one.sentences) for one in told)], dtype=np.int64)
        return cls(sentences, first, questions, answers, np.array(groups, np.int64), tuple(names))

    def story(self, rows: Ints) -> tuple[Ints, Ints]:
        """Words (batch_size, sentences, words) padded with 0, and the words of each sentence, 0 where there is none."""
        counts = self.first[rows + 1] - self.first[rows]
        there = np.arange(counts.max(initial=0)) < counts[:, None]
        words, lengths = self.sentences.padded((self.first[rows][:, None] + np.arange(there.shape[1]))[there])
        grid = np.full((*there.shape, words.shape[1]), END, np.int64)
        grid[there] = words
        sizes = np.zeros(there.shape, np.int64)
        sizes[there] = lengths
        return grid, sizes


def split_words(text: str) -> str:
    """The words of a text in lower case, a space between them; punctuation is left out."""
    return " ".join(_WORD.findall(text.lower()))


def name_of_group(path: str) -> str:
    """What a file is called in metrics: its name without endings."""
    return _SUFFIX.sub("", Path(path).name.split(".")[0])


def read_stories(path: str, settings: StorySettings, report: SplitReport, problems: list[Problem]) -> list[Told]:
    """The questions of one file.

    Args:
        path: Plain or gzip.
        settings: What a list is, how much is remembered, and what is too long or left out.
        report: Counts are added to it.
        problems: Faults are appended to it; what is returned is of use only if there were none.
    """
    reader = _StoryReader(path, settings, report)
    lines = read_lines(path, report, reader.problems)
    if not reader.problems:
        for number, text in enumerate(lines, start=1):
            reader.read(number, text)
        reader.close_story()
        if not reader.told and not reader.problems:
            reader.problems.append(Problem(path, None, f"holds no question: give lines of {FORMAT}"))
    problems.extend(first_problems(reader.problems))
    report.pairs += len(reader.told)
    return reader.told


class _StoryReader:
    """One file, line by line, its faults noted.

    Attributes:
        told: The questions read by now.
        sentences: Of the story that is read.
        begun: The line that it begins at.
        asked: Whether it has a question.
        number: The ID of the last line.
    """

    def __init__(self, path: str, settings: StorySettings, report: SplitReport) -> None:
        self.path, self.settings, self.report = path, settings, report
        self.problems: list[Problem] = []
        self.told: list[Told] = []
        self.sentences: list[str] = []
        self.begun, self.asked, self.number, self.story = 1, True, 0, -1

    def read(self, line: int, text: str) -> None:
        head, _, rest = text.partition(" ")
        if not (head.isascii() and head.isdigit() and len(head) < _DIGITS):
            self._note(line, f"does not begin with a number: expected {FORMAT}")
            return
        if int(head) == 1:
            self.close_story()
            self.sentences, self.begun, self.asked, self.story = [], line, False, self.story + 1
        elif int(head) != self.number + 1:
            self._note(line, f"is numbered {int(head)} after {self.number}: a story counts its lines from 1")
        self.number = int(head)
        statement, *more = rest.split("\t")
        words, most = split_words(statement), self.settings.max_words
        if (count := len(words.split())) > most:
            self._note(line, f"has {count} words, more than task.max_words {most}: set it to {count}")
        if more:
            self._ask(line, words, more[0])
        elif statement.rstrip().endswith("?"):
            self._note(line, "the question has no answer: write `ID question<TAB>answer`")
            self.asked = True
        else:
            if not words:
                self._note(line, "the sentence is empty: write it, or remove the line")
            self.sentences.append(words)

    def close_story(self) -> None:
        """Nothing more comes of the story that was read."""
        if not self.asked and self.settings.skip_unasked:
            self.report.skipped_unasked += 1
        elif not self.asked:
            remedy = "ask one, or set task.skip_unasked to true"
            self._note(self.begun, f"the story that begins here has no question: {remedy}")

    def _ask(self, line: int, question: str, answer: str) -> None:
        self.asked, most = True, self.settings.max_answer
        parts = [part for part in map(split_words, answer.split(",")) if part]
        if self.settings.lists == "class":
            parts = [",".join(parts).replace(" ", "_")] if parts else []
        words = " ".join(parts)
        if not question:
            self._note(line, "the question is empty: write it before the tab")
        if not words:
            self._note(line, "the question has no answer: write `ID question<TAB>answer`")
        if (count := len(words.split()) + 1) > most:
            self._note(
                line, f"the answer has {count} tokens with END, more than task.max_answer {most}: set it to {count}"
            )
        if not self.sentences:
            self._note(line, "the question comes before any sentence of its story: move it behind one")
        self.told.append(Told(self.sentences[-self.settings.memory :], question, words, self.story))

    def _note(self, line: int, message: str) -> None:
        self.problems.append(Problem(self.path, line, message))
