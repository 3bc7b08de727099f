"""LSTM layers (Hochreiter & Schmidhuber 1997; forget gate, Gers et al. 2000)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.models.layers.attention import fast_tanh
from rlseq.models.layers.linear import Linear


class LSTMLayer(nn.LSTM):
    """One batch-first layer with orthogonal recurrence and the forget gate's bias set (Jozefowicz et al. 2015).

    Args:
        input_size: Width of an input vector.
        hidden_size: Width of a state.
        forget_bias: Initial bias of the forget gate.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, input_size: int, hidden_size: int, forget_bias: float) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)
        with torch.no_grad():
            for recurrent, fed in zip(self.weight_hh_l0.chunk(4), self.weight_ih_l0.chunk(4), strict=True):
                nn.init.orthogonal_(recurrent)
                nn.init.xavier_uniform_(fed)
            self.bias_hh_l0.zero_()
            self.bias_ih_l0.zero_()
            self.bias_ih_l0[hidden_size : 2 * hidden_size] = forget_bias

    def forward(self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None) -> Any:  # type: ignore[override]
        """See ``nn.LSTM``; in fp32 if bf16 is asked for and this CPU has no LSTM in it."""
        if inputs.is_cuda or not torch.is_autocast_enabled("cpu") or torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return super().forward(inputs, state)
        with torch.autocast("cpu", enabled=False):
            return super().forward(inputs.float(), state and (state[0].float(), state[1].float()))

    def input_gates(self, inputs: Tensor, size: int, linear: Linear = F.linear) -> Tensor:
        """The share of the first ``size`` input features in the gates, biases included: (…, 4 * hidden_size)."""
        return linear(inputs, self.weight_ih_l0[:, :size], self.bias_ih_l0 + self.bias_hh_l0)


def lstm_step(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """New hidden and cell state from pre-activation gates (batch_size, 4 * hidden_size) in torch's order i, f, g, o."""
    i, f, g, o = gates.chunk(4, 1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * fast_tanh(g)
    return torch.sigmoid(o) * fast_tanh(cell), cell


class BidirectionalLSTM(nn.Module):
    """Stacked bidirectional LSTM over padded sources (Schuster & Paliwal 1997).

    The backward direction reads each source from its own last position, so padding never reaches a state: a source
    is encoded alike in every batch.

    Args:
        input_size: Width of an input vector.
        hidden_size: Width of an output state; each direction has half of it.
        layers: Number of layers.
        forget_bias: Initial bias of the forget gates.
        dropout: Between the layers.
    """

    def __init__(self, input_size: int, hidden_size: int, layers: int, forget_bias: float, dropout: float) -> None:
        super().__init__()
        sizes = [input_size] + [hidden_size] * (layers - 1)
        self.forwards = nn.ModuleList(LSTMLayer(size, hidden_size // 2, forget_bias) for size in sizes)
        self.backwards = nn.ModuleList(LSTMLayer(size, hidden_size // 2, forget_bias) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """States (batch_size, source_length, hidden_size) and the joined last states (batch_size, hidden_size)."""
        batch, time = inputs.shape[:2]
        positions = torch.arange(time, device=inputs.device)
        mirror = torch.where(positions < lengths[:, None], lengths[:, None] - 1 - positions, positions)
        rows = torch.arange(batch, device=inputs.device)
        for layer, (ahead, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            inputs = self.dropout(inputs) if layer else inputs
            there = ahead(inputs)[0]
            mirrored = back(inputs[rows[:, None], mirror])[0]
            inputs = torch.cat([there, mirrored[rows[:, None], mirror]], -1)
        last = torch.cat([there[rows, lengths - 1], mirrored[rows, lengths - 1]], -1)
        return inputs, last
