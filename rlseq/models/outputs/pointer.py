"""Positions of the source, pointed at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.config.outputs import PointerConfig
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import SOURCE, Memory
from rlseq.models.parts import Output, OutputSizes
from rlseq.models.state import State


class PointerOutput(Output):
    """Attention over the source is the distribution of the output (Vinyals et al. 2015); any number of positions.

    Choice 0 is END, a learned position in front of the source; choice i + 1 is source position i. The decoder reads
    the embedded position it chose last; END's input stands for "begin".

    Args:
        sizes: What it is built for; dropout is that of the encoder's states.
        config: Its section.
    """

    is_vocabulary = False
    points = True

    def __init__(self, sizes: OutputSizes, config: PointerConfig) -> None:
        super().__init__()
        self.begin = nn.Parameter(torch.randn(sizes.embedding_size) * sizes.embedding_size**-0.5)
        self.end = nn.Parameter(torch.randn(sizes.hidden_size) * sizes.hidden_size**-0.5)
        self.dropout = nn.Dropout(sizes.dropout)
        self.mask_revisits = config.mask_revisits

    def prepare(self, memory: Memory) -> Memory:
        """END in front of the source's positions, one position more.

        Raises:
            ValueError: The encoder keeps no inputs.
        """
        bank = memory.banks[SOURCE]
        if bank.inputs is None:
            raise ValueError("an output that points needs the bank's inputs: the encoder has to keep them in it")
        values = torch.cat([self.end.expand(len(memory), 1, -1), self.dropout(bank.values)], 1)
        inputs = torch.cat([self.begin.expand(len(memory), 1, -1), bank.inputs], 1)
        mask = torch.cat([torch.ones_like(bank.mask[:, :1]), bank.mask], 1)
        return memory.with_bank(SOURCE, values=values, inputs=inputs, mask=mask)

    def embed(self, tokens: Tensor, memory: Memory) -> Tensor:
        """See ``Output``."""
        inputs = memory.banks[SOURCE].inputs
        assert inputs is not None
        if memory.sharing is not None:
            return inputs[memory.sharing.source[:, None], tokens]
        return inputs.gather(1, tokens[:, :, None].expand(-1, -1, inputs.shape[-1]))

    def embed_expected(self, probabilities: Tensor, memory: Memory, linear: Linear) -> Tensor:
        """See ``Output``."""
        inputs = memory.banks[SOURCE].inputs
        assert inputs is not None
        return memory.products(probabilities[:, None], inputs)[:, 0]

    def initial_state(self, memory: Memory) -> State:
        """(sources, choices) True where a position was chosen; nothing if that does not matter."""
        return torch.zeros_like(memory.banks[SOURCE].mask) if self.mask_revisits else ()

    def follow(self, tokens: Tensor, state: State) -> State:
        """See ``Output``."""
        if not self.mask_revisits:
            return state
        chosen = torch.zeros_like(state).scatter(1, tokens[:, None], True)
        chosen[:, 0] = False  # END is never forbidden: it also stands for "begin"
        return state | chosen

    def forbidden(self, state: State) -> Tensor | None:
        """What was chosen before, if revisits are masked."""
        return state if self.mask_revisits else None
