"""The sections of decoders: how a sequence is remembered, and what it attends to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from rlseq.config.encoders import StoryEncoderConfig, TuringMachineEncoderConfig, is_sequence
from rlseq.config.parts import MatchFunction, PartConfig, TransformerKeys, TuringMachineKeys
from rlseq.config.section import UnitInterval
from rlseq_envs.settings.rules import Limit, Number, Range
from rlseq_envs.spaces import Choices, Space

if TYPE_CHECKING:
    from rlseq.config.policy import PolicyConfig


class AttentionLSTMConfig(PartConfig):
    """An LSTM that attends to the source at every step."""

    free_keys = frozenset({"normalise"})
    type: Literal["attention_lstm"] = "attention_lstm"
    # How well a decoder state and an encoder state match (Luong et al. 2015; additive: Bahdanau et al. 2015).
    match: MatchFunction = "bilinear"
    # How scores become the weights of what is read: softmax, or none for the scores themselves. The distribution of an
    # output that points is the softmax of the scores either way.
    normalise: Literal["softmax", "none"] = "softmax"
    # The next step reads what attention gave: the attentional vector (input feeding), or what was read (a glimpse) with
    # an output that points.
    feed_context: bool = True
    first_state: Literal["encoder", "learned"] = "encoder"  # mapped from the encoder's last states, or learned
    forget_bias: Number = 1.0  # first bias of the LSTM's forget gates (Jozefowicz et al. 2015)

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if self.normalise == "none" and policy.output.attention_is_output and not self.feed_context:
            return [
                "policy.decoder.normalise 'none' changes nothing, for nothing reads what was attended to: "
                "set policy.decoder.feed_context to true, or policy.decoder.normalise to softmax"
            ]
        return []


class TransformerDecoderConfig(TransformerKeys):
    """Layers of attention to what was emitted and to the source (Vaswani et al. 2017); keys and values are kept."""

    slot = "decoder"
    type: Literal["transformer"] = "transformer"
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"  # waves of many lengths, or a learned vector each
    match: MatchFunction = "additive"  # how well a state and a position match, for an output that points


class LSTMDecoderKeys(PartConfig):
    """What the LSTMs share that begin with the encoder's last state."""

    # When it reads the encoder's summary: as its first state, or at every step, too (Cho et al. 2014).
    reads: Literal["start", "every_step"] = "start"
    forget_bias: Number = 1.0  # first bias of the LSTM's forget gate (Jozefowicz et al. 2015)


class LSTMDecoderConfig(LSTMDecoderKeys):
    """An LSTM without attention: the encoder's last state is all that it gets (Sutskever et al. 2014)."""

    type: Literal["lstm"] = "lstm"

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        return _cannot_point(self.type, policy)


class FixedOutputLSTMConfig(LSTMDecoderKeys):
    """An LSTM with a weight vector for each position of its training: what pointing is compared with."""

    type: Literal["fixed_output_lstm"] = "fixed_output_lstm"
    match: MatchFunction = "additive"  # how well a decoder state and an encoder state match

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if policy.output.attention_is_output:
            return []
        return [
            "policy.decoder.type 'fixed_output_lstm' chooses positions of the source, but policy.output.type "
            f"{policy.output.type!r} does not: set policy.decoder.type to attention_lstm"
        ]


class MultimodalConfig(PartConfig):
    """A recurrent state that sees words alone; word, state and picture meet before the softmax (Mao et al. 2015)."""

    type: Literal["multimodal"] = "multimodal"

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        return _cannot_point(self.type, policy)


class TopDownConfig(PartConfig):
    """Two LSTMs: one says what is attended to, the other one the word (Anderson et al. 2018)."""

    type: Literal["top_down"] = "top_down"
    match: MatchFunction = "additive"  # how well a state of the first one and a position match
    forget_bias: Number = 1.0  # first bias of the LSTMs' forget gates (Jozefowicz et al. 2015)

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if policy.output.attention_is_output:
            return ["policy.decoder.type 'top_down' cannot point: set policy.decoder.type to attention_lstm"]
        return []


