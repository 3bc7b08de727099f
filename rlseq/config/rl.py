"""The rl phase: what is made of the task's reward."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from rlseq.config.monitors import MonitorsConfig
from rlseq.config.phases import OptimizerConfig, PhaseConfig
from rlseq.config.section import Fraction, PositiveShare, Precision, Section, Share


class CriticConfig(Section):
    """A network that predicts the reward to come at each token of a sequence, from the decoder's state before it."""

    hidden_size: PositiveInt = 64
    weight: PositiveFloat = 0.5  # of its mean squared error beside the objective; no gradient reaches the policy
    # Rewards come token by token, as increments of what the task says the tokens so far are worth: their sum, and so
    # what is optimised, is the same. Otherwise all of it comes with the last token.
    shaped: bool = False
    # λ of generalised advantage estimation (Schulman et al. 2016): 1 compares the rewards to come with the critic's
    # prediction, which is unbiased; less trusts its later predictions in place of far rewards: less noise, its errors.
    gae_lambda: Share = 1.0


class MRTConfig(Section):
    """Minimum risk training: the expected −reward under the policy renormalised over an instance's candidates."""

    alpha: PositiveFloat = 5e-3  # sharpness: the power that probabilities are raised to before they are renormalised
    reference: bool = True  # the reference is a candidate beside the samples


class MixerConfig(Section):
    """The first tokens of a sequence are the reference's, learnt by cross-entropy; the policy samples the others."""

    step: PositiveInt = 2  # tokens at the reference's end, END counted, that are sampled at first, and more each time
    every: PositiveInt = 500  # updates between steps of the boundary towards the first token


class PPOConfig(Section):
    """Several optimiser steps on one batch of rollouts, held near the policy that sampled it by clipping."""

    epochs: PositiveInt = 4  # times that an update goes through its batch, all at the update's learning rate
    # Parts of the batch, an optimiser step each; every epoch divides the instances anew, at random. A step costs less
    # than one on the whole batch, and its gradient is noisier.
    minibatches: PositiveInt = 1
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2  # ratios further than this from 1 are not rewarded
    # How far above 1 a ratio is rewarded; null: clip. More lets improbable tokens rise (DAPO, Yu et al. 2025).
    clip_high: PositiveFloat | None = None
    # Of a token's probabilities, or the geometric mean over a sequence's tokens, which wants a smaller clip (GSPO).
    ratio: Literal["token", "sequence"] = "token"


def _read_switch(value: object) -> object:
    """``true`` of earlier versions is ``batch``, ``false`` is ``none``."""
    return ("none", "batch")[value] if isinstance(value, bool) else value


_TITLES = {
    "reinforce": "REINFORCE",
    "mixer": "MIXER",
    "mrt": "minimum risk",
    "ppo": "PPO",
    "self_training": "self-training",
}


