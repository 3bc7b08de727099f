"""The mle phase: cross-entropy on references."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rlseq.config.phases import PhaseConfig
from rlseq.config.section import Fraction, Section, UnitInterval
from rlseq_envs.settings.rules import NonNegativeFloat, PositiveFloat


class ScheduledSamplingConfig(Section):
    """Scheduled sampling: the reference's token is the next input with probability p, the policy's otherwise.

    p of update i of the phase, from 0, by Bengio et al. 2015, sec. 2.4: ``linear`` max(ε, k − c i), at most 1;
    ``exponential`` kⁱ; ``inverse_sigmoid`` k / (k + exp(i / k)).
    """

    schedule: Literal["none", "linear", "exponential", "inverse_sigmoid"] = "none"  # none: p is 1, teacher forcing
    constant: PositiveFloat = 1.0  # k; of exponential below 1, of inverse_sigmoid 1 or more
    slope: NonNegativeFloat = 0.0  # c, of linear: what p falls by in an update
    epsilon: UnitInterval = 0.0  # ε, of linear: the least p
    per: Literal["token", "sequence"] = "token"  # what one toss decides on: a single input, or all of a sequence
    own: Literal["sample", "greedy"] = "sample"  # the policy's token: drawn from its distribution, or the likeliest

    @model_validator(mode="after")
    def _constants(self) -> ScheduledSamplingConfig:
        changed = [
            name
            for name in ("constant", "slope", "epsilon")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.schedule == "none" and changed:
            raise ValueError(
                f"{', '.join(changed)} given without a schedule: set schedule to linear, exponential or inverse_sigmoid"
            )
        if self.schedule == "linear":
            self._check_linear()
        elif unused := [name for name in changed if name != "constant"]:
            raise ValueError(
                f"{', '.join(unused)} given, but schedule is {self.schedule!r}: slope and epsilon are of 'linear'"
            )
        if self.schedule == "exponential" and self.constant >= 1.0:
            raise ValueError(f"constant is {self.constant:g}, and p, its power, has to fall: give less than 1")
        if self.schedule == "inverse_sigmoid" and self.constant < 1.0:
            raise ValueError(f"constant is {self.constant:g}, and p = k / (k + exp(update / k)) needs k of 1 or more")
        return self

    def _check_linear(self) -> None:
        if self.epsilon > self.constant:
            raise ValueError(
                f"epsilon {self.epsilon:g} is above constant {self.constant:g}, where p begins: give at most that"
            )
        if not self.slope and self.constant >= 1.0:
            raise ValueError("slope is 0, so p stays 1: give slope above 0, or constant below 1")


class MLEConfig(PhaseConfig):
    """Cross-entropy with teacher forcing, or with what takes its place."""

    normalization: Literal["sequence", "token", "constant"] = "token"
    # Probability spread evenly over all tokens, the reference's keeps the rest (Szegedy et al. 2016).
    label_smoothing: Fraction = 0.0
    # The policy's tokens in place of some of the reference's.
    scheduled_sampling: ScheduledSamplingConfig = ScheduledSamplingConfig()
    # What the decoder reads next: a token, or its expected embedding under the policy. Decoding feeds
    # tokens in any case, so 'distribution' trains on inputs that are never met again: it is here for comparison.
    feed: Literal["token", "distribution"] = "token"
    # Weight of Σ_i (τ − Σ_t α_ti)²: every source position is to get the same attention τ, learned, over all
    # steps (Xu et al. 2015, eq. 14, with τ 1); not with an output that points.
    attention_regularization: NonNegativeFloat = 0.0

    @property
    def title(self) -> str:
        """What is trained, as people call it."""
        return "cross-entropy"

    @model_validator(mode="after")
    def _inputs(self) -> MLEConfig:
        if self.feed == "distribution" and self.scheduled_sampling.schedule != "none":
            raise ValueError(
                "feed 'distribution' feeds no tokens, and scheduled_sampling chooses among them: "
                "set feed to 'token' or scheduled_sampling.schedule to 'none'"
            )
        return self
