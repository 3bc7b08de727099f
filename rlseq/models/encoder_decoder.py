"""The one policy that all networks make together: an encoder, a decoder, a readout and an output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.models.feeding import Feeding, PolicyTokens
from rlseq.models.layers.linear import Linear, UnrolledLinear
from rlseq.models.memory import Memory
from rlseq.models.parts import Decoder, DecoderOutput, Encoder, Output, Readout
from rlseq.models.policy import Forced, SequencePolicy, length_mask, shift_right
from rlseq.models.state import State
from rlseq_envs.source import Source

READ_ONCE_BELOW = 0.8  # equal tokens of a step are read once if fewer than this fraction of them differ


class DecodingState(NamedTuple):
    """What is carried from step to step.

    Attributes:
        decoder: The decoder's state.
        fed: (rows, feed_size) what the readout fed on; nothing if it feeds nothing.
        output: The output's state.
    """

    decoder: State
    fed: Tensor | tuple[()]
    output: State


class EncoderDecoder(SequencePolicy):
    """Shifts targets, feeds on, replaces tokens, goes step by step or all at once; the parts know none of this.

    Args:
        encoder: Makes a memory of sources.
        decoder: Remembers a sequence, and attends.
        embedding: From the values of a source's field to vectors.
        output: What a token is; the memory passes it before the decoder.
        readout: What logits are made from.
    """

    def __init__(
        self, encoder: Encoder, decoder: Decoder, embedding: nn.Module, output: Output, readout: Readout
    ) -> None:
        super().__init__()
        # The gradient's norm is summed up in the order of the parameters, which follows from this one.
        self.output = output
        self.encoder = encoder
        self.decoder = decoder
        self.embedding = embedding
        self.readout = readout

    @property
    def head(self) -> tuple[Tensor, Tensor] | None:
        """The output's."""
        return self.output.head

    def encode(self, source: Source[Tensor]) -> Memory:
        """See ``SequencePolicy.encode``."""
        memory = self.encoder(source, self.embedding)
        return self.decoder.prepare(self.output.prepare(memory))

    def attention_mask(self, memory: Memory) -> Tensor:
        """See ``SequencePolicy.attention_mask``."""
        return memory.banks[self.decoder.bank].mask

    def initial_state(self, memory: Memory) -> DecodingState:
        """Each part's, and nothing fed on yet."""
        size = self.readout.feed_size
        fed = memory.summary.new_zeros(len(memory), size) if size else ()
        return DecodingState(self.decoder.initial_state(memory), fed, self.output.initial_state(memory))

    def step(
        self, tokens: Tensor, time: int, state: DecodingState, memory: Memory, linear: Linear = F.linear
    ) -> tuple[Tensor, DecodingState, Tensor]:
        """See ``SequencePolicy.step``."""
        read = self._read(tokens, memory, linear)
        features, out, state = self._advance(read, tokens, time, state, memory, linear)
        return self.project(features[:, 0], linear), state, out.attention[:, 0]

    def _read(self, tokens: Tensor, memory: Memory, linear: Linear) -> Tensor:
        """What the decoder reads of tokens (rows,).

        Rows with the same token of a vocabulary share the product. Only on a CPU: finding them would wait for a GPU.
        """
        if self.output.is_vocabulary and not tokens.is_cuda:
            different, which = tokens.unique(return_inverse=True)
            if len(different) <= READ_ONCE_BELOW * len(tokens):
                return self._read_each(different, memory, linear).index_select(0, which)
        return self._read_each(tokens, memory, linear)

    def _read_each(self, tokens: Tensor, memory: Memory, linear: Linear) -> Tensor:
        return self.decoder.read(self.output.embed(tokens[:, None], memory)[:, 0], linear)

    def _advance(
        self, read: Tensor, tokens: Tensor, time: int, state: DecodingState, memory: Memory, linear: Linear
    ) -> tuple[Tensor, DecoderOutput, DecodingState]:
        """One step, given what the decoder reads of the tokens: features (rows, 1, D), and what they were made of."""
        emitted = self.output.follow(tokens, state.output)
        forbidden = self.output.forbidden(emitted)
        fed = state.fed if isinstance(state.fed, Tensor) else None
        barred = None if forbidden is None else forbidden[:, None]
        out, decoder_state = self.decoder.step(read, fed, time, state.decoder, memory, barred, linear)
        features = self.readout.features(out, linear)
        fed_on = self.readout.feed(out, features)[:, 0] if self.readout.feed_size else ()
        return features, out, DecodingState(decoder_state, fed_on, emitted)

    # ------------------------------------------------------------------------------------------------ teacher forcing
    def forced(self, memory: Memory, targets: Tensor, lengths: Tensor, feeding: Feeding | None = None) -> Forced:
        """All steps at once if the decoder can and nothing is fed on, step by step otherwise.

        Revisits are those of the targets' tokens, whatever is read in their place: no target is ever forbidden.
        """
        inputs, counted = shift_right(targets), length_mask(lengths, targets.shape[1])
        if not self.readout.feed_size and feeding is None:
            barred = self._forbidden_before(inputs, memory)
            out = self.decoder.forced(self.output.embed(inputs, memory), memory, barred)
            if out is not None:
                return Forced(self.readout.features(out)[counted], counted, [out.hidden], [out.attention])
        features, outs = zip(*self._steps(inputs, memory, feeding), strict=True)
        hidden, attention = [out.hidden for out in outs], [out.attention for out in outs]
        return Forced(torch.cat(features, 1)[counted], counted, hidden, attention)

    def _forbidden_before(self, inputs: Tensor, memory: Memory) -> Tensor | None:
        """What is forbidden at each step, (rows, time, choices)."""
        state, steps = self.output.initial_state(memory), []
        if self.output.forbidden(state) is None:
            return None
        for tokens in inputs.unbind(1):
            state = self.output.follow(tokens, state)
            steps.append(self.output.forbidden(state))
        return torch.stack([step for step in steps if step is not None], 1)

    def _steps(self, inputs: Tensor, memory: Memory, feeding: Feeding | None) -> Iterator[tuple[Tensor, DecoderOutput]]:
        """Features and decoder output of each step under teacher forcing."""
        known: Sequence[Tensor] = ()
        if feeding is None:
            known = self.decoder.read(self.output.embed(inputs, memory)).unbind(1)
        state, linear = self.initial_state(memory), UnrolledLinear(len(inputs))
        steps: list[Tensor] = []
        for time, tokens in enumerate(inputs.unbind(1)):
            read = known[time] if feeding is None else self._read_in_place(tokens, steps, memory, feeding, linear)
            features, out, state = self._advance(read, tokens, time, state, memory, linear)
            steps.append(features[:, 0])
            yield features, out

    def _read_in_place(
        self, tokens: Tensor, steps: list[Tensor], memory: Memory, feeding: Feeding, linear: Linear
    ) -> Tensor:
        """What is read in place of the targets' tokens (rows,), given the features of the steps before."""
        if steps and feeding == "distribution":
            probabilities = self.project(steps[-1], linear).softmax(-1)
            return self.decoder.read(self.output.embed_expected(probabilities, memory, linear), linear)
        if steps and isinstance(feeding, PolicyTokens):
            tokens = self._replace(tokens, steps, feeding, linear)
        return self._read_each(tokens, memory, linear)

    @torch.no_grad()
    def _replace(self, tokens: Tensor, steps: list[Tensor], feeding: PolicyTokens, linear: Linear) -> Tensor:
        rows = feeding.rows[len(steps)]
        if not len(rows):
            return tokens
        logits = self.project(steps[-1].index_select(0, rows), linear)
        return tokens.index_copy(0, rows, feeding.choose(logits, rows, len(steps)))
