"""What fills a slot of a policy, and keys that several parts share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator

from rlseq.config.section import Fraction, Section, Width
from rlseq_envs.settings import IMPORT_PATH
from rlseq_envs.settings.rules import Limit, Number, Range
from rlseq_envs.spaces import Choices, Space

if TYPE_CHECKING:
    from rlseq.config.policy import PolicyConfig


MatchFunction = Literal["additive", "bilinear", "dot", "scaled_dot", "cosine"]


class PartConfig(Section):
    """What fills a slot.

    Attributes:
        attention_is_output: Whether attention is the distribution of the next token.
        free_keys: Those that no weight depends on: who goes on from a checkpoint may change them.
        memories: Of a decoder: how many vectors of each position of the source it reads.
    """

    attention_is_output: ClassVar[bool] = False
    free_keys: ClassVar[frozenset[str]] = frozenset()
    type: str

    @property
    def memories(self) -> int:
        """See the class."""
        return 1

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """What of the other slots and of the task does not go with it, each with its remedy."""
        return []


class OwnPartConfig(PartConfig):
    """A class of the user's."""

    model_config = ConfigDict(serialize_by_alias=True)

    type: Literal["own"] = "own"
    class_: str = Field(alias="class")  # package.module:Class, a subclass of the slot's interface
    arguments: dict[str, Any] = Field(default={})  # of the class, by name, behind the sizes that it is built for

    @field_validator("class_")
    @classmethod
    def _is_import_path(cls, path: str) -> str:
        if not IMPORT_PATH.fullmatch(path):
            raise ValueError(f"{path!r} is no import path: give package.module:Class")
        return path


class TransformerKeys(PartConfig):
    """What the two transformers share.

    Attributes:
        slot: The slot that it fills.
    """

    slot: ClassVar[str]
    free_keys = frozenset({"attention_dropout", "window"})

    layers: Annotated[int, Range(gt=0), Limit(1000)] = 3  # one on the other
    heads: Width = 4  # of attention; they divide policy.hidden_size
    feedforward_size: Width | None = None  # width within each layer's map of a position; default: 4 hidden_size
    norm: Literal["pre", "post"] = "pre"  # layer norm before each branch (Xiong et al. 2020), or behind each sum
    attention_dropout: Fraction = 0.0  # of single attention weights
    # How far away self-attention reads (local attention); default: any distance.
    window: Annotated[int, Range(gt=0), Limit(10**6)] | None = None

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if policy.hidden_size % self.heads:
            fits = max(heads for heads in range(1, self.heads) if policy.hidden_size % heads == 0)
            return [
                f"policy.hidden_size {policy.hidden_size} cannot be split into {self.heads} heads: "
                f"set policy.{self.slot}.heads to {fits}"
            ]
        return []


class TuringMachineKeys(PartConfig):
    """What the two halves of a Neural Turing Machine share."""

    type: Literal["turing_machine"] = "turing_machine"
    controller: Literal["lstm", "feed_forward"] = "lstm"  # what drives the heads: an LSTM, or a layer without a state
    width: Width = 20  # of a location of the memory
    read_heads: Annotated[int, Range(gt=0), Limit(100)] = 1  # each reads one weighted sum of locations a step
    write_heads: Annotated[int, Range(gt=0), Limit(100)] = 1  # each erases and adds once a step, one after the other
    # How heads find locations: by what is there, or also by moving from where they are (Graves et al. 2014, 3.3).
    addressing: Literal["content", "content_and_location"] = "content_and_location"
    shift: Annotated[int, Range(gt=0), Limit(100)] = 1  # how many locations a head moves at most in a step
    forget_bias: Number = 1.0  # first bias of an LSTM's forget gate (Jozefowicz et al. 2015)
