"""The typed configuration of an experiment: one class a section, every key documented beside its default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from rlseq.config.mle import MLEConfig
from rlseq.config.phases import Phase, PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.config.section import Fraction, Section
from rlseq_envs.settings import TaskSettings, TranslationSettings

TaskConfig = Annotated[TaskSettings, Field(discriminator="type")]  # their keys: rlseq_envs/settings


# -------------------------------------------------------------------------------------------------------- policy
MatchFunction = Literal["additive", "bilinear", "dot", "scaled_dot", "cosine"]


class AttentionPolicyConfig(Section):
    """Attention encoder–decoder: bidirectional LSTM encoder, LSTM decoder."""

    type: Literal["attention"]
    embedding_size: PositiveInt = 256  # width of an embedded token, and of the attentional vector
    hidden_size: PositiveInt = 384  # of the decoder; each encoder direction has half of it
    encoder_layers: PositiveInt = 1  # bidirectional layers, one on the other
    match: MatchFunction = "bilinear"  # how well a decoder state and an encoder state match (Luong et al. 2015)
    feed_context: bool = True  # the attentional vector joins the next step's input (input feeding)
    dropout: Fraction = 0.3  # of embeddings, between layers, and of what the output reads
    word_dropout: Fraction = 0.0  # of whole tokens, on either side
    tie_embeddings: bool = True  # the output layer's weights are the target's embeddings
    share_embeddings: bool = False  # the source's embeddings are the target's; needs one vocabulary for both
    forget_bias: float = 1.0  # first bias of the LSTMs' forget gates (Jozefowicz et al. 2015)
    # The decoder's: mapped from the encoder's last states, or learned.
    first_state: Literal["encoder", "learned"] = "encoder"


class PointerPolicyConfig(Section):
    """Pointer network: the attention over the input is the output distribution."""

    type: Literal["pointer"]
    hidden_size: PositiveInt = 128  # of the decoder; each encoder direction has half of it
    encoder_layers: PositiveInt = 1  # bidirectional layers, one on the other
    match: MatchFunction = "additive"  # how well a decoder state and an encoder state match (Bahdanau et al. 2015)
    feed_context: bool = False  # an attention read (glimpse) joins the next step's input
    mask_revisits: bool = False  # forbid a point that was already emitted
    dropout: Fraction = 0.0  # of embedded points, between layers, and of encoder states
    forget_bias: float = 1.0  # first bias of the LSTMs' forget gates (Jozefowicz et al. 2015)
    # The decoder's: mapped from the encoder's last states, or learned.
    first_state: Literal["encoder", "learned"] = "encoder"


PolicyConfig = Annotated[AttentionPolicyConfig | PointerPolicyConfig, Field(discriminator="type")]


class EvaluationConfig(Section):
    """Validation during training and the final figures."""

    batch_size: PositiveInt = 200  # instances decoded together
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

    # Of the experiment; run directories begin with it.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: NonNegativeInt = 0  # decides weights, batches and samples
    output: str = "runs"  # run directories are made in it
    log_every: PositiveInt = 20  # updates between log lines and TensorBoard points
    task: TaskConfig  # what is to be generated, and what it is worth
    policy: PolicyConfig  # the network
    mle: MLEConfig  # the first phase: cross-entropy
    rl: RLConfig  # the second phase: the reward
    evaluation: EvaluationConfig = EvaluationConfig()  # validation, and the figures in the end
    compute: ComputeConfig = ComputeConfig()  # where the work is done
    checkpoint: CheckpointConfig = CheckpointConfig()  # what is kept

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
        if sharing and isinstance(self.task, TranslationSettings) and not self.task.shared_vocabulary:
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
