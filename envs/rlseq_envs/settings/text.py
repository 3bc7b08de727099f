"""The settings that every task with text as its output has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from rlseq_envs.settings.base import Settings
from rlseq_envs.settings.rules import (
    Limit,
    NonNegativeFloat,
    Range,
    RewardName,
    Seconds,
    Tokens,
    wrong_weights,
)

Units = Literal["subword", "word", "character"]
SubwordModel = Literal["bpe", "unigram"]
Smoothing = Literal["none", "floor", "add-k", "exp"]
Metric = Literal["BLEU", "chrF", "TER", "BLEU-lc", "BLEU-1", "CIDEr-D", "WER", "CER"]

TEXT_REWARDS = (
    *("bleu", "cider", "chrf", "gleu", "rouge_l", "exact_match", "length_ratio"),
    *("neg_ter", "neg_wer", "neg_cer", "neg_repetition"),
)
NEED_REFERENCES = frozenset(TEXT_REWARDS) - {"neg_repetition"}
# Keys that change one reward alone, and that reward.
REWARD_OPTIONS = {
    **{"smoothing": "bleu", "smoothing_value": "bleu", "repetition_order": "neg_repetition"},
    **{"chrf_char_order": "chrf", "chrf_word_order": "chrf", "chrf_beta": "chrf"},
}

VocabularySize = Annotated[int, Range(ge=3), Limit(10**7)]
_ORDERS = Limit(1000)  # of n-grams
TextReward = Annotated[str, RewardName(TEXT_REWARDS)]


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How rewards of text are computed."""

    # Any of sacrebleu's; of bleu, cider, gleu, rouge_l, length_ratio, neg_repetition, BLEU and CIDEr-D.
    reward_tokenizer: str = "13a"
    lowercase: bool = False  # lower-case what is read, and compare without case; neg_ter always compares so
    smoothing: Smoothing = "exp"  # of bleu
    smoothing_value: NonNegativeFloat | None = None  # for floor and add-k; default: sacrebleu's
    chrf_char_order: Annotated[int, Range(gt=0), _ORDERS] = 6  # longest n-grams of characters
    chrf_word_order: Annotated[int, Range(ge=0), _ORDERS] = 0  # longest n-grams of words; 2: chrF++
    chrf_beta: Annotated[int, Range(gt=0), Limit(10**6)] = 2  # how much more recall weighs than precision
    repetition_order: Annotated[int, Range(gt=0), _ORDERS] = 4  # length of the n-grams that neg_repetition counts


@dataclass(frozen=True, kw_only=True)
class TextSettings(TextOptions, Settings):
    """What is emitted, what it is worth and how it is measured.

    Attributes:
        selection_metric: Picks the best checkpoint, so that ``metrics`` must hold it.
    """

    selection_metric: ClassVar[Metric] = "BLEU"

    units: Units = "subword"  # what a token is
    subword_model: SubwordModel = "bpe"  # how subwords are found: by merges, or as a unigram model
    vocabulary_size: VocabularySize = 6000  # most tokens of a vocabulary, END and the unknown one included
    max_length: Tokens = 80  # tokens of an output, END included
    reward: dict[TextReward, NonNegativeFloat] = field(default_factory=lambda: {"bleu": 1.0})  # weights of the mixture
    reward_timeout: Seconds = 60.0  # seconds that one call of a user's reward may take
    # BLEU-lc: without case; BLEU-1: of single words; CIDEr-D: what is measured says itself what is rare; WER, CER:
    # edits per word and per character
    metrics: tuple[Metric, ...] = ("BLEU", "chrF", "TER")

    def conflicts(self) -> Iterator[str]:
        """See the base class."""
        yield from wrong_weights(self.reward, TEXT_REWARDS)
        for key, reward in REWARD_OPTIONS.items():
            value = getattr(self, key)
            if value != type(self).__dataclass_fields__[key].default and reward not in self.reward:
                yield f"{key} is {value}, but reward has no {reward}: add it, or leave {key} out"
        if self.selection_metric not in self.metrics:
            yield f"metrics must hold {self.selection_metric}, which picks the best checkpoint: add it"
