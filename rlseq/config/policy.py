"""The network: one section a slot.

A new network is a section in the file of its slot, a member of the slot's union here, and a line in
``rlseq.models.build``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from rlseq.config.decoders import (
    AttentionLSTMConfig,
    FixedOutputLSTMConfig,
    GridLSTMConfig,
    LSTMDecoderConfig,
    MemoryNetworkConfig,
    MultimodalConfig,
    TopDownConfig,
    TransformerDecoderConfig,
    TuringMachineDecoderConfig,
)
from rlseq.config.encoders import (
    ConvolutionalEncoderConfig,
    FeaturesEncoderConfig,
    LSTMEncoderConfig,
    NothingEncoderConfig,
    PyramidalEncoderConfig,
    StoryEncoderConfig,
    TransformerEncoderConfig,
    TuringMachineEncoderConfig,
)
from rlseq.config.outputs import PointerConfig, VocabularyConfig
from rlseq.config.parts import OwnPartConfig, PartConfig
from rlseq.config.section import BARE_WORD, Fraction, PolicySection, Width
from rlseq_envs.spaces import Choices, Space

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
    def free_keys(self) -> frozenset[str]:
        """See the base class."""
        of_parts = {f"{slot}.{key}" for slot, part in self.slots.items() for key in part.free_keys}
        return frozenset({"dropout", "word_dropout"} | of_parts)

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
