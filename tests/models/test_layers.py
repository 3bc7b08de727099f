"""Layers against torch's own LSTM and against the match functions as the papers write them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rlseq.config.parts import MatchFunction
from rlseq.models.layers.attention import Attention, fast_tanh
from rlseq.models.layers.recurrent import BidirectionalLSTM, LSTMLayer, lstm_step
from rlseq.objectives.logits import IMPOSSIBLE
from tests.support import MATCHES


def test_fast_tanh_is_tanh() -> None:
    x = torch.linspace(-30, 30, 10001)
    torch.testing.assert_close(fast_tanh(x), torch.tanh(x), atol=3e-7, rtol=0)


def test_one_step_equals_torchs_cell() -> None:
    torch.manual_seed(0)
    layer = LSTMLayer(5, 4, 1.0)
    nn.init.normal_(layer.bias_hh_l0)
    cell = nn.LSTMCell(5, 4)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, h, c = torch.randn(3, 5), torch.randn(3, 4), torch.randn(3, 4)
    ours = lstm_step(layer.input_gates(x, 5) + h @ layer.weight_hh_l0.t(), c)
    for mine, theirs in zip(ours, cell(x, (h, c)), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def test_recurrence_starts_orthogonal() -> None:
    for gate in LSTMLayer(5, 6, 1.0).weight_hh_l0.chunk(4):
        torch.testing.assert_close(gate @ gate.t(), torch.eye(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_encoder_equals_torchs_packed_bidirectional_lstm(layers: int) -> None:
    torch.manual_seed(0)
    encoder = BidirectionalLSTM(3, 8, layers, 1.0, 0.0)
    oracle = nn.LSTM(3, 4, layers, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for index in range(layers):
            for side, suffix in ((encoder.forwards, ""), (encoder.backwards, "_reverse")):
                for name, value in side[index].state_dict().items():
                    getattr(oracle, f"{name.removesuffix('0')}{index}{suffix}").copy_(value)
    inputs, lengths = torch.randn(4, 6, 3), torch.tensor([6, 1, 4, 2])
    packed, (last, _) = oracle(pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False))
    expected = pad_packed_sequence(packed, batch_first=True)[0]
    states, summary = encoder(inputs, lengths)
    real = torch.arange(6) < lengths[:, None]
    torch.testing.assert_close(states[real], expected[real], atol=1e-6, rtol=0)
    torch.testing.assert_close(summary, torch.cat([last[-2], last[-1]], 1), atol=1e-6, rtol=0)


def match_by_definition(attention: Attention, h: Tensor, z: Tensor) -> Tensor:
    """The score of one decoder state and one encoder state, as the paper writes it."""
    if attention.match == "additive":
        return attention.energy @ torch.tanh(attention.query.weight @ h + attention.key.weight @ z)
    if attention.match == "bilinear":
        return h @ attention.key.weight @ z
    if attention.match == "dot":
        return h @ z
    if attention.match == "scaled_dot":
        return h @ z / math.sqrt(len(h))
    return attention.sharpness * (h @ z) / (h.norm() * z.norm())


@pytest.mark.parametrize("match", MATCHES)
def test_match_functions_are_those_of_the_papers(match: MatchFunction) -> None:
    torch.manual_seed(0)
    attention = Attention(match, 6, 6)
    queries, states = torch.randn(2, 3, 6), torch.randn(2, 4, 6)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    scores = attention(queries, attention.keys(states), mask)
    for row in range(2):
        for time in range(3):
            for position in range(4):
                score = scores[row, time, position]
                if mask[row, position]:
                    expected = match_by_definition(attention, queries[row, time], states[row, position])
                    torch.testing.assert_close(score, expected, atol=1e-5, rtol=0)
                else:
                    assert score == IMPOSSIBLE


@pytest.mark.parametrize("match", ["additive", "bilinear"])
def test_learned_match_functions_compare_different_widths(match: MatchFunction) -> None:
    attention = Attention(match, 6, 4)
    scores = attention(torch.randn(2, 3, 6), attention.keys(torch.randn(2, 5, 4)), torch.ones(2, 5, dtype=torch.bool))
    assert scores.shape == (2, 3, 5)


@pytest.mark.parametrize("match", ["dot", "scaled_dot", "cosine"])
def test_products_of_different_widths_are_refused(match: MatchFunction) -> None:
    with pytest.raises(ValueError, match=f"{match}.*one width: 6 ≠ 4"):
        Attention(match, 6, 4)


def test_a_masked_score_has_probability_zero_and_no_gradient_that_is_not_finite() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0]], requires_grad=True)
    masked = logits.masked_fill(torch.tensor([[False, False, True]]), IMPOSSIBLE)
    assert masked.softmax(-1)[0, 2] == 0.0
    masked.log_softmax(-1)[0, 0].backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and logits.grad[0, 2] == 0.0
