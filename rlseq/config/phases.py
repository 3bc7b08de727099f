"""The two phases of a run, and the keys that both have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import Field

from rlseq.config.section import Batch, Fraction, Precision, Section, UnitInterval
from rlseq_envs.settings.rules import Limit, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class ScheduleConfig(Section):
    """Learning rate as a factor of the phase's peak: linear warm-up, then a decay towards ``final`` × the peak."""

    warmup: NonNegativeInt = 0  # updates
    # From the peak to the end of the phase.
    decay: Literal["constant", "linear", "cosine", "inverse_sqrt", "exponential"] = "constant"
    start: NonNegativeInt = 0  # update of the phase at which the decay starts (after the warm-up)
    final: UnitInterval = 0.0  # the rate in the end, as a factor of the peak


class OptimizerConfig(Section):
    """Adam (Kingma & Ba 2015), decoupled weight decay (Loshchilov & Hutter 2019) if any."""

    learning_rate: PositiveFloat = 1e-3  # the peak
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)  # decays of the means of gradients and of their squares
    eps: Annotated[float, Field(ge=1e-30), Limit(1e38)] = 1e-8  # added to the root of the mean square
    weight_decay: NonNegativeFloat = 0.0  # what a step takes off the weights, times the learning rate
    clip_norm: PositiveFloat | None = 1.0  # most that the gradient's norm may be; null: no limit
    schedule: ScheduleConfig = ScheduleConfig()  # of the learning rate


Phase = Literal["mle", "rl"]
PHASES: tuple[Phase, Phase] = ("mle", "rl")  # in the order in which a run goes through them


class PhaseConfig(Section, ABC):
    """What both phases share."""

    updates: NonNegativeInt  # most updates of this phase
    batch_size: Batch = 64  # instances an update, or the most tokens where batch_type is 'token'
    # 'token' fills a batch with instances of like length while instances × the longest source or reference among them,
    # END counted, is within batch_size; only where training data are finite. In rl, samples are not counted.
    batch_type: Literal["instance", "token"] = "instance"
    optimizer: OptimizerConfig = OptimizerConfig()  # how weights are changed
    validate_every: PositiveInt = 200  # updates between validations
    patience: PositiveInt | None = None  # validations without a new best before the phase stops
    # A loss, gradient or weight that is not finite, and a collapse in rl: back to the best checkpoint, with the
    # learning rate multiplied by this.
    recovery_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    max_recoveries: NonNegativeInt = 3  # recoveries after which a further one ends rl, or mle with an error
    average: Fraction = 0.0  # decay of the moving average of the weights that is validated and kept; 0: the weights
    # How the loss is normalised: 'sequence' sums over tokens and divides by the number of sequences (unbiased in
    # length), 'token' divides by the number of tokens, 'constant' by the number of sequences × normalizer.
    normalization: Literal["sequence", "token", "constant"] = "sequence"
    normalizer: PositiveFloat = 1.0  # of normalization 'constant', such as the usual length of a sequence
    # Parts that the rows of an optimiser step are read in, one after the other; their gradients are summed. The step
    # is the same, and takes less memory.
    accumulation: PositiveInt = 1
    precision: Precision = "fp32"  # of the matrix products of an update; weights, sums and steps are fp32 in any case

    @property
    @abstractmethod
    def title(self) -> str:
        """What is trained, as people call it."""

    @property
    def uses_dropout(self) -> bool:
        """Whether the policy is scored with dropout."""
        return True

    @property
    def encodes_once(self) -> bool:
        """Whether an update reads the sources as its rollouts did, so that one pass of the encoder serves both."""
        return False

    @property
    def epochs(self) -> int:
        """How many times an update goes through its batch."""
        return 1

    @property
    def minibatches(self) -> int:
        """How many parts an epoch divides the batch into; each part is an optimiser step."""
        return 1

    def loss_divisor(self, rows: int, tokens: int) -> float:
        """What the loss's sum over tokens is divided by, for so many sequences and tokens."""
        if self.normalization == "token":
            return float(tokens)
        return rows * self.normalizer if self.normalization == "constant" else float(rows)
