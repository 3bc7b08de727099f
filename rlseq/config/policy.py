"""The network: one section a slot, and what each demands of the task and of the other slots.

A new network is a section here, a member of its slot's union, and a line in ``rlseq.models.build``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator

from rlseq.config.section import BARE_WORD, Fraction, PolicySection, Section, Width
from rlseq_envs.settings import IMPORT_PATH
from rlseq_envs.settings.rules import Limit, Number, Range
from rlseq_envs.spaces import Choices, Space

MatchFunction = Literal["additive", "bilinear", "dot", "scaled_dot", "cosine"]


class PartConfig(Section):
    """What fills a slot.

    Attributes:
        attention_is_output: Whether attention is the distribution of the next token.
        memories: Of a decoder: how many vectors of each position of the source it reads.
    """

    attention_is_output: ClassVar[bool] = False
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


# -------------------------------------------------------------------------------------------------------- encoders
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
    type: Literal["transformer"] = "transformer"
    # Where a position stands: waves of many lengths, or a learned vector each; none: a set, whose order says nothing.
    positions: Literal["sinusoidal", "learned", "none"] = "sinusoidal"

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


def _has_features(sources: Mapping[str, Space]) -> bool:
    """Whether a source is a grid of vectors, a vector, or both."""
    axes = sorted(len(space.axes) for space in sources.values())
    fixed = all(not space.varying and space.dtype == "float32" for space in sources.values())
    return fixed and axes in ([1], [3], [1, 3])


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
    if _is_sequence(sources):
        return []
    return [
        f"policy.encoder.type {kind!r} reads one sequence of tokens or vectors, but a source has "
        f"{_told(sources)}: set policy.encoder.type to {_reader(sources)}"
    ]


def _is_sequence(sources: Mapping[str, Space]) -> bool:
    """Whether there is one field, a sequence."""
    return [field.is_sequence for field in sources.values()] == [True]


def _reader(sources: Mapping[str, Space]) -> str:
    """The encoder for sources that another one cannot read."""
    if not sources:
        return "nothing"
    if _is_sequence(sources):
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


# -------------------------------------------------------------------------------------------------------- decoders
class AttentionLSTMConfig(PartConfig):
    """An LSTM that attends to the source at every step."""

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
                if encoder.type == "own" or not _is_sequence(sources)
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

    type: Literal["memory_network"] = "memory_network"
    hops: Annotated[int, Range(gt=0), Limit(100)] = 3  # how often memories are matched and read
    # Which embeddings are one: what a hop reads is what the next one matches (adjacent), all hops' are the same, with a
    # learned map between hops (layer_wise), or none are.
    tying: Literal["adjacent", "layer_wise", "none"] = "adjacent"
    normalise: Literal["softmax", "none"] = "softmax"  # how matches become weights; none: as they are (linear start)

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


# --------------------------------------------------------------------------------------------------------- outputs
class VocabularyConfig(PartConfig):
    """Tokens of a vocabulary."""

    type: Literal["vocabulary"] = "vocabulary"
    tie_embeddings: bool = True  # the output layer's weights are the target's embeddings (Press & Wolf 2017)
    share_embeddings: bool = False  # the source's embeddings are the target's; needs one vocabulary for both

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if choices.size is None:
            return [
                "policy.output.type 'vocabulary' needs a task whose tokens are of a fixed number, but they point into "
                "the source: set policy.output.type to pointer"
            ]
        if self.share_embeddings and (
            choices.same_as is None or len({space.tokens for space in sources.values()}) != 1
        ):
            return [
                "policy.output.share_embeddings needs one vocabulary for source and output (of translation, "
                "task.shared_vocabulary): set policy.output.share_embeddings to false"
            ]
        return []


class PointerConfig(PartConfig):
    """Positions of the source, pointed at: the attention over them is the distribution (Vinyals et al. 2015)."""

    attention_is_output = True
    type: Literal["pointer"] = "pointer"
    mask_revisits: bool = False  # forbid a position that was already emitted

    def misfits(self, policy: PolicyConfig, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        if choices.points_to is None:
            return [
                "policy.output.type 'pointer' needs a task whose tokens point into the source, but they are of a fixed "
                "number: set policy.output.type to vocabulary"
            ]
        return []


# ------------------------------------------------------------------------------------------------------ the policy
EncoderSection = Annotated[
    LSTMEncoderConfig
    | PyramidalEncoderConfig
    | TransformerEncoderConfig
    | TuringMachineEncoderConfig
    | StoryEncoderConfig
    | ConvolutionalEncoderConfig
    | FeaturesEncoderConfig
    | NothingEncoderConfig
    | OwnPartConfig,
    Field(discriminator="type"),
    BARE_WORD,
]
DecoderSection = Annotated[
    AttentionLSTMConfig
    | LSTMDecoderConfig
    | FixedOutputLSTMConfig
    | GridLSTMConfig
    | TransformerDecoderConfig
    | TuringMachineDecoderConfig
    | MemoryNetworkConfig
    | MultimodalConfig
    | TopDownConfig
    | OwnPartConfig,
    Field(discriminator="type"),
    BARE_WORD,
]
OutputSection = Annotated[VocabularyConfig | PointerConfig | OwnPartConfig, Field(discriminator="type"), BARE_WORD]


class PolicyConfig(PolicySection):
    """An encoder reads the source, a decoder remembers what was emitted and attends, an output chooses a token."""

    type: Literal["parts"] = "parts"
    hidden_size: Width = 384  # of the decoder; each encoder direction has half of it
    # Width of an embedded token or position, and of the attentional vector; default: hidden_size.
    embedding_size: Width | None = None
    dropout: Fraction = 0.3  # of embeddings, between layers, and of what the output reads
    word_dropout: Fraction = 0.0  # of whole tokens, on either side
    encoder: EncoderSection = LSTMEncoderConfig()  # what a source is to the network
    decoder: DecoderSection = AttentionLSTMConfig()  # how a sequence is remembered, and what it attends to
    output: OutputSection = VocabularyConfig()  # what a token is

    @property
    def slots(self) -> dict[str, PartConfig]:
        """What fills each slot."""
        return {"encoder": self.encoder, "decoder": self.decoder, "output": self.output}

    @property
    def own_parts(self) -> dict[str, OwnPartConfig]:
        """The classes of the user's, by slot."""
        return {slot: section for slot, section in self.slots.items() if isinstance(section, OwnPartConfig)}

    @property
    def attention_is_output(self) -> bool:
        """See the base class."""
        return self.output.attention_is_output

    @property
    def width(self) -> int:
        """Of an embedded token or position, and of the attentional vector."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    def misfits(self, sources: Mapping[str, Space], choices: Choices) -> list[str]:
        """See the base class."""
        wrong = [problem for part in self.slots.values() for problem in part.misfits(self, sources, choices)]
        if self.word_dropout and choices.size is None and all(space.tokens is None for space in sources.values()):
            wrong.append(
                "policy.word_dropout leaves out words, but neither side of the task has any: "
                "set policy.word_dropout to 0"
            )
        return wrong

    def described(self) -> dict[str, Any]:
        """The type of each part, or the class of the user's, and widths."""
        named = {slot: getattr(section, "class_", section.type) for slot, section in self.slots.items()}
        return {**named, "hidden_size": self.hidden_size, "embedding_size": self.width}
