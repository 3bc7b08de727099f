"""What an rl update minimises: one section an objective, and what each demands of the other keys of rl.

A new objective is a section here, a member of ``ObjectiveSection``, and a class in ``rlseq.objectives``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from pydantic import Field

from rlseq.config.section import BARE_WORD, Section, unmet
from rlseq_envs.settings.rules import Limit, PositiveFloat, PositiveInt, Range

if TYPE_CHECKING:
    from rlseq.config.rl import RLConfig


class ObjectiveConfig(Section):
    """An objective.

    Attributes:
        title: What is trained, as people call it.
        samples_sequences: Whether sequences are sampled; if not, the greedy ones are trained on.
        replaceable: Whether the loss is made of advantages of sampled tokens alone, so that other instances may take
            the place of some, and first tokens may be given.
        reweights: Whether samples are weighted if they are drawn from another distribution than they are scored under.
    """

    title: ClassVar[str]
    samples_sequences: ClassVar[bool] = True
    replaceable: ClassVar[bool] = False
    reweights: ClassVar[bool] = False
    type: str

    @property
    def passes(self) -> tuple[int, int]:
        """How often an update goes through its batch, and how many optimiser steps it takes each time."""
        return 1, 1

    @property
    def reads_references(self) -> list[str]:
        """What has the objective score references, in the user's words; empty if it reads none."""
        return []

    def sampled_tokens(self, phase_update: int) -> int | None:
        """How many tokens at the reference's end an update leaves to the policy; None: all there are."""
        return None

    def misfits(self, rl: RLConfig) -> list[str]:
        """What of the other keys does not go with the objective, each with its remedy."""
        return []


class ReinforceConfig(ObjectiveConfig):
    """REINFORCE: the log-probabilities of the samples, weighted with their advantages."""

    title = "REINFORCE"
    replaceable = True
    reweights = True
    type: Literal["reinforce"] = "reinforce"
    # bf16 has samples drawn from another distribution, if only a little, than they are scored under: each is then
    # weighted by the ratio of its probabilities, cut here (Ionides 2008).
    importance_cap: Annotated[float, Range(ge=1.0), Limit(1e38)] = 2.0


Step = Annotated[int, Range(gt=0), Limit(10**5)]  # tokens


class MixerConfig(ObjectiveConfig):
    """The first tokens of a sequence are the reference's, learnt by cross-entropy; the policy samples the others."""

    title = "MIXER"
    type: Literal["mixer"] = "mixer"
    step: Step = 2  # tokens at the reference's end, END counted, that are sampled at first, and more each time
    every: PositiveInt = 500  # updates between steps of the boundary towards the first token

    @property
    def reads_references(self) -> list[str]:
        """See the base class."""
        return ["objective 'mixer'"]

    def sampled_tokens(self, phase_update: int) -> int | None:
        """See the base class."""
        return self.step * (1 + phase_update // self.every)

    def misfits(self, rl: RLConfig) -> list[str]:
        """See the base class."""
        why = "objective 'mixer' samples only the ends of sequences, and bf16 weights whole ones"
        return unmet(why, {"precision and sampling_precision to fp32": not rl.rounds})


class MRTConfig(ObjectiveConfig):
    """Minimum risk training: the expected −reward under the policy renormalised over an instance's candidates."""

    title = "minimum risk"
    type: Literal["mrt"] = "mrt"
    alpha: PositiveFloat = 5e-3  # sharpness: the power that probabilities are raised to before they are renormalised
    reference: bool = True  # the reference is a candidate beside the samples

    @property
    def reads_references(self) -> list[str]:
        """See the base class."""
        return ["objective.reference"] if self.reference else []

    def misfits(self, rl: RLConfig) -> list[str]:
        """See the base class."""
        return unmet(
            "objective 'mrt' compares an instance's candidates alone",
            {
                "samples to 2 or more": rl.samples >= 2,
                "baseline to 'none'": rl.baseline.type == "none",
                "normalize_advantage to 'none'": rl.normalize_advantage == "none",
                "normalization to 'sequence' or 'constant'": rl.normalization != "token",
                "reward_source to 'task' or 'shuffled'": rl.reward_source != "constant",
            },
        )


class PPOConfig(ObjectiveConfig):
    """Several optimiser steps on one batch of rollouts, held near the policy that sampled it by clipping."""

    title = "PPO"
    replaceable = True
    type: Literal["ppo"] = "ppo"
    epochs: PositiveInt = 4  # times that an update goes through its batch, all at the update's learning rate
    # Parts of the batch, an optimiser step each; every epoch divides the instances anew, at random. A step costs less
    # than one on the whole batch, and its gradient is noisier.
    minibatches: PositiveInt = 1
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2  # ratios further than this from 1 are not rewarded
    # How far above 1 a ratio is rewarded; null: clip. More lets improbable tokens rise (DAPO, Yu et al. 2025).
    clip_high: PositiveFloat | None = None
    # Of a token's probabilities, or the geometric mean over a sequence's tokens, which wants a smaller clip (GSPO).
    ratio: Literal["token", "sequence"] = "token"

    @property
    def passes(self) -> tuple[int, int]:
        """See the base class."""
        return self.epochs, self.minibatches

    @property
    def bounds(self) -> tuple[float, float]:
        """How far below 1 and how far above 1 a ratio is rewarded."""
        return self.clip, self.clip if self.clip_high is None else self.clip_high

    def misfits(self, rl: RLConfig) -> list[str]:
        """See the base class."""
        wrong = unmet(
            "objective 'ppo' compares probabilities, which dropout would change at random",
            {"dropout to false": not rl.dropout},
        )
        if rl.batch_type == "instance" and self.minibatches > rl.batch_size:
            wrong.append(
                f"objective.minibatches {self.minibatches} is more than batch_size {rl.batch_size} has instances: "
                "lower it"
            )
        return wrong


class SelfTrainingConfig(ObjectiveConfig):
    """Cross-entropy on the policy's greedy outputs, with no reward; a control of what rewards bring."""

    title = "self-training"
    samples_sequences = False
    type: Literal["self_training"] = "self_training"

    def misfits(self, rl: RLConfig) -> list[str]:
        """See the base class."""
        return unmet(
            "objective 'self_training' has no reward to compare",
            {
                "reward_source to 'constant'": rl.reward_source == "constant",
                "samples to 1": rl.samples == 1,
                "baseline to 'none'": rl.baseline.type == "none",
                "normalize_advantage to 'none'": rl.normalize_advantage == "none",
            },
        )


AnyObjective = ReinforceConfig | MixerConfig | MRTConfig | PPOConfig | SelfTrainingConfig
ObjectiveSection = Annotated[AnyObjective, Field(discriminator="type"), BARE_WORD]
OBJECTIVE_SECTIONS: tuple[type[ObjectiveConfig], ...] = get_args(AnyObjective)
