"""The sections of encoders: what a source is to the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from rlseq.config.parts import PartConfig, TransformerKeys, TuringMachineKeys
from rlseq.config.section import Fraction
from rlseq_envs.settings.rules import Limit, Number, Range
from rlseq_envs.spaces import Choices, Space

if TYPE_CHECKING:
    from rlseq.config.policy import PolicyConfig


class LSTMEncoderConfig(PartConfig):
    """A stacked bidirectional LSTM."""

    type: Literal["lstm"] = "lstm"
    layers: Annotated[int, Range(gt=0), Limit(1000)] = 1  # bidirectional layers, one on the other
    forget_bias: Number = 1.0  # first bias of the LSTMs' forget gates (Jozefowicz et al. 2015)

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        wrong = _no_sequence(self.type, sources)
        if policy.hidden_size % 2:
            wrong.append(_odd_size(policy))
        return wrong


class PyramidalEncoderConfig(PartConfig):
    """Bidirectional LSTMs, each of which halves the positions of the one below (Chan et al. 2016), for long sources."""

    type: Literal["pyramidal"] = "pyramidal"
    # How often positions are halved, by layers on one that reads them all: n become n / 2^halvings, rounded up.
    halvings: Annotated[int, Range(gt=0), Limit(20)] = 3
    forget_bias: Number = 1.0  # first bias of the LSTMs' forget gates (Jozefowicz et al. 2015)

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        wrong = _no_sequence(self.type, sources)
        if policy.hidden_size % 2:
            wrong.append(_odd_size(policy))
        if policy.output.attention_is_output:
            wrong.append(
                "policy.encoder.type 'pyramidal' joins the positions that policy.output.type 'pointer' points at: "
                "set policy.encoder.type to lstm"
            )
        return wrong


class TransformerEncoderConfig(TransformerKeys):
    """Layers of self-attention (Vaswani et al. 2017)."""

    slot = "encoder"
    free_keys = TransformerKeys.free_keys | {"scale_by_log_length"}
    type: Literal["transformer"] = "transformer"
    # Where a position stands: waves of many lengths, or a learned vector each; none: a set, whose order says nothing.
    positions: Literal["sinusoidal", "learned", "none"] = "sinusoidal"
    # Scores times log n, of n positions: weights stay sharp on sources longer than in training (Chiang & Cholak 2022).
    scale_by_log_length: bool = False

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        return _no_sequence(self.type, sources) + super().misfits(policy, sources, choices)


class TuringMachineEncoderConfig(TuringMachineKeys):
    """The reading half of a Neural Turing Machine (Graves et al. 2014): what it wrote is handed to the decoder."""

    locations: Annotated[int, Range(gt=0), Limit(10**5)] = 128  # of the memory

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        wrong = _no_sequence(self.type, sources)
        if 2 * self.shift >= self.locations and self.addressing == "content_and_location":
            wrong.append(
                f"policy.encoder.shift {self.shift} goes round a memory of {self.locations} locations: "
                f"set policy.encoder.locations to {2 * self.shift + 1} or more"
            )
        return wrong


class StoryEncoderConfig(PartConfig):
    """Sentences as vectors, the question as the summary (Sukhbaatar et al. 2015)."""

    free_keys = frozenset({"noise"})
    type: Literal["story"] = "story"
    words: Literal["position", "bag"] = "position"  # a sum of words weighted by where they stand, or a plain one
    temporal: bool = True  # a learned vector for how many sentences ago each one was
    noise: Fraction = 0.0  # in training, chance of an empty sentence before each one, which ages those before it

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        fields = [space.tokens for space in sources.values()]
        axes = [len(space.axes) for space in sources.values()]
        if axes != [2, 1] or None in fields or len(set(fields)) != 1:
            return [
                "policy.encoder.type 'story' reads sentences and a question in words of one vocabulary, but a source "
                f"has {_told(sources)}: set policy.encoder.type to {_reader(sources)}"
            ]
        if policy.output.attention_is_output:
            return ["policy.encoder.type 'story' has no positions to point at: set policy.output.type to vocabulary"]
        if policy.width != policy.hidden_size:
            return [
                f"policy.embedding_size {policy.width} is not policy.hidden_size, but the sum of a sentence's words is "
                f"its vector: set policy.embedding_size to {policy.hidden_size}"
            ]
        return []


class ConvolutionalEncoderConfig(PartConfig):
    """Layers of 3 x 3 maps over a picture: a grid of vectors."""

    type: Literal["convolutional"] = "convolutional"
    layers: Annotated[int, Range(gt=0), Limit(16)] = 3  # one on the other
    channels: Annotated[int, Range(gt=0), Limit(1024)] = 32  # maps of the first layer; each one has twice those before
    halvings: Annotated[int, Range(ge=0), Limit(10)] = 2  # the first layers, so many, halve rows and columns

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if [space.is_picture for space in sources.values()] != [True]:
            return [
                "policy.encoder.type 'convolutional' reads one picture of rows, columns and colours, but a source has "
                f"{_told(sources)}: set policy.encoder.type to {_reader(sources)}"
            ]
        if policy.output.attention_is_output:
            return [
                "policy.encoder.type 'convolutional' has no positions to point at: set policy.output.type to vocabulary"
            ]
        if self.halvings > self.layers:
            return [
                f"policy.encoder.halvings {self.halvings} is more than there are layers, policy.encoder.layers: "
                f"set policy.encoder.halvings to {self.layers} or less"
            ]
        return []


class FeaturesEncoderConfig(PartConfig):
    """Ready features of a picture: a grid of regions, one vector of all of it, or both."""

    type: Literal["features"] = "features"

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if not _has_features(sources):
            return [
                "policy.encoder.type 'features' reads numbers of a picture, (rows, columns, width) or (width) or both, "
                f"but a source has {_told(sources)}: set policy.encoder.type to {_reader(sources)}"
            ]
        if policy.output.attention_is_output:
            return ["policy.encoder.type 'features' has no positions to point at: set policy.output.type to vocabulary"]
        return []


class NothingEncoderConfig(PartConfig):
    """For tasks without a source: a learned summary and no position."""

    type: Literal["nothing"] = "nothing"

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if not sources:
            return []
        return [
            f"policy.encoder.type 'nothing' reads no source, but there is {_told(sources)}: "
            f"set policy.encoder.type to {_reader(sources)}"
        ]


def _odd_size(policy: PolicyConfig) -> str:
    """Why an encoder of two directions cannot have this size."""
    return (
        f"policy.hidden_size {policy.hidden_size} is odd, but each direction of the encoder has half of it: "
        f"set policy.hidden_size to {policy.hidden_size + 1}"
    )


def _no_sequence(kind: str, sources: Mapping[str, Space]) -> list[str]:
    """Why an encoder of one sequence cannot read the sources."""
    if is_sequence(sources):
        return []
    return [
        f"policy.encoder.type {kind!r} reads one sequence of tokens or vectors, but a source has "
        f"{_told(sources)}: set policy.encoder.type to {_reader(sources)}"
    ]


def is_sequence(sources: Mapping[str, Space]) -> bool:
    """Whether there is one field, a sequence."""
    return [field.is_sequence for field in sources.values()] == [True]


def _has_features(sources: Mapping[str, Space]) -> bool:
    """Whether a source is a grid of vectors, a vector, or both."""
    axes = sorted(len(space.axes) for space in sources.values())
    fixed = all(not space.varying and space.dtype == "float32" for space in sources.values())
    return fixed and axes in ([1], [3], [1, 3])


def _reader(sources: Mapping[str, Space]) -> str:
    """The encoder for sources that another one cannot read."""
    if not sources:
        return "nothing"
    if is_sequence(sources):
        return "lstm"
    if _has_features(sources):
        return "features"
    is_picture = [space.is_picture for space in sources.values()] == [True]
    return "convolutional" if is_picture else "own, with a class that reads it"


def _told(sources: Mapping[str, Space]) -> str:
    """The fields of a source in words."""
    axes = {
        name: ", ".join("n" if axis is None else str(axis) for axis in space.axes) for name, space in sources.items()
    }
    return " and ".join(f"{name} ({sizes})" for name, sizes in axes.items()) or "no field"
