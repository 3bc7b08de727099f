"""An LSTM over a picture, whose pixels go on from their left and upper neighbours."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.decoders import GridLSTMConfig
from rlseq.models.layers.linear import Linear, UnrolledLinear
from rlseq.models.memory import NOWHERE, Memory
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes


class GridState(NamedTuple):
    """The states of the last pixels, as many as a row has, the newest last.

    Attributes:
        hidden: (rows, columns, hidden_size).
        cell: Likewise.
    """

    hidden: Tensor
    cell: Tensor


class GridLSTM(Decoder):
    """An LSTM of two dimensions (Graves et al. 2007; over pixels Theis & Bethge 2015).

    The state z(r, c), which pixel (r, c) is chosen from, has read the pixel before it. It goes on from two others, with
    a forget gate for each: z(r, c − 1), and z(r − 1, c + a) of the row above, which has read that row as far as the
    pixel c + a − 1. At the end of a row that is its last state. A learned vector for row and column is added to what is
    read. The first state, from the encoder's summary, stands to the left of each row and above the first one.

    Under teacher forcing, all pixels of a diagonal, whose c + (a + 1) r is the same, are computed together.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    bank = NOWHERE
    holds_context = True

    def __init__(self, sizes: DecoderSizes, config: GridLSTMConfig) -> None:
        super().__init__()
        assert sizes.columns is not None
        self.size, self.columns, self.ahead = sizes.hidden_size, sizes.columns, config.ahead
        self.inputs = nn.Linear(sizes.input_size, 5 * self.size)
        self.recurrent = nn.Parameter(torch.empty(5 * self.size, 2 * self.size))
        self.row = nn.Parameter(torch.randn(-(-sizes.longest // self.columns), sizes.input_size) * 0.1)
        self.column = nn.Parameter(torch.randn(self.columns, sizes.input_size) * 0.1)
        self.first = nn.Linear(self.size, 2 * self.size)
        with torch.no_grad():
            for block in self.recurrent.chunk(5):
                for neighbour in block.chunk(2, 1):
                    nn.init.orthogonal_(neighbour, 0.5**0.5)  # two neighbours together pass on what one would
            for block in self.inputs.weight.chunk(5):
                nn.init.xavier_uniform_(block)
            self.inputs.bias.zero_()
            self.inputs.bias[self.size : 3 * self.size] = config.forget_bias

    def prepare(self, memory: Memory) -> Memory:
        """With a bank of no position, for it reads the summary alone."""
        return memory.nowhere()

    def initial_state(self, memory: Memory) -> GridState:
        """A row above the picture, mapped from the encoder's summary."""
        return GridState(*(part[:, None].repeat(1, self.columns, 1) for part in self._first(memory)))

    def _first(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """What stands beside and above a picture, hidden and cell (sources, hidden_size)."""
        hidden, cell = torch.tanh(self.first(memory.summary)).chunk(2, 1)
        return hidden, cell

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        """The inputs' part of the gates: (…, 5 * hidden_size)."""
        return linear(inputs, self.inputs.weight, self.inputs.bias)

    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: GridState,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, GridState]:
        """See ``Decoder``."""
        row, column = divmod(time, self.columns)
        left = (state.hidden[:, -1], state.cell[:, -1])
        if column == 0:
            hidden, cell = self._first(memory)
            left = memory.rows(hidden), memory.rows(cell)
        place = min(self.ahead, self.columns - 1 - column)
        above = state.hidden[:, place], state.cell[:, place]
        there = F.linear(self.row[min(row, len(self.row) - 1)] + self.column[column], self.inputs.weight)
        hidden, cell = self._go_on(read + there, left, above, linear)
        newest = (torch.cat([old[:, 1:], new[:, None]], 1) for old, new in zip(state, (hidden, cell), strict=True))
        return DecoderOutput.of_states(hidden[:, None]), GridState(*newest)

    def forced(self, inputs: Tensor, memory: Memory, forbidden: Tensor | None) -> DecoderOutput:
        """See ``Decoder``; by diagonals."""
        batch, time = inputs.shape[:2]
        rows = -(-time // self.columns)
        order, back, counts = _diagonals(rows, self.columns, self.ahead + 1)
        places = self.row[torch.arange(rows).clamp_max(len(self.row) - 1)][:, None] + self.column
        # Pixels come first, so that those of a diagonal lie side by side: (pixels, batch, …).
        whole = F.pad(inputs, (0, 0, 0, rows * self.columns - time)).transpose(0, 1) + places.flatten(0, 1)[:, None]
        read = self.read(whole.index_select(0, order.to(inputs.device))).split(counts)
        first = self._first(memory)
        # The newest state of each row of the picture, below a row above it that stays as it is.
        hidden, cell = (part.expand(rows + 1, batch, -1) for part in first)
        linear, made = UnrolledLinear(batch * max(counts)), []
        for number, gates in enumerate(read):
            top = max(0, -((self.columns - 1 - number) // (self.ahead + 1)))
            here, above = slice(top + 1, top + 1 + len(gates)), slice(top, top + len(gates))
            new = self._go_on(gates, (hidden[here], cell[here]), (hidden[above], cell[above]), linear)
            hidden, cell = (
                torch.cat([old[: here.start], part, old[here.stop :]])
                for old, part in zip((hidden, cell), new, strict=True)
            )
            made.append(new[0])
        states = torch.cat(made).index_select(0, back.to(inputs.device))[:time]
        return DecoderOutput.of_states(states.transpose(0, 1))

    def _go_on(
        self, read: Tensor, left: tuple[Tensor, Tensor], above: tuple[Tensor, Tensor], linear: Linear
    ) -> tuple[Tensor, Tensor]:
        """Hidden and cell (…, hidden_size) from the part of the gates that was read, and both neighbours."""
        gates = read + linear(torch.cat([left[0], above[0]], -1), self.recurrent, None)
        gated, candidate = gates.split([4 * self.size, self.size], -1)
        add, keep_left, keep_above, show = torch.sigmoid(gated).chunk(4, -1)
        cell = keep_left * left[1] + keep_above * above[1] + add * torch.tanh(candidate)
        return show * torch.tanh(cell), cell


@cache
def _diagonals(rows: int, columns: int, slope: int) -> tuple[Tensor, Tensor, list[int]]:
    """Pixels (rows · columns,) in the order of their diagonals, the inverse, and how many each diagonal has."""
    diagonal = (torch.arange(columns) + slope * torch.arange(rows)[:, None]).flatten()
    order = diagonal.argsort(stable=True)
    return order, order.argsort(), diagonal.bincount().tolist()
