"""What every section of the configuration is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from rlseq_envs.settings.rules import Limit, Range
from rlseq_envs.spaces import Choices, Space

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
UnitInterval = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFraction = Annotated[float, Field(gt=0.0, le=1.0)]
Batch = Annotated[int, Range(gt=0), Limit(10**7)]  # instances or tokens that are worked on together
Width = Annotated[int, Range(gt=0), Limit(1 << 16)]  # units of a layer
Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]  # logits divided by much less would overflow
Precision = Literal["fp32", "bf16"]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values are not coerced, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PolicySection(Section):
    """A network of whatever type."""

    def misfits(self, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """What of it goes neither with its task nor with the rest of it.

        Args:
            sources: What the task's sources are made of; sizes may be unknown, 0.
            choices: What can be emitted.

        Returns:
            A line for each problem, with the key to be set and its value.
        """
        raise NotImplementedError

    @property
    def attention_is_output(self) -> bool:
        """Whether attention is the distribution of the next token."""
        return False

    @property
    def free_keys(self) -> frozenset[str]:
        """Its keys, dotted, that no weight depends on: who goes on from a checkpoint may change them."""
        raise NotImplementedError

    @property
    def own_parts(self) -> Mapping[str, Any]:
        """The classes of the user's, by slot."""
        return {}

    def described(self) -> dict[str, Any]:
        """What it is in a few words and sizes, JSON-ready."""
        raise NotImplementedError


def _section_of(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


# Beside a union of sections told apart by their `type`: a bare word `ppo` means `{type: ppo}`.
BARE_WORD = BeforeValidator(_section_of)


def default_type(kind: str) -> Any:
    """Beside a union of sections told apart by their ``type``: a section that says none is of this one."""
    return Field(discriminator="type", json_schema_extra={"default_type": kind})


def unmet(what: str, demands: Mapping[str, bool]) -> list[str]:
    """One line that names the remedies of the demands that are not met; no line if all are met.

    Args:
        what: Subject and verb: what is asked for, and why it asks for more.
        demands: Whether it is met, by remedy, such as "samples to 2 or more".
    """
    remedies = [remedy for remedy, met in demands.items() if not met]
    return [f"{what}: set {', '.join(remedies)}"] if remedies else []
