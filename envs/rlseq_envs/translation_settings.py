"""The settings of the translation task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rlseq_envs.rewards.smoothing import Smoothing
from rlseq_envs.rewards.text import NEED_REFERENCES, TextOptions
from rlseq_envs.task import SplitName
from rlseq_envs.text.vocabulary import SUBWORD_MODELS, UNITS, SubwordModel, Units

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
MADE_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")  # of the made corpus
METRICS = ("BLEU", "chrF", "TER")  # those computed unless others are asked for
ALL_METRICS = (*METRICS, "BLEU-lc")
SELECTION_METRIC = "BLEU"
# Settings that change one reward alone, and that reward.
REWARD_OPTIONS = {
    **{"smoothing": "bleu", "smoothing_value": "bleu", "repetition_order": "neg_repetition"},
    **{"chrf_char_order": "chrf", "chrf_word_order": "chrf", "chrf_beta": "chrf"},
}


@dataclass(frozen=True, kw_only=True)
class TranslationSettings:
    """Everything that defines a translation task.

    Attributes:
        train_source: File of the training sources, plain or .gz, one sentence a line.
        train_target: File of the training references; of several, the first is learnt from, all are rewarded.
        validation_source: Likewise for validation.
        validation_target: Likewise for validation.
        test_source: Likewise for the test.
        test_target: Likewise for the test.
        rl_source: File of the sources that rl is trained on; default: those of training.
        rl_target: Files of their references; without any, only rewards that read none can be used.
        corpus: "files", or "cldr" for a corpus made from Unicode's locale data; None is "cldr" when no file is named.
        cldr_source_locale: Locale of the sources of the made corpus.
        cldr_target_locale: Locale of its references.
        cldr_sizes: How many pairs are made for training, validation and test.
        units: What a token is.
        subword_model: Which sentencepiece model is learnt.
        subword_dropout: Probability that a merge is left out when a training pair is cut into subwords, on both sides,
            anew each time it is trained on (BPE-dropout, Provilkov et al. 2020); for subwords of the model "bpe".
        vocabulary_size: Most tokens of a vocabulary, END and the unknown token included.
        shared_vocabulary: One vocabulary for both sides.
        max_length: Longest output in tokens, END included.
        max_source_length: Longest source in tokens, END included.
        lowercase: Lower-case what is read, and compare without case.
        reward: Weight of each reward of ``TEXT_REWARDS``, and of functions of the user's own by import path.
        reward_timeout: Seconds that one call of such a function may take.
        reward_tokenizer: sacrebleu's name of the tokenizer behind the rewards that count tokens, and BLEU.
        smoothing: sacrebleu's name of the smoothing of the reward bleu.
        smoothing_value: For floor and add-k; None is sacrebleu's default.
        chrf_char_order: Longest n-grams of characters of the reward chrf.
        chrf_word_order: Longest n-grams of words; 2 is chrF++.
        chrf_beta: How much more recall weighs than precision.
        repetition_order: Length of the n-grams of the reward neg_repetition.
        metrics: The corpus metrics to compute, of ``ALL_METRICS``; BLEU-lc is BLEU without case.
        seed: Of the made corpus.
        artifacts: A directory with the vocabulary, written by ``save_artifacts``; then no corpus is needed to decode.
    """

    train_source: str | None = None
    train_target: str | Sequence[str] | None = None
    validation_source: str | None = None
    validation_target: str | Sequence[str] | None = None
    test_source: str | None = None
    test_target: str | Sequence[str] | None = None
    rl_source: str | None = None
    rl_target: str | Sequence[str] | None = None
    corpus: Literal["files", "cldr"] | None = None
    cldr_source_locale: str = "en"
    cldr_target_locale: str = "de"
    cldr_sizes: tuple[int, int, int] = (20000, 1000, 1000)
    units: Units = "subword"
    subword_model: SubwordModel = "bpe"
    subword_dropout: float = 0.0
    vocabulary_size: int = 6000
    shared_vocabulary: bool = True
    max_length: int = 80
    max_source_length: int = 100
    lowercase: bool = False
    reward: Mapping[str, float] = field(default_factory=lambda: {"bleu": 1.0})
    reward_timeout: float = 60.0
    reward_tokenizer: str = "13a"
    smoothing: Smoothing = "exp"
    smoothing_value: float | None = None
    chrf_char_order: int = 6
    chrf_word_order: int = 0
    chrf_beta: int = 2
    repetition_order: int = 4
    metrics: tuple[str, ...] = METRICS
    seed: int = 0
    artifacts: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError naming every setting that cannot be used."""
        faults = list(self._faults())
        if faults:
            raise ValueError("translation settings: " + "; ".join(faults))

    def _faults(self) -> Iterator[str]:
        choices: list[tuple[str, Any, Sequence[Any]]] = [
            ("corpus", self.corpus, ("files", "cldr", None)),
            ("units", self.units, UNITS),
            ("subword_model", self.subword_model, SUBWORD_MODELS),
            *(("metrics", metric, ALL_METRICS) for metric in self.metrics),
        ]
        minima = [("vocabulary_size", self.vocabulary_size, 3), ("max_length", self.max_length, 2)]
        minima += [
            ("max_source_length", self.max_source_length, 2),
            ("chrf_char_order", self.chrf_char_order, 1),
            ("chrf_word_order", self.chrf_word_order, 0),
            ("chrf_beta", self.chrf_beta, 1),
            ("repetition_order", self.repetition_order, 1),
            *(("cldr_sizes", size, 1) for size in self.cldr_sizes),
        ]
        for key, value, known in choices:
            if value not in known:
                yield f"{key} {value!r} is none of {', '.join(map(str, known))}"
        for key, value, least in minima:
            if value < least:
                yield f"{key} must be at least {least}, got {value}"
        if not 0 <= self.subword_dropout < 1:
            yield f"subword_dropout must be in [0, 1), got {self.subword_dropout}"
        if self.subword_dropout and (self.units, self.subword_model) != ("subword", "bpe"):
            yield "subword_dropout leaves out merges: it needs units 'subword' and subword_model 'bpe'"
        for field_, reward in REWARD_OPTIONS.items():
            if getattr(self, field_) != type(self).__dataclass_fields__[field_].default and reward not in self.reward:
                yield f"{field_} is {getattr(self, field_)!r}, but reward has no {reward}: add it"
        if SELECTION_METRIC not in self.metrics:
            yield f"metrics must hold {SELECTION_METRIC}, which picks the best checkpoint"
        yield from self._corpus_faults()

    def _corpus_faults(self) -> Iterator[str]:
        for split in SPLITS:
            missing = (self.source_file(split) is None) != (not self.target_files(split))
            if missing and (split != "rl" or self.source_file("rl") is None):
                yield f"{split}_source and {split}_target must be given together"
        reading = [name for name in self.reward if name in NEED_REFERENCES]
        if self.source_file("rl") and not self.target_files("rl") and reading:
            yield f"the reward {', '.join(reading)} reads references and rl_source has none: give rl_target"
        if self.corpus == "cldr" and self.names_files:
            yield "corpus is 'cldr', yet files are named"
        if self.corpus == "files" and not self.names_files and self.artifacts is None:
            yield "corpus is 'files', yet none is named"
        if self.names_files and self.train_source is None and self.artifacts is None:
            yield "train_source is needed to learn a vocabulary from, or artifacts with one"

    def source_file(self, split: SplitName) -> str | None:
        """The split's source file."""
        path: str | None = getattr(self, f"{split}_source")
        return path

    def target_files(self, split: SplitName) -> tuple[str, ...]:
        """The split's reference files."""
        paths: str | Sequence[str] | None = getattr(self, f"{split}_target")
        if paths is None:
            return ()
        return (paths,) if isinstance(paths, str) else tuple(paths)

    @property
    def reward_options(self) -> TextOptions:
        """How the rewards are computed."""
        return TextOptions(
            tokenizer=self.reward_tokenizer,
            lowercase=self.lowercase,
            smoothing=self.smoothing,
            smoothing_value=self.smoothing_value,
            chrf_char_order=self.chrf_char_order,
            chrf_word_order=self.chrf_word_order,
            chrf_beta=self.chrf_beta,
            repetition_order=self.repetition_order,
        )

    @property
    def names_files(self) -> bool:
        """Whether any split has a file."""
        return any(self.source_file(split) or self.target_files(split) for split in SPLITS)
