"""Transformers: each layer is torch's own, sets have no order, local attention sees no further than its window."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from rlseq.config.decoders import TransformerDecoderConfig
from rlseq.config.encoders import TransformerEncoderConfig
from rlseq.models.build import build_policy
from rlseq.models.decoders.transformer import DecoderLayer
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.encoders.transformer import EncoderLayer, TransformerEncoder
from rlseq.models.layers.transformer import FeedForward, MultiHeadAttention, Positions, Residual, near
from rlseq.models.memory import SOURCE, Memory
from rlseq_envs.source import Source
from tests.support import POINTS, policy_config, shaken, sources, stepped_log_probs, targets, text_spaces

SIZE, HEADS, INNER = 8, 2, 20
NORMS = ("pre", "post")


def sequences(rows: int, time: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, time, SIZE, generator=torch.Generator().manual_seed(seed))


def transformer(points: bool, encoder: dict[str, Any] | None = None, **decoder: Any) -> EncoderDecoder:
    parts = {"type": "transformer", "layers": 2, "heads": HEADS}
    base = {"encoder": parts | (encoder or {}), "decoder": parts | decoder}
    base["output"] = {"type": "pointer" if points else "vocabulary"}
    config = policy_config(base, hidden_size=SIZE, dropout=0.0)
    return shaken(build_policy(config, POINTS if points else text_spaces(7, 9)))


# ------------------------------------------------------------------------------------------------- beside torch's own
def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.data = torch.cat([ours.query.weight, ours.key_value.weight])
    theirs.in_proj_bias.data = torch.cat([ours.query.bias, torch.zeros(2 * SIZE)])
    theirs.out_proj.load_state_dict(ours.join.state_dict())


def copy_map(ours: FeedForward, theirs: Any) -> None:
    theirs.linear1.load_state_dict(ours.up.state_dict())
    theirs.linear2.load_state_dict(ours.down.state_dict())


def copy_norms(theirs: Any, *ours: Residual) -> None:
    for number, residual in enumerate(ours, 1):
        getattr(theirs, f"norm{number}").load_state_dict(residual.norm.state_dict())


@pytest.mark.parametrize("norm", NORMS)
def test_an_encoder_layer_is_that_of_torch(norm: Any) -> None:
    config = TransformerEncoderConfig(heads=HEADS, feedforward_size=INNER, norm=norm)
    ours = shaken(EncoderLayer(SIZE, 0.0, config))  # type: ignore[type-var]
    theirs = nn.TransformerEncoderLayer(SIZE, HEADS, INNER, 0.0, batch_first=True, norm_first=norm == "pre").eval()
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_map(ours.feed_forward, theirs)
    copy_norms(theirs, ours.attending, ours.mapping)
    states, lengths = sequences(3, 5), torch.tensor([5, 2, 4])
    mask = torch.arange(5) < lengths[:, None]
    torch.testing.assert_close(
        ours(states, mask[:, None])[mask], theirs(states, src_key_padding_mask=~mask)[mask], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_decoder_layer_is_that_of_torch(norm: Any) -> None:
    config = TransformerDecoderConfig(heads=HEADS, feedforward_size=INNER, norm=norm)
    ours = shaken(DecoderLayer(SIZE, 0.0, config))  # type: ignore[type-var]
    theirs = nn.TransformerDecoderLayer(SIZE, HEADS, INNER, 0.0, batch_first=True, norm_first=norm == "pre").eval()
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_attention(ours.attention, theirs.multihead_attn)
    copy_map(ours.feed_forward, theirs)
    copy_norms(theirs, ours.recalling, ours.attending, ours.mapping)
    states, source, mask = sequences(3, 5), sequences(3, 4, 1), torch.arange(4) < torch.tensor([4, 1, 3])[:, None]
    memory = Memory({}, source.mean(1))
    causal = near(5, 5, None, causal=True, device=states.device)
    keys = ours.attention.keys_values(source)
    made, weights, _ = ours(
        states, states[:, :0].repeat(1, 1, 2), causal, keys, mask[:, None], memory, nn.functional.linear
    )
    expected = theirs(states, source, tgt_mask=~causal[0], memory_key_padding_mask=~mask)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, HEADS, 5))
    assert not weights.masked_select(~mask[:, None, None].expand_as(weights)).any()


def test_waves_are_those_of_the_paper() -> None:
    """Wavelengths go from 2π to 10,000 · 2π; sines are the first half, as in the authors' code."""
    added = Positions("sinusoidal", SIZE, 9)(torch.zeros(1, 6, SIZE), first=3)[0]
    for step in range(6):
        for wave in range(SIZE // 2):
            angle = (step + 3) / 10000 ** (wave / (SIZE // 2 - 1))
            assert added[step, wave].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert added[step, wave + SIZE // 2].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_positions_beyond_the_learned_ones_are_the_last() -> None:
    positions = Positions("learned", SIZE, 4)
    added = positions(torch.zeros(7, SIZE))
    assert torch.equal(added[:4], positions.table) and torch.equal(added[4:], positions.table[3:].expand(3, SIZE))


# ------------------------------------------------------------------------------------------------------------- sets
def permuted(source: Source[Tensor], order: Tensor) -> Source[Tensor]:
    ((name, (values, lengths)),) = source.fields.items()
    return Source.of(**{name: (values[:, order], lengths)})


@pytest.mark.parametrize("kind", ["none", "sinusoidal", "learned"])
def test_without_positions_the_order_of_a_source_says_nothing(kind: str) -> None:
    policy = transformer(True, {"positions": kind})
    source, order = sources(policy, [5, 5]), torch.tensor([3, 0, 4, 2, 1])
    ours, theirs = policy.encode(source), policy.encode(permuted(source, order))
    values = theirs.banks[SOURCE].values[:, 1:], ours.banks[SOURCE].values[:, 1:][:, order]
    same = torch.allclose(*values, atol=1e-5) and torch.allclose(theirs.summary, ours.summary, atol=1e-5)
    assert same == (kind == "none")


# ---------------------------------------------------------------------------------------------------- long sources
def test_scores_times_log_n_are_those_of_queries_times_log_n() -> None:
    scaled, plain = (transformer(True, {"scale_by_log_length": scales}) for scales in (True, False))
    lengths = [2, 5, 3]
    together = scaled.encode(sources(scaled, lengths)).banks[SOURCE].values
    for row, length in enumerate(lengths):
        plain.load_state_dict(scaled.state_dict())
        for layer in cast("TransformerEncoder", plain.encoder).layers:
            query = cast("EncoderLayer", layer).self_attention.query
            query.weight.data *= math.log(length)
            query.bias.data *= math.log(length)
        alone = plain.encode(sources(plain, lengths)).banks[SOURCE].values
        assert torch.allclose(together[row], alone[row], atol=1e-6)
        assert not torch.allclose(together[row - 1], alone[row - 1], atol=1e-4)


def test_scores_times_log_n_keep_weights_sharp_on_longer_sources() -> None:
    """One position among n that all match less: its weight vanishes as n grows, unless scores grow with log n."""
    attention = MultiHeadAttention(1, 1, 0.0)
    attention.query.weight.data, attention.key_value.weight.data = torch.ones(1, 1), torch.ones(2, 1)
    weights = {}
    for scales in (False, True):
        for n in (10, 1000):
            states = torch.zeros(1, n, 1)
            states[0, 0] = 2.0
            factors = torch.tensor([[math.log(n)]]) if scales else None
            _, found = attention(states[:, :1], attention.keys_values(states), None, factors=factors)
            weights[scales, n] = found[0, 0, 0, 0].item()
    assert weights[False, 1000] < 0.06 < 0.8 < weights[False, 10]
    assert weights[True, 1000] > weights[True, 10] > 0.99


# -------------------------------------------------------------------------------------------------- local attention
def test_near_is_counted_by_hand() -> None:
    allowed = near(2, 5, 2, causal=True, device=torch.device("cpu"))[0]
    assert allowed.tolist() == [[False, True, True, True, False], [False, False, True, True, True]]
    assert near(3, 3, 1, causal=False, device=torch.device("cpu"))[0].long().tolist() == [
        [1, 1, 0],
        [1, 1, 1],
        [0, 1, 1],
    ]


def test_a_window_bounds_what_a_decoder_keeps_and_sees() -> None:
    """Two layers of window 2 see four tokens back; an older token changes nothing, a nearer one does."""
    policy = transformer(False, window=2)
    source = sources(policy, [4])
    rows = targets(policy, source, [8])
    memory, state = policy.encode(source), policy.initial_state(policy.encode(source))
    for time, token in enumerate(rows[0]):
        _, state, _ = policy.step(token[None], time, state, memory)
        assert all(kept.shape[1] == min(time + 1, 2) for kept in state.decoder.layers)

    def last(changed: int) -> Tensor:
        other = rows.clone()
        other[0, changed] = rows[0, changed] % 6 + 1
        return stepped_log_probs(policy, memory, other)[0, -1]

    whole = stepped_log_probs(policy, memory, rows)[0, -1]
    assert torch.equal(last(0), whole) and torch.equal(last(1), whole)
    assert not torch.equal(last(6), whole) and not torch.equal(last(3), whole)


def test_a_window_bounds_what_an_encoder_sees() -> None:
    policy = transformer(False, {"window": 1, "layers": 1})
    source = sources(policy, [6])
    ((name, (values, lengths)),) = source.fields.items()
    other = values.clone()
    other[0, 5] = other[0, 5] % 8 + 1
    before, after = (policy.encode(Source.of(**{name: (v, lengths)})).banks[SOURCE].values[0] for v in (values, other))
    assert torch.equal(before[:4], after[:4]) and not torch.equal(before[4], after[4])