class RLConfig(PhaseConfig):
    """An objective made of the task's reward: REINFORCE, unless another is asked for."""

    # self_training: cross-entropy on the policy's greedy outputs, with no reward; a control of what rewards bring.
    objective: Literal["reinforce", "mixer", "mrt", "ppo", "self_training"] = "reinforce"
    mixer: MixerConfig = MixerConfig()
    mrt: MRTConfig = MRTConfig()
    ppo: PPOConfig = PPOConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4)
    baseline: Literal["greedy", "none", "mean", "leave_one_out", "running_mean", "critic"] = "greedy"
    critic: CriticConfig = CriticConfig()
    baseline_decay: Fraction = 0.95  # of running_mean, the moving average of earlier updates' mean rewards
    # Where the instances come from: 'task', those that the task has for rl; 'train', those of cross-entropy.
    instances: Literal["task", "train"] = "task"
    # What training sees as rewards. Controls have 'constant': 1 for every sequence, or 'shuffled': those of a batch,
    # permuted over its instances at random. What is reported and what validation measures is the task's reward.
    reward_source: Literal["task", "constant", "shuffled"] = "task"
    # Rewards are clipped to these bounds, in the task's own units, and then multiplied by the scale: this is what the
    # baseline and the advantages are made of. Validation and the reported rewards are not touched.
    reward_clip: tuple[float, float] | None = None
    reward_scale: PositiveFloat = 1.0
    samples: PositiveInt = 1  # sequences sampled an instance
    # Of sampling, in this order; samples are scored under the same law, renormalised and with its support held fixed.
    temperature: PositiveFloat = 1.0
    top_k: Annotated[int, Field(ge=2)] | None = None  # draw among the likeliest choices only (1 would teach nothing)
    top_p: PositiveShare = 1.0  # draw among the fewest likeliest choices that hold this probability (nucleus)
    sampling_precision: Precision = "fp32"  # of the matrix products that decode what is trained on
    # bf16 has samples drawn under a law a little beside the one they are scored under: each is then weighted by the
    # ratio of its probabilities, cut here (Ionides 2008).
    importance_cap: Annotated[float, Field(ge=1.0)] = 2.0
    dropout: bool = False  # while scoring; never while decoding
    # What advantages are divided by: 'batch', their standard deviation over the batch; 'instance', that of the rewards
    # of the instance's samples (GRPO, Shao et al. 2024). 'instance' is biased: it weighs an instance by 1 / standard
    # deviation, so nearly solved and nearly hopeless instances count more (Liu et al. 2025, Dr. GRPO).
    normalize_advantage: Annotated[Literal["none", "batch", "instance"], BeforeValidator(_read_switch)] = "none"
    # An instance whose samples all have the same reward teaches nothing, and other instances can take its place (DAPO,
    # Yu et al. 2025): most further draws an update, each as large as the batch; 0: none.
    dynamic_sampling: NonNegativeInt = 0
    # The first token of a sample: the policy's, or one of the right ones that the task names, another for each sample
    # (POMO, Kwon et al. 2020). A given token is not trained.
    starts: Literal["policy", "task"] = "policy"
    cross_entropy: NonNegativeFloat = 0.0  # weight of a share of cross-entropy on the references
    kl: NonNegativeFloat = 0.0  # weight of KL(policy ‖ mle policy) on the sampled states, over all choices
    entropy: NonNegativeFloat = 0.0  # weight of an entropy bonus, of the law that is sampled from
    variance_every: NonNegativeInt = 0  # updates between estimates of the gradient's variance: two more passes; 0: none
    # A validation this far (in the selection metric's units) below the best is a collapse: back to the best
    # checkpoint, with the learning rate multiplied by recovery_factor; after max_recoveries the phase ends.
    collapse_tolerance: PositiveFloat = 2.0
    recovery_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    max_recoveries: NonNegativeInt = 3
    monitors: MonitorsConfig = MonitorsConfig()  # alarms about what is sampled and validated

    @property
    def title(self) -> str:
        """What is trained, as people call it."""
        return _TITLES[self.objective]

    @property
    def uses_dropout(self) -> bool:
        """Whether the policy is scored with dropout."""
        return self.dropout

    @property
    def encodes_once(self) -> bool:
        """Whether an update reads the sources as its rollouts did, so that one pass of the encoder serves both."""
        whole = self.minibatches == 1 and not self.dynamic_sampling  # an update reads all that was rolled out
        return whole and not self.dropout and self.precision == "fp32"

    @property
    def epochs(self) -> int:
        """How many times an update goes through its batch."""
        return self.ppo.epochs if self.objective == "ppo" else 1

    @property
    def minibatches(self) -> int:
        """How many parts an epoch divides the batch into; each part is an optimiser step."""
        return self.ppo.minibatches if self.objective == "ppo" else 1

    def sampled_tokens(self, phase_update: int) -> int | None:
        """How many tokens at the reference's end an update leaves to the policy; None: all there are."""
        if self.objective != "mixer":
            return None
        return self.mixer.step * (1 + phase_update // self.mixer.every)

    def estimates_variance(self, phase_update: int) -> bool:
        """Whether an update draws a second batch of samples, to compare its gradient with the first one's."""
        return bool(self.variance_every) and phase_update % self.variance_every == 0

    @property
    def reshaped(self) -> bool:
        """Whether training sees other rewards than the task gives."""
        return self.reward_source != "task" or self.reward_clip is not None or self.reward_scale != 1.0

    @property
    def reads_references(self) -> list[str]:
        """The settings under which rl reads references, beside what the reward does."""
        reading = {
            "objective 'mixer'": self.objective == "mixer",
            "mrt.reference": self.objective == "mrt" and self.mrt.reference,
            "cross_entropy": self.cross_entropy > 0,
        }
        return [name for name, reads in reading.items() if reads]

    @property
    def reweighted(self) -> bool:
        """Whether samples are weighted because they are drawn under another law than they are scored under.

        Not in ppo, whose ratio is that of the two laws, nor in mrt, which has candidates and no samples.
        """
        return self.objective in ("reinforce", "mixer") and "bf16" in (self.precision, self.sampling_precision)

    @model_validator(mode="after")
    def _objective(self) -> RLConfig:
        for name, section in (("mixer", MixerConfig()), ("mrt", MRTConfig()), ("ppo", PPOConfig())):
            if self.objective != name and getattr(self, name) != section:
                raise ValueError(f"{name} is configured, but objective is {self.objective!r}: set it to {name!r}")
        if self.baseline != "critic" and self.critic != CriticConfig():
            raise ValueError(f"critic is configured, but baseline is {self.baseline!r}: set it to 'critic'")
        if self.baseline == "critic" and self.normalize_advantage != "none":
            raise ValueError(
                "baseline 'critic' is known only where an update is done: set normalize_advantage to 'none'"
            )
        if self.objective == "mrt":
            wrong = [
                *(["samples to 2 or more"] if self.samples < 2 else []),
                *(["baseline to 'none'"] if self.baseline != "none" else []),
                *(["normalize_advantage to 'none'"] if self.normalize_advantage != "none" else []),
                *(["normalization to 'sequence' or 'constant'"] if self.normalization == "token" else []),
            ]
            if wrong:
                raise ValueError(f"objective 'mrt' compares an instance's candidates alone: set {', '.join(wrong)}")
        if self.objective == "mixer" and self.reweighted:
            raise ValueError(
                "bf16 weights whole samples, and objective 'mixer' samples only their ends: "
                "set precision and sampling_precision to fp32"
            )
        if self.objective == "ppo" and self.dropout:
            raise ValueError("dropout would change the ratios of objective 'ppo' at random: set dropout to false")
        return self

    @model_validator(mode="after")
    def _rewards(self) -> RLConfig:
        wrong = []
        if self.objective == "self_training":
            wrong += [] if self.reward_source == "constant" else ["reward_source to 'constant'"]
            wrong += [] if self.samples == 1 else ["samples to 1"]
        if self.reward_source == "constant":
            wrong += [] if self.baseline == "none" else ["baseline to 'none'"]
            wrong += ["normalize_advantage to 'none'"] if self.normalize_advantage != "none" else []
            wrong += ["objective to 'reinforce' or 'ppo'"] if self.objective == "mrt" else []
        if wrong:
            what = "objective 'self_training'" if self.objective == "self_training" else "reward_source 'constant'"
            raise ValueError(f"{what} has no reward to compare: set {', '.join(wrong)}")
        if self.reward_source == "shuffled" and self.critic.shaped:
            raise ValueError("critic.shaped hands out the task's rewards, not the shuffled ones: set it to false")
        return self

    @model_validator(mode="after")
    def _samples(self) -> RLConfig:
        if self.baseline in ("leave_one_out", "mean") and self.samples < 2:
            raise ValueError(
                f"baseline {self.baseline!r} compares the samples of an instance: set samples to 2 or more"
            )
        if self.reward_clip is not None and self.reward_clip[0] >= self.reward_clip[1]:
            raise ValueError(
                f"reward_clip {list(self.reward_clip)}: give [lowest, highest], the first below the second"
            )
        return self

    @model_validator(mode="after")
    def _comparisons(self) -> RLConfig:
        asking = ["normalize_advantage 'instance'"] if self.normalize_advantage == "instance" else []
        asking += ["dynamic_sampling"] if self.dynamic_sampling else []
        wrong = [] if self.baseline in ("leave_one_out", "mean") else ["baseline to 'leave_one_out' or 'mean'"]
        if self.dynamic_sampling:
            wrong += [] if self.objective in ("reinforce", "ppo") else ["objective to 'reinforce' or 'ppo'"]
            wrong += [] if self.batch_type == "instance" else ["batch_type to 'instance'"]
        if asking and wrong:
            raise ValueError(f"{' and '.join(asking)} can compare only an instance's samples: set {', '.join(wrong)}")
        return self

    @model_validator(mode="after")
    def _starts(self) -> RLConfig:
        wrong = [] if self.objective in ("reinforce", "ppo") else ["objective to 'reinforce' or 'ppo'"]
        wrong += ["precision and sampling_precision to fp32"] if self.reweighted else []
        if self.starts == "task" and wrong:
            raise ValueError(f"starts 'task' gives first tokens that were not sampled: set {', '.join(wrong)}")
        return self

    @model_validator(mode="after")
    def _minibatches(self) -> RLConfig:
        if self.batch_type == "instance" and self.minibatches > self.batch_size:
            raise ValueError(
                f"ppo.minibatches {self.minibatches} is more than batch_size {self.batch_size} has instances: lower it"
            )
        return self

    @model_validator(mode="after")
    def _support(self) -> RLConfig:
        cut = [name for name, whole in (("top_k", None), ("top_p", 1.0)) if getattr(self, name) != whole]
        if cut and (self.objective == "mixer" or (self.objective == "mrt" and self.mrt.reference)):
            raise ValueError(
                f"{' and '.join(cut)} cut the law, while objective {self.objective!r} scores tokens of the reference "
                "outside, too: draw from the whole law"
            )
        if cut and "bf16" in (self.precision, self.sampling_precision):
            # A choice that rounding moves over the edge of the support has probability 0 under one of the two laws.
            raise ValueError(
                f"{' and '.join(cut)} cut the law, and bf16 would cut it elsewhere when drawing than when scoring: "
                "set precision and sampling_precision to fp32, or draw from the whole law"
            )
        return self
