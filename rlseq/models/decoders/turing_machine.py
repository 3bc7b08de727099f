"""The half of a Neural Turing Machine that emits a sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.decoders import TuringMachineDecoderConfig
from rlseq.models.layers.linear import Linear
from rlseq.models.layers.turing_machine import MachineState, TuringMachine
from rlseq.models.memory import TAPE, Memory
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes


class TuringMachineDecoder(Decoder):
    """A controller that goes on with the memory which the encoder wrote (Graves et al. 2014).

    Its heads start at the first location, its LSTM from the encoder's summary. The attention that it gives out is where
    the reading heads are, a mean over them.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    bank = TAPE
    holds_context = True

    def __init__(self, sizes: DecoderSizes, config: TuringMachineDecoderConfig) -> None:
        super().__init__()
        size = sizes.hidden_size
        self.machine = TuringMachine(sizes.input_size, size, config)
        self.bridge = nn.Linear(size, 2 * size) if self.machine.recurrent else None
        self.joined = nn.Linear(size + self.machine.readers * self.machine.width, size)

    def prepare(self, memory: Memory) -> Memory:
        """See ``Decoder``: nothing is made of it."""
        return memory

    def initial_state(self, memory: Memory) -> MachineState:
        """With the memory as the encoder left it."""
        if self.bridge is None:
            hidden = memory.summary.new_zeros(len(memory), self.machine.hidden_size)
            cell = hidden[:, :0]
        else:
            hidden, cell = torch.tanh(self.bridge(memory.summary)).chunk(2, 1)
        return self.machine.start(hidden, cell, memory.banks[self.bank].values)

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        """The inputs' part of the controller's gates."""
        return self.machine.read(inputs, linear)

    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: MachineState,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, MachineState]:
        """See ``Decoder``."""
        state = self.machine(read, state, linear)
        joined = torch.cat([state.hidden, state.reads], 1)
        hidden = linear(joined, self.joined.weight, self.joined.bias)[:, None]
        attention = state.weights[:, : self.machine.readers].mean(1, keepdim=True)
        scores = attention.clamp_min(torch.finfo(attention.dtype).tiny).log()
        return DecoderOutput(hidden, scores, attention, None), state
