"""The half of a Neural Turing Machine that reads a source."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.config.policy import TuringMachineEncoderConfig
from rlseq.models.layers.linear import UnrolledLinear
from rlseq.models.layers.turing_machine import TuringMachine
from rlseq.models.memory import SOURCE, TAPE, Bank, Memory
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq.models.policy import length_mask
from rlseq_envs.source import Source


class TuringMachineEncoder(Encoder):
    """A controller that writes while it reads (Graves et al. 2014).

    A source has one field, a sequence. The bank ``TAPE`` is the memory as it is at the end, a position for each location;
    the bank ``SOURCE`` has the controller's states, the summary is the last of them.

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
        mask, linear, states = length_mask(lengths, time), UnrolledLinear(rows), []
        hidden = inputs.new_zeros(rows, self.machine.hidden_size)
        cell = hidden if self.machine.recurrent else hidden[:, :0]
        state = self.machine.start(hidden, cell, self.machine.blank(rows, self.locations))
        for read, counted in zip(self.machine.read(inputs).unbind(1), mask.unbind(1), strict=True):
            state = self.machine(read, state, linear, counted[:, None])
            states.append(state.hidden)
        values = torch.stack(states, 1).masked_fill(~mask[:, :, None], 0.0)
        everywhere = mask.new_ones(rows, self.locations)
        banks = {
            SOURCE: Bank(values, mask, inputs=inputs if self.keeps_inputs else None),
            TAPE: Bank(state.matrix, everywhere),
        }
        return Memory(banks, state.hidden)
