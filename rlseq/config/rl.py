"""The rl phase: what is made of the task's reward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import model_validator

from rlseq.config.baselines import BASELINE_SECTIONS, BaselineSection, CriticConfig, GreedyConfig
from rlseq.config.monitors import MonitorsConfig
from rlseq.config.objectives import OBJECTIVE_SECTIONS, ObjectiveSection, ReinforceConfig
from rlseq.config.phases import OptimizerConfig, PhaseConfig
from rlseq.config.section import PositiveFraction, Precision, Section, Temperature, unmet
from rlseq_envs.settings.rules import Limit, NonNegativeFloat, NonNegativeInt, Number, PositiveFloat, Range

TopK = Annotated[int, Range(ge=2), Limit(10**12)]


class RLConfig(PhaseConfig):
    """An objective made of the task's reward: REINFORCE, unless another is asked for."""

    objective: ObjectiveSection = ReinforceConfig()  # what an update minimises
    baseline: BaselineSection = GreedyConfig()  # what is subtracted from the rewards
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4)  # how weights are changed
    # Where the instances come from: 'task', those that the task has for rl; 'train', those of cross-entropy.
    instances: Literal["task", "train"] = "task"
    # What training sees as rewards. Controls have 'constant': 1 for every sequence, or 'shuffled': those of a batch,
    # permuted over its instances at random. What is reported and what validation measures is the task's reward.
    reward_source: Literal["task", "constant", "shuffled"] = "task"
    # Rewards are clipped to these bounds, in the task's units, and then multiplied by the scale: this is what the
    # baseline and the advantages are made of. Validation and the reported rewards are not touched.
    reward_clip: tuple[Number, Number] | None = None
    reward_scale: PositiveFloat = 1.0  # what rewards are multiplied by, once they are clipped
    samples: Annotated[int, Range(gt=0), Limit(10**4)] = 1  # sequences sampled an instance
    # Of sampling, in this order; samples are scored under the same distribution, renormalised and with its support held
    # fixed.
    temperature: Temperature = 1.0
    top_k: TopK | None = None  # draw among the likeliest choices only (1 would teach nothing)
    top_p: PositiveFraction = 1.0  # draw among the fewest likeliest choices that hold this probability (nucleus)
    sampling_precision: Precision = "fp32"  # of the matrix products that decode what is trained on
    dropout: bool = False  # while scoring; never while decoding
    # What advantages are divided by: 'batch', their standard deviation over the batch; 'instance', that of the rewards
    # of the instance's samples (GRPO, Shao et al. 2024). 'instance' is biased: it weighs an instance by 1 / standard
    # deviation, so nearly solved and nearly hopeless instances count more (Liu et al. 2025, Dr. GRPO).
    normalize_advantage: Literal["none", "batch", "instance"] = "none"
    # An instance whose samples all have the same reward teaches nothing, and other instances can take its place (DAPO,
    # Yu et al. 2025): most further draws an update, each as large as the batch; 0: none.
    dynamic_sampling: Annotated[int, Range(ge=0), Limit(1000)] = 0
    # The first token of a sample: the policy's, or one of the right ones that the task names, another for each sample
    # (POMO, Kwon et al. 2020). A given token is not trained.
    starts: Literal["policy", "task"] = "policy"
    cross_entropy: NonNegativeFloat = 0.0  # weight of cross-entropy on the references
    kl: NonNegativeFloat = 0.0  # weight of KL(policy ‖ mle policy) on the sampled states, over all choices
    entropy: NonNegativeFloat = 0.0  # weight of an entropy bonus, of the distribution that is sampled from
    variance_every: NonNegativeInt = 0  # updates between estimates of the gradient's variance: two more passes; 0: none
    # A validation this far (in the selection metric's units) below the best is a collapse: the phase recovers.
    collapse_tolerance: PositiveFloat = 2.0
    monitors: MonitorsConfig = MonitorsConfig()  # alarms about what is sampled and validated

    @property
    def title(self) -> str:
        """What is trained, as people call it."""
        return self.objective.title

    @property
    def uses_dropout(self) -> bool:
        """Whether the policy is scored with dropout."""
        return self.dropout

    @property
    def encodes_once(self) -> bool:
        """Whether an update reads the sources as its rollouts did, so that one pass of the encoder serves both."""
        at_once = self.minibatches == self.accumulation == 1
        whole = at_once and not self.dynamic_sampling  # an update reads all that was rolled out
        return whole and not self.dropout and self.precision == "fp32"

    @property
    def epochs(self) -> int:
        """How many times an update goes through its batch."""
        return self.objective.passes[0]

    @property
    def minibatches(self) -> int:
        """How many parts an epoch divides the batch into; each part is an optimiser step."""
        return self.objective.passes[1]

    @property
    def drawn(self) -> int:
        """How many sequences an update samples of an instance."""
        return self.samples if self.objective.samples_sequences else 0

    @property
    def decodes_greedy(self) -> bool:
        """Whether an update decodes the greedy sequence of an instance."""
        return not self.drawn or self.baseline.decodes_greedy

    @property
    def critic(self) -> CriticConfig | None:
        """The critic's section, if there is a critic."""
        return self.baseline if isinstance(self.baseline, CriticConfig) else None

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
        return self.objective.reads_references + (["cross_entropy"] if self.cross_entropy else [])

    @property
    def rounds(self) -> bool:
        """Whether products of less precision draw samples from another distribution than they are scored under."""
        return "bf16" in (self.precision, self.sampling_precision)

    @property
    def reweighted(self) -> bool:
        """Whether samples are weighted because they are drawn from another distribution than they are scored under."""
        return self.objective.reweights and self.rounds

    @model_validator(mode="after")
    def _fits(self) -> RLConfig:
        wrong = [*self.objective.misfits(self), *self.baseline.misfits(self)]
        wrong += [*self._reward_misfits(), *self._sampling_misfits(), *self._support_misfits()]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _reward_misfits(self) -> list[str]:
        wrong = []
        if self.reward_source == "constant" and self.objective.samples_sequences:
            wrong += unmet(
                "reward_source 'constant' has no reward to compare",
                {
                    "baseline to 'none'": self.baseline.type == "none",
                    "normalize_advantage to 'none'": self.normalize_advantage == "none",
                },
            )
        if self.reward_clip is not None and self.reward_clip[0] >= self.reward_clip[1]:
            wrong.append(f"reward_clip {list(self.reward_clip)}: give [lowest, highest], the first below the second")
        return wrong

    def _sampling_misfits(self) -> list[str]:
        compared = {
            f"baseline to {_types(b for b in BASELINE_SECTIONS if b.compares_samples)}": self.baseline.compares_samples
        }
        replaceable = {
            f"objective to {_types(o for o in OBJECTIVE_SECTIONS if o.replaceable)}": self.objective.replaceable
        }
        wrong, only = [], "can compare only an instance's samples"
        if self.normalize_advantage == "instance":
            wrong += unmet(f"normalize_advantage 'instance' {only}", compared)
        if self.dynamic_sampling:
            by_instance = {"batch_type to 'instance'": self.batch_type == "instance"}
            wrong += unmet(f"dynamic_sampling {only}", compared | replaceable | by_instance)
        if self.starts == "task":
            precise = {"precision and sampling_precision to fp32": not self.reweighted}
            wrong += unmet("starts 'task' gives first tokens that were not sampled", replaceable | precise)
        return wrong

    def _support_misfits(self) -> list[str]:
        cut = [name for name, whole in (("top_k", None), ("top_p", 1.0)) if getattr(self, name) != whole]
        if not cut:
            return []
        wrong, remedy = [], f"leave {' and '.join(cut)} out"
        if self.objective.reads_references:
            wrong.append(
                f"{' and '.join(cut)} cut the distribution, while objective {self.objective.type!r} scores tokens of "
                f"the reference outside, too: {remedy}"
            )
        if self.rounds:
            # A choice that rounding moves over the edge of the support has probability 0 under one of the two.
            wrong.append(
                f"{' and '.join(cut)} cut the distribution, and bf16 would cut it elsewhere when drawing than when "
                f"scoring: set precision and sampling_precision to fp32, or {remedy}"
            )
        return wrong


def _types(sections: Iterable[type[Section]]) -> str:
    """The types of sections in words: "'reinforce' or 'ppo'"."""
    return " or ".join(repr(section.model_fields["type"].default) for section in sections)
