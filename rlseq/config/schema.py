"""The typed configuration of an experiment: one class a section, every key documented beside its default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    WithJsonSchema,
    model_validator,
)

from rlseq.config.mle import MLEConfig
from rlseq.config.phases import Phase, PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.config.section import Fraction, Section

Paths = str | list[str] | None
HULL_REWARDS = ("valid", "edge_f1", "coverage")
IMPORT_PATH = r"([A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*"
TEXT_REWARDS = (
    *("bleu", "chrf", "gleu", "rouge_l", "exact_match", "length_ratio"),
    *("neg_ter", "neg_wer", "neg_cer", "neg_repetition"),
)


# ---------------------------------------------------------------------------------------------------------- task
# Keys that change one reward alone, and that reward.
TEXT_OPTIONS = {
    **{"smoothing": "bleu", "smoothing_value": "bleu", "repetition_order": "neg_repetition"},
    **{"chrf_char_order": "chrf", "chrf_word_order": "chrf", "chrf_beta": "chrf"},
}


def _check_reward_name(known: tuple[str, ...], name: str) -> str:
    """A reward is one of ``known``, or a function of the user's own by its import path."""
    if name not in known and not re.fullmatch(IMPORT_PATH, name):
        raise ValueError(f"no reward is called {name!r}")
    return name


def _describe_reward_name(known: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "string", "enum": [*known, "package.module:function"]}


HullReward = Annotated[
    str,
    AfterValidator(partial(_check_reward_name, HULL_REWARDS)),
    WithJsonSchema(_describe_reward_name(HULL_REWARDS)),
]
TextReward = Annotated[
    str,
    AfterValidator(partial(_check_reward_name, TEXT_REWARDS)),
    WithJsonSchema(_describe_reward_name(TEXT_REWARDS)),
]


def _check_weights(reward: Mapping[str, float]) -> None:
    if not any(reward.values()):
        raise ValueError("reward: give at least one component a weight above 0")


class ConvexHullConfig(Section):
    """`rlseq/ConvexHull-v0`: points in, hull vertices out."""

    type: Literal["convex_hull"]
    min_points: PositiveInt = 5
    max_points: PositiveInt = 10
    test_points: tuple[PositiveInt, PositiveInt] | None = None  # range of n in the test set; default: as in training
    reward: dict[HullReward, NonNegativeFloat] = Field({"valid": 1.0})  # weights of the mixture
    reward_timeout: PositiveFloat = 60.0  # seconds that one call of a reward of one's own may take
    train_file: str | None = None  # Pointer Networks text format or .npy; default: endless random points
    validation_file: str | None = None
    test_file: str | None = None
    train_size: PositiveInt | None = None  # most sets to train on, the first of a file; default: all, or endless
    rl_file: str | None = None  # sets that rl is trained on, without labels; default: those of cross-entropy
    rl_generated: bool = False  # without rl_file, train rl on endless generated sets, which are in no other split
    validation_size: PositiveInt = 4000
    test_size: PositiveInt = 10000
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _ranges(self) -> ConvexHullConfig:
        if self.min_points > self.max_points:
            raise ValueError(f"min_points {self.min_points} is larger than max_points {self.max_points}")
        _check_weights(self.reward)
        return self


class TranslationConfig(Section):
    """`rlseq/Translation-v0`: a sentence in, a sentence out."""

    type: Literal["translation"]
    corpus: Literal["files", "cldr"] = "cldr"  # cldr: made from Unicode's locale data, nothing to download
    train_source: str | None = None  # plain text or .gz, one sentence a line
    train_target: Paths = None  # several files are several references; the first is trained on
    validation_source: str | None = None
    validation_target: Paths = None
    test_source: str | None = None
    test_target: Paths = None
    rl_source: str | None = None  # sources that rl is trained on; default: those of cross-entropy
    rl_target: Paths = None  # their references; without any, only rewards that read none can be used
    cldr_source_locale: str = "en"
    cldr_target_locale: str = "de"
    cldr_sizes: tuple[PositiveInt, PositiveInt, PositiveInt] = (20000, 1000, 1000)  # train, validation, test
    units: Literal["subword", "word", "character"] = "subword"
    subword_model: Literal["bpe", "unigram"] = "bpe"
    subword_dropout: Fraction = 0.0  # of merges, anew each time a pair is trained on (BPE-dropout); for bpe, in mle
    vocabulary_size: PositiveInt = 6000
    shared_vocabulary: bool = True  # one vocabulary for both languages
    max_length: PositiveInt = 80  # tokens of a target, END included
    max_source_length: PositiveInt = 100
    lowercase: bool = False
    reward: dict[TextReward, NonNegativeFloat] = Field({"bleu": 1.0})  # weights of the mixture
    reward_timeout: PositiveFloat = 60.0  # seconds that one call of a reward of one's own may take
    reward_tokenizer: str = "13a"  # any of sacrebleu's; of bleu, gleu, rouge_l, length_ratio, neg_repetition and BLEU
    smoothing: Literal["exp", "floor", "add-k", "none"] = "exp"  # of bleu
    smoothing_value: float | None = None
    chrf_char_order: PositiveInt = 6  # longest n-grams of characters
    chrf_word_order: NonNegativeInt = 0  # longest n-grams of words; 2: chrF++
    chrf_beta: PositiveInt = 2  # how much more recall weighs than precision
    repetition_order: PositiveInt = 4  # length of the n-grams that neg_repetition counts
    metrics: tuple[Literal["BLEU", "chrF", "TER", "BLEU-lc"], ...] = ("BLEU", "chrF", "TER")  # BLEU-lc: without case
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _files(self) -> TranslationConfig:
        names = [f"{split}_{side}" for split in ("train", "validation", "test", "rl") for side in ("source", "target")]
        given = [name for name in names if getattr(self, name)]
        if self.corpus == "files" and (missing := [n for n in names[:4] if n not in given]):
            raise ValueError(f"corpus is 'files' and {', '.join(missing)} is not given")
        if self.subword_dropout and (self.units, self.subword_model) != ("subword", "bpe"):
            raise ValueError("subword_dropout leaves out merges: it needs units 'subword' and subword_model 'bpe'")
        if self.corpus == "cldr" and given:
            raise ValueError(f"{', '.join(given)} given, but corpus is 'cldr': set corpus to 'files'")
        return self

    @model_validator(mode="after")
    def _reward_options(self) -> TranslationConfig:
        _check_weights(self.reward)
        for key, name in TEXT_OPTIONS.items():
            value = getattr(self, key)
            if value != type(self).model_fields[key].default and name not in self.reward:
                raise ValueError(f"{key} is {value}, but reward has no {name}: add it, or leave {key} out")
        return self