class GridLSTMConfig(PartConfig):
    """An LSTM whose pixels go on from their left and upper neighbours (Graves et al. 2007), for tasks of pictures."""

    type: Literal["grid_lstm"] = "grid_lstm"
    # How many pixels further to the right the state of the row above is: with 2 the pixel above was read, and the next.
    ahead: Annotated[int, Range(gt=0), Limit(1000)] = 2
    forget_bias: Number = 0.0  # first bias of both forget gates; above 0, two neighbours make a state grow

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        wrong = _cannot_point(self.type, policy)
        if choices.columns is None:
            wrong.append(
                "policy.decoder.type 'grid_lstm' draws a picture row by row, but the task's tokens are a line: "
                "set policy.decoder.type to lstm"
            )
        return wrong


class TuringMachineDecoderConfig(TuringMachineKeys):
    """The writing half of a Neural Turing Machine (Graves et al. 2014): it begins with the memory of the encoder."""

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        wrong, encoder = _cannot_point(self.type, policy), policy.encoder
        if isinstance(encoder, TuringMachineEncoderConfig):
            if encoder.width != self.width:
                wrong.append(
                    f"policy.decoder.width {self.width} is not that of the memory, policy.encoder.width "
                    f"{encoder.width}: set policy.decoder.width to {encoder.width}"
                )
            if 2 * self.shift >= encoder.locations and self.addressing == "content_and_location":
                wrong.append(
                    f"policy.decoder.shift {self.shift} goes round a memory of {encoder.locations} locations: "
                    f"set policy.encoder.locations to {2 * self.shift + 1} or more"
                )
        else:
            remedy = (
                "policy.decoder.type to attention_lstm"
                if encoder.type == "own" or not is_sequence(sources)
                else "policy.encoder.type to " + self.type
            )
            wrong.append(
                f"policy.decoder.type {self.type!r} goes on with the memory that policy.encoder.type {self.type!r} "
                f"writes, but {encoder.type!r} writes none: set {remedy}"
            )
        return wrong


def _cannot_point(kind: str, policy: PolicyConfig) -> list[str]:
    """Why a decoder that attends to no position of the source does not go with the output."""
    if not policy.output.attention_is_output:
        return []
    return [
        f"policy.decoder.type {kind!r} attends to no position, but policy.output.type {policy.output.type!r} "
        "points at one: set policy.decoder.type to attention_lstm"
    ]


class MemoryNetworkConfig(PartConfig):
    """Hops over the memories of a story, the question added at each (Sukhbaatar et al. 2015)."""

    free_keys = frozenset({"normalise", "rectified"})
    type: Literal["memory_network"] = "memory_network"
    hops: Annotated[int, Range(gt=0), Limit(100)] = 3  # how often memories are matched and read
    # Which embeddings are one: what a hop reads is what the next one matches (adjacent), all hops' are the same, with a
    # learned map between hops (layer_wise), or none are.
    tying: Literal["adjacent", "layer_wise", "none"] = "adjacent"
    normalise: Literal["softmax", "none"] = "softmax"  # how matches become weights; none: as they are (linear start)
    rectified: UnitInterval = 0.0  # share of the units that pass a ReLU after each hop; 0.5 in the paper's sec. 5

    @property
    def memories(self) -> int:
        """See the base class."""
        return {"adjacent": self.hops + 1, "layer_wise": 2, "none": 2 * self.hops}[self.tying]

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if policy.output.attention_is_output:
            return ["policy.decoder.type 'memory_network' cannot point: set policy.decoder.type to attention_lstm"]
        if not isinstance(policy.encoder, StoryEncoderConfig):
            return [
                "policy.decoder.type 'memory_network' reads the memories of policy.encoder.type 'story': "
                "set policy.decoder.type to attention_lstm"
            ]
        return []
