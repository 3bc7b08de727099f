"""The half of a Neural Turing Machine that reads a source."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rlseq.config.encoders import TuringMachineEncoderConfig
from rlseq.models.layers.linear import UnrolledLinear
from rlseq.models.layers.turing_machine import MachineState, TuringMachine
from rlseq.models.memory import SOURCE, TAPE, Bank, Memory
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq.models.policy import length_mask
from rlseq_envs.source import Source


class TuringMachineEncoder(Encoder):
    """A controller that writes while it reads (Graves et al. 2014).

    A source has one field, a sequence. The bank ``TAPE`` is the memory as it is at the end, a position for each
    location; the bank ``SOURCE`` has the controller's states, and the summary is the last of them.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    def __init__(self, sizes: EncoderSizes, config: TuringMachineEncoderConfig) -> None:
        super().__init__()
        self.machine = TuringMachine(sizes.input_size, sizes.hidden_size, config)
        self.locations = config.locations
        (self.field,) = sizes.sources
        self.keeps_inputs = sizes.points_to is not None

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """See ``Encoder``."""
        values, lengths = source.fields[self.field]
        inputs: Tensor = embedding(values)
        rows, time = inputs.shape[:2]
        if lengths is None:
            lengths = torch.full((rows,), time, device=inputs.device)
        order = lengths.argsort(descending=True, stable=True)
        packed = pack_padded_sequence(self.machine.read(inputs)[order], lengths[order].cpu(), batch_first=True)
        hidden, matrix, states = self._read(packed.data, packed.batch_sizes.tolist())
        back, mask = order.argsort(), length_mask(lengths, time)
        states = pad_packed_sequence(packed._replace(data=states), batch_first=True, total_length=time)[0][back]
        banks = {
            SOURCE: Bank(states, mask, inputs=inputs if self.keeps_inputs else None),
            TAPE: Bank(matrix[back], mask.new_ones(rows, self.locations)),
        }
        return Memory(banks, hidden[back])

    def _read(self, read: Tensor, counts: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Last states and memories of sources from the longest to the shortest, and all states, step by step.

        Args:
            read: (steps of all sources, …) the inputs' part of the gates, step by step.
            counts: How many sources have each step.
        """
        rows, linear, states = counts[0], UnrolledLinear(counts[0]), []
        hidden = read.new_zeros(rows, self.machine.hidden_size)
        cell = hidden if self.machine.recurrent else hidden[:, :0]
        state = self.machine.start(hidden, cell, self.machine.blank(rows, self.locations))
        last: list[tuple[Tensor, Tensor]] = []
        for step, going_on in zip(read.split(counts), [*counts[1:], 0], strict=True):
            state = self.machine(step, state, linear)
            states.append(state.hidden)
            ended = len(step) - going_on
            if ended:
                kept, left = zip(*(part.split([going_on, ended]) for part in state), strict=True)
                state, left = MachineState(*kept), MachineState(*left)
                last.append((left.hidden, left.matrix))
        hidden, matrix = (torch.cat(parts[::-1]) for parts in zip(*last, strict=True))
        return hidden, matrix, torch.cat(states)
