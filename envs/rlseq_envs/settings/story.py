"""The settings of the story task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, get_args

from rlseq_envs.settings.base import Settings
from rlseq_envs.settings.rules import (
    Files,
    Fraction,
    Instances,
    Limit,
    NonNegativeFloat,
    Range,
    RewardName,
    Seconds,
    Seed,
    Tokens,
    falling_ranges,
    wrong_weights,
)
from rlseq_envs.spaces import Choices, Space

STORY, QUESTION = "story", "question"  # the fields of a source
STORY_REWARDS = ("exact_match", "f1")
StoryReward = Annotated[str, RewardName(STORY_REWARDS)]
QuestionKind = Literal["person", "object", "before", "yes_no", "count", "list"]
QUESTION_KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)
Sentences = Annotated[int, Range(gt=0), Limit(1000)]  # of one story
SHORTEST = 3  # sentences after which a made story can be asked about anything


@dataclass(frozen=True, kw_only=True)
class StorySettings(Settings):
    """A story and a question in, the answer out."""

    env_id: ClassVar[str] = "rlseq/Story-v0"

    type: Literal["story"] = "story"
    # Files in the format of the bAbI tasks, plain or .gz, each a group of its own in the metrics; default: made stories
    train_files: Files = None
    validation_files: Files = None  # as train_files; default: the part held_out of train_files
    test_files: Files = None  # as train_files
    held_out: Fraction = 0.1  # part of the stories of train_files that is validated on, without validation_files
    skip_unasked: bool = False  # leave out stories of files that nothing is asked about; default: they are an error
    lists: Literal["words", "class"] = "words"  # an answer `milk,ball` is these words, or a class of its own
    memory: Sentences = 50  # the last sentences before a question, which are all that is known of its story
    max_words: Tokens = 20  # most words of a sentence or question
    max_answer: Tokens = 8  # tokens of an answer, END included
    # What made stories are asked: where a person is, where an object is, where it was before, yes or no, how many
    # objects a person carries, and which. They need 1, 2, 3, 1, several and several sentences.
    questions: tuple[QuestionKind, ...] = QUESTION_KINDS
    sentences: tuple[Sentences, Sentences] = (4, 12)  # range of the length of made stories
    train_size: Instances | None = None  # made stories to train on; default: endless
    validation_size: Instances = 1000  # made stories to validate on
    test_size: Instances = 4000  # made stories to evaluate on
    reward: dict[StoryReward, NonNegativeFloat] = field(default_factory=lambda: {"exact_match": 1.0})  # weights
    reward_timeout: Seconds = 60.0  # seconds that one call of a user's reward may take
    seed: Seed = 0  # of made stories

    def conflicts(self) -> Iterator[str]:
        """See the base class."""
        yield from wrong_weights(self.reward, STORY_REWARDS)
        if not self.questions:
            yield f"questions is empty: give some of {', '.join(QUESTION_KINDS)}"
        yield from falling_ranges(self, "sentences")
        if self.sentences[0] <= self.sentences[1] and self.sentences[0] < SHORTEST:
            yield f"sentences begins with {self.sentences[0]}: give at least {SHORTEST}"
        if self.train_files and self.train_size is not None:
            yield "train_size is of made stories, but train_files is given: leave train_size out"
        others = [key for key in ("validation_files", "test_files") if getattr(self, key)]
        if others and not self.train_files:
            yield f"{' and '.join(others)} given without train_files: give train_files, too"
        if self.train_files and not self.validation_files and not self.held_out:
            yield "held_out is 0 and there are no validation_files: give either"

    def outline(self) -> tuple[Mapping[str, Space], Choices]:
        """Sentences, a question, and tokens of the same vocabulary."""
        return self.spaces(0)

    def spaces(self, vocabulary: int) -> tuple[Mapping[str, Space], Choices]:
        """Sources and choices, given the size of the vocabulary."""
        story = Space((None, None), (self.memory, self.max_words), vocabulary, "int64")
        sources = {STORY: story, QUESTION: Space.of_tokens(vocabulary, self.max_words)}
        return sources, Choices(self.max_answer, vocabulary, same_as=STORY)
