"""A controller with heads that read and write a memory (Graves, Wayne & Danihelka 2014)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.parts import TuringMachineKeys
from rlseq.models.layers.heads import move_and_write
from rlseq.models.layers.linear import Linear
from rlseq.models.layers.recurrent import lstm_step

BLANK = 1e-6  # what stands in each place of the first memory


class MachineState(NamedTuple):
    """What a machine carries from step to step.

    Attributes:
        hidden: (rows, hidden_size) of the controller.
        cell: (rows, hidden_size) of an LSTM; of width 0 without one.
        reads: (rows, read_heads · width) what the heads read last.
        weights: (rows, heads, locations) where each head is, those that read first.
        matrix: (rows, locations, width) the memory.
    """

    hidden: Tensor
    cell: Tensor
    reads: Tensor
    weights: Tensor
    matrix: Tensor


class TuringMachine(nn.Module):
    """One step: the controller reads its input and what was read last, heads find locations, write, then read.

    All heads find their locations in the memory as it was before the step. So what is written in a step can be read in
    it, and one product compares all keys with the memory. A head starts at the first location, as on a tape.

    Args:
        input_size: Width of an input.
        hidden_size: Width of the controller's state.
        config: The section of one half.
    """

    def __init__(self, input_size: int, hidden_size: int, config: TuringMachineKeys) -> None:
        super().__init__()
        self.hidden_size, self.width, self.recurrent = hidden_size, config.width, config.controller == "lstm"
        self.readers, self.writers = config.read_heads, config.write_heads
        self.shift = config.shift if config.addressing == "content_and_location" else 0
        gates = 4 * hidden_size if self.recurrent else hidden_size
        read = self.readers * self.width
        self.inputs = nn.Linear(input_size, gates)
        self.past = nn.Linear(read + hidden_size if self.recurrent else read, gates, bias=False)
        each = self.width + 1 + (2 * self.shift + 3 if self.shift else 0)
        self._parts = [each * (self.readers + self.writers), *[self.width * self.writers] * 2]
        self.heads = nn.Linear(hidden_size, sum(self._parts))
        self.first_reads = nn.Parameter(torch.zeros(read))
        with torch.no_grad():
            for layer in (self.inputs, self.past, self.heads):
                nn.init.xavier_uniform_(layer.weight)
            self.inputs.bias.zero_()
            self.heads.bias.zero_()
            if self.recurrent:
                self.inputs.bias[hidden_size : 2 * hidden_size] = config.forget_bias
                for recurrent in self.past.weight[:, read:].chunk(4):
                    nn.init.orthogonal_(recurrent)

    def blank(self, rows: int, locations: int) -> Tensor:
        """The first memory, (rows, locations, width): the same everywhere (Collier & Beel 2018)."""
        return self.first_reads.new_full((rows, locations, self.width), BLANK)

    def start(self, hidden: Tensor, cell: Tensor, matrix: Tensor) -> MachineState:
        """The state before the first step, for a controller in this state and with this memory."""
        rows, locations = matrix.shape[:2]
        weights = matrix.new_zeros(rows, self.readers + self.writers, locations)
        weights[:, :, 0] = 1.0
        return MachineState(hidden, cell, self.first_reads.expand(rows, -1), weights, matrix)

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        """The inputs' part of the controller's gates."""
        return linear(inputs, self.inputs.weight, self.inputs.bias)

    def forward(self, read: Tensor, state: MachineState, linear: Linear = F.linear) -> MachineState:
        """The next state.

        Args:
            read: (rows, …) as of ``read``.
            state: The last one.
            linear: Does the linear maps.
        """
        if self.recurrent:
            past = linear(torch.cat([state.reads, state.hidden], 1), self.past.weight, None)
            hidden, cell = lstm_step(read + past, state.cell)
        else:
            hidden, cell = torch.tanh(read + linear(state.reads, self.past.weight, None)), state.cell
        parts = linear(hidden, self.heads.weight, self.heads.bias).split(self._parts, 1)
        heads = parts[0].unflatten(1, (self.readers + self.writers, -1))
        erased, added = (part.unflatten(1, (self.writers, -1)) for part in parts[1:])
        reads, weights, matrix = move_and_write(heads, erased, added, state.weights, state.matrix, self.shift)
        return MachineState(hidden, cell, reads.flatten(1), weights, matrix)