class CustomTaskConfig(Section):
    """A task registered by the user's own package."""

    type: Literal["custom"]
    id: str  # "package.module:namespace/Name-v0", as gymnasium.make takes it
    arguments: dict[str, Any] = Field({})


TaskConfig = Annotated[ConvexHullConfig | TranslationConfig | CustomTaskConfig, Field(discriminator="type")]


# -------------------------------------------------------------------------------------------------------- policy
MatchFunction = Literal["additive", "bilinear", "dot", "scaled_dot", "cosine"]


class AttentionPolicyConfig(Section):
    """Attention encoder–decoder: bidirectional LSTM encoder, LSTM decoder."""

    type: Literal["attention"]
    embedding_size: PositiveInt = 256
    hidden_size: PositiveInt = 384  # of the decoder; each encoder direction has half of it
    encoder_layers: PositiveInt = 1
    match: MatchFunction = "bilinear"
    feed_context: bool = True  # the attentional vector joins the next step's input (input feeding)
    dropout: Fraction = 0.3
    word_dropout: Fraction = 0.0  # of whole tokens, on either side
    tie_embeddings: bool = True  # the output layer's weights are the target's embeddings
    share_embeddings: bool = False  # the source's embeddings are the target's; needs one vocabulary for both
    forget_bias: float = 1.0
    first_state: Literal["encoder", "learned"] = "encoder"


class PointerPolicyConfig(Section):
    """Pointer network: the attention over the input is the output distribution."""

    type: Literal["pointer"]
    hidden_size: PositiveInt = 128
    encoder_layers: PositiveInt = 1
    match: MatchFunction = "additive"
    feed_context: bool = False  # an attention read (glimpse) joins the next step's input
    mask_revisits: bool = False  # forbid a point that was already emitted
    dropout: Fraction = 0.0
    forget_bias: float = 1.0
    first_state: Literal["encoder", "learned"] = "encoder"


PolicyConfig = Annotated[AttentionPolicyConfig | PointerPolicyConfig, Field(discriminator="type")]


class EvaluationConfig(Section):
    """Validation during training and the final figures."""

    batch_size: PositiveInt = 200
    max_instances: PositiveInt | None = None  # of the validation set; default: all
    samples_shown: NonNegativeInt = 8  # rows in the table of samples, figures in TensorBoard


class ComputeConfig(Section):
    """Where the work is done."""

    runners: NonNegativeInt = 0  # environment runners; 0: in the driver
    learners: NonNegativeInt = 0  # learners (data parallel); 0: in the driver
    runner_gpus: NonNegativeFloat = 0.0  # GPUs of each runner
    learner_gpus: NonNegativeFloat = 0.0  # GPUs of each learner
    address: str | None = None  # of a running Ray cluster; default: this machine
    device: Literal["auto", "cpu", "cuda"] = "auto"  # of work done in the driver
    threads: PositiveInt | None = None  # torch threads a process; default: the cores divided among the processes
    shard_size: PositiveInt = 32  # instances encoded and decoded together in rl; fixed, whoever the workers are
    timeout: PositiveFloat = 600.0  # seconds before a silent worker counts as lost


class CheckpointConfig(Section):
    """What is kept."""

    every: PositiveInt = (
        1000  # updates between checkpoints that can be resumed; also at each validation's best and at the end
    )
    keep: PositiveInt = 2  # newest ones kept besides best


class Config(Section):
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: NonNegativeInt = 0
    output: str = "runs"  # run directories are made in it
    log_every: PositiveInt = 20  # updates between log lines and TensorBoard points
    task: TaskConfig
    policy: PolicyConfig
    mle: MLEConfig
    rl: RLConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    compute: ComputeConfig = ComputeConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    def phase(self, name: Phase) -> PhaseConfig:
        """The section of a phase."""
        return self.mle if name == "mle" else self.rl

    @model_validator(mode="after")
    def _policy_fits_task(self) -> Config:
        expected = {"convex_hull": "pointer", "translation": "attention"}.get(self.task.type)
        if expected and self.policy.type != expected:
            raise ValueError(
                f"policy.type {self.policy.type!r} cannot do task.type {self.task.type!r}: use {expected!r}"
            )
        sharing = isinstance(self.policy, AttentionPolicyConfig) and self.policy.share_embeddings
        if sharing and isinstance(self.task, TranslationConfig) and not self.task.shared_vocabulary:
            raise ValueError("policy.share_embeddings needs one vocabulary: set task.shared_vocabulary to true")
        return self

    @model_validator(mode="after")
    def _attention_is_no_output(self) -> Config:
        if self.mle.attention_regularization and self.policy.type == "pointer":
            raise ValueError(
                "mle.attention_regularization would have every position pointed at alike: the attention of policy.type "
                "'pointer' is its output; set it to 0"
            )
        return self
