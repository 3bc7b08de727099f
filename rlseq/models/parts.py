"""The four parts of an encoder–decoder, as interfaces; every network is one of them.

```
source ─▶ Encoder ─▶ Memory ◀──────────────────────────┐
token ─ Output.embed ─▶ Decoder.read ─▶ Decoder.step ─┴▶ Readout ─▶ features ─ Output.head ─▶ logits
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.models.layers.embedding import TokenEmbedding
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import SOURCE, Memory
from rlseq.models.state import State
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space


class DecoderOutput(NamedTuple):
    """What a decoder made of each step, all (rows, time, …).

    Attributes:
        hidden: (rows, time, hidden_size) its states.
        scores: (rows, time, positions) how well each position matches, before the softmax.
        attention: (rows, time, positions) the softmax of the scores; of 0 positions if it attends to nothing.
        context: (rows, time, width) what attention read; None if no other part needs it.
    """

    hidden: Tensor
    scores: Tensor
    attention: Tensor
    context: Tensor | None

    @classmethod
    def of_states(cls, hidden: Tensor) -> DecoderOutput:
        """Of a decoder that attends to nothing."""
        nothing = hidden[:, :, :0]
        return cls(hidden, nothing, nothing, None)


@dataclass(frozen=True)
class EncoderSizes:
    """What an encoder is built for.

    Attributes:
        sources: The fields of a source.
        input_size: Width of what the embedding gives, if the policy lends one.
        hidden_size: Width of the values of the bank ``SOURCE``, and of the summary.
        dropout: The policy's.
        points_to: The field at whose positions the output points: the bank has them in their order, with their embedded
            ``inputs``. None: it does not point.
        memories: How many vectors of each position the decoder reads, ``PartConfig.memories``. The last is the values
            of the bank ``SOURCE``, the others those of banks of their own, ``memory_bank(0)`` first.
    """

    sources: Mapping[str, Space]
    input_size: int
    hidden_size: int
    dropout: float
    points_to: str | None
    memories: int = 1


@dataclass(frozen=True)
class DecoderSizes:
    """What a decoder is built for.

    Attributes:
        input_size: Width of an embedded token.
        hidden_size: Width of its states, of the values of the bank ``SOURCE``, and of the summary.
        feed_size: Width of what a step can read of the one before, if the decoder ``feeds``.
        dropout: The policy's.
        reads: Whether another part needs what attention reads, ``DecoderOutput.context``, of width ``hidden_size``. If
            none does, the output points: attention over the bank is the distribution of the next token.
        longest: The most steps that a sequence of the task has.
        positions: The most that the output can point at in a source, END among them; 0: it does not point.
        columns: Of the picture whose pixels are emitted row by row; None: tokens are a line.
    """

    input_size: int
    hidden_size: int
    feed_size: int
    dropout: float
    reads: bool
    longest: int
    positions: int = 0
    columns: int | None = None


@dataclass(frozen=True)
class OutputSizes:
    """What an output is built for.

    Attributes:
        choices: What can be emitted.
        embedding_size: Width of an embedded token, and of the features that ``head`` reads.
        hidden_size: Width of the values of the bank ``SOURCE``.
        dropout: The policy's.
        embedding: Of tokens, made before, for the source may have the same; None if their number is not fixed.
    """

    choices: Choices
    embedding_size: int
    hidden_size: int
    dropout: float
    embedding: TokenEmbedding | None


class Encoder(nn.Module, ABC):
    """What a source is to the network. Its class is called with its ``EncoderSizes`` first."""

    @abstractmethod
    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """The memory of sources.

        Args:
            source: As a task gives it, as tensors.
            embedding: From a field's values to vectors (…, width). The policy lends it, for it may be the output's. It
                leaves values as they are unless all fields are tokens of one vocabulary, or one sequence of vectors.
        """


class Decoder(nn.Module, ABC):
    """How a sequence is remembered, and what it attends to. Its class is called with its ``DecoderSizes`` first.

    Attributes:
        bank: The name of the bank that it attends to.
        feeds: Whether a step reads what the readout made of the one before.
        holds_context: Whether its states hold what attention read, so that no part needs ``DecoderOutput.context``.
        drops: Whether these states hold features that dropout has thinned, so that the readout thins them no further.
    """

    bank: str = SOURCE
    feeds: bool = False
    holds_context: ClassVar[bool] = False
    drops: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, memory: Memory) -> Memory:
        """The memory with all that the decoder makes of a source once, such as keys."""

    @abstractmethod
    def initial_state(self, memory: Memory) -> State:
        """The state before the first token, a row a source."""

    @abstractmethod
    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        """The part of a step that depends on its embedded input (…, width) alone."""

    @abstractmethod
    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: State,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, State]:
        """One step.

        Args:
            read: (rows, …) as of ``read``.
            fed: (rows, feed_size) what the readout feeds on from the last step; None: nothing.
            time: How many steps came before.
            state: As ``initial_state`` or the last step gave it.
            memory: As ``prepare`` made it.
            forbidden: (rows, 1, positions) True at positions that must not be attended to; None: nowhere.
            linear: Does the linear maps.
        """

    def forced(self, inputs: Tensor, memory: Memory, forbidden: Tensor | None) -> DecoderOutput | None:
        """All steps at once, given embedded inputs (rows, time, width), if the decoder can and nothing is fed on."""
        return None


class Readout(nn.Module, ABC):
    """What logits are made from.

    Attributes:
        feed_size: Width of what the next step reads of this one; 0: nothing is fed on.
    """

    feed_size: int

    @abstractmethod
    def features(self, out: DecoderOutput, linear: Linear = F.linear) -> Tensor:
        """(rows, time, D) what the output's ``head`` reads."""

    @abstractmethod
    def feed(self, out: DecoderOutput, features: Tensor) -> Tensor:
        """(rows, time, feed_size)."""


class Output(nn.Module, ABC):
    """What a token is, in both directions. Its class is called with its ``OutputSizes`` first.

    Attributes:
        is_vocabulary: A token is the same vector whatever the source.
        points: Features are the scores of attention; if not, they are the attentional vector.
    """

    is_vocabulary: ClassVar[bool]
    points: ClassVar[bool] = False

    @property
    def head(self) -> tuple[Tensor, Tensor] | None:
        """Weight (choices, D) and bias (choices,) that turn features into logits; None: features are logits."""
        return None

    def prepare(self, memory: Memory) -> Memory:
        """The memory with what can be chosen from it, before the decoder prepares it."""
        return memory

    @abstractmethod
    def embed(self, tokens: Tensor, memory: Memory) -> Tensor:
        """Decoder inputs (rows, time, width) for tokens (rows, time); END has the embedding of "begin"."""

    @abstractmethod
    def embed_expected(self, probabilities: Tensor, memory: Memory, linear: Linear) -> Tensor:
        """The expected decoder input (rows, width) under probabilities (rows, choices) of the next token."""

    def initial_state(self, memory: Memory) -> State:
        """What is remembered of emitted tokens, a row a source; by default nothing."""
        return ()

    def follow(self, tokens: Tensor, state: State) -> State:
        """The state after tokens (rows,)."""
        return state

    def forbidden(self, state: State) -> Tensor | None:
        """(rows, choices) True where a choice is forbidden; None: nothing ever is."""
        return None
