"""Decoding with a transformer: kept keys and values beside none."""

from __future__ import annotations

import torch
from torch import Tensor

from bench_rows.measure import Figures, at_least, speedup
from bench_rows.policies import attention_policy, decode_batch
from bench_rows.task import id_config
from rlseq.config.decoders import TransformerDecoderConfig
from rlseq.config.encoders import TransformerEncoderConfig
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.layers.linear import PackedLinear
from rlseq_envs.source import Source

VOCABULARY, SIZE, BATCH, TOKENS, SOURCE = 8000, 512, 64, 20, 20


def _policy() -> EncoderDecoder:
    """Three layers of eight heads on each side."""
    config = id_config(VOCABULARY, SIZE, BATCH)
    encoder, decoder = TransformerEncoderConfig(layers=3, heads=8), TransformerDecoderConfig(layers=3, heads=8)
    section = config.policy.model_copy(update={"encoder": encoder, "decoder": decoder})
    return attention_policy(config.model_copy(update={"policy": section}), VOCABULARY)


@torch.no_grad()
def _without_keeping(policy: EncoderDecoder, source: Source[Tensor]) -> Tensor:
    """Greedy tokens (batch_size, TOKENS): each step reads all that was emitted once more."""
    memory, tokens = policy.encode(source), torch.zeros(BATCH, 1, dtype=torch.long)
    for _ in range(TOKENS):
        out = policy.decoder.forced(policy.output.embed(tokens, memory), memory, None)
        assert out is not None
        chosen = policy.project(policy.readout.features(out)[:, -1]).argmax(-1)
        tokens = torch.cat([tokens, chosen[:, None]], 1)
    return tokens[:, 1:]


@at_least(1.5, beside_default=True)
def transformer_decode_vs_without_keys(quick: bool) -> Figures:
    """Greedy decoding of 20 tokens: reading the whole prefix at each step, over ours with keys and values kept."""
    policy, generator = _policy(), torch.Generator().manual_seed(0)
    words = torch.randint(1, VOCABULARY, (BATCH, SOURCE), generator=generator)
    source, limits = Source.of(text=(words, torch.full((BATCH,), SOURCE))), torch.full((BATCH,), TOKENS)
    linear = PackedLinear(BATCH)

    def ours(turn: int) -> Tensor:
        decoded = decode_batch(policy, source, limits, turn=turn, samples=0, greedy=True, linear=linear)
        return decoded.sequences[:, 0]

    def other(turn: int) -> Tensor:
        return _without_keeping(policy, source)

    if not torch.equal(ours(0), other(0)):
        raise RuntimeError("decoding without kept keys gives other tokens")
    return speedup(ours, other, 4 if quick else 12)
