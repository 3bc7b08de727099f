"""Captions of pictures by a convolutional grid and attention: ours beside the plainest loop over words."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench_rows.measure import Figures, at_least, speedup
from rlseq.config.policy import PolicyConfig
from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.policy import length_mask, shift_right
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.settings import CaptionSettings
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices

VOCABULARY, SIZE, BATCH, LONGEST = 1000, 128, 64, 24


def _policy() -> EncoderDecoder:
    """The configuration ``scenes`` without dropout."""
    section = {"hidden_size": SIZE, "dropout": 0.0, "encoder": "convolutional"}
    config = PolicyConfig.model_validate({**section, "decoder": {"type": "attention_lstm", "match": "additive"}})
    return build_policy(config, TaskSpaces(CaptionSettings().outline()[0], Choices(LONGEST, VOCABULARY))).eval()


def _batch() -> tuple[Source[Tensor], Tensor, Tensor]:
    """Pictures of 32 x 32 pixels, captions of 8 to 24 words."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (BATCH, 32, 32, 3), generator=generator).byte()
    lengths = torch.randint(8, LONGEST + 1, (BATCH,), generator=generator)
    lengths[0] = LONGEST
    words = torch.randint(1, VOCABULARY, (BATCH, LONGEST), generator=generator)
    last = torch.arange(LONGEST) == lengths[:, None] - 1
    return Source.of(picture=(pictures, None)), words.masked_fill(last, 0), lengths


def _plain_loss(policy: EncoderDecoder, source: Source[Tensor], words: Tensor, lengths: Tensor) -> Tensor:
    """Word by word, padding included: every cell's key, score and weight, then the logits."""
    weights = dict(policy.named_parameters())
    maps = source.fields["picture"].values.movedim(-1, 1) / 255
    for layer, stride in enumerate((2, 2, 1)):
        kernel, bias = (weights[f"encoder.layers.{layer}.{name}"] for name in ("weight", "bias"))
        maps = F.relu(F.conv2d(maps, kernel, bias, stride, padding=1))
    cells = F.linear(maps.flatten(2).mT, weights["encoder.widen.weight"], weights["encoder.widen.bias"])
    cells = F.relu(cells + weights["encoder.places"])
    first = torch.tanh(F.linear(cells.mean(1), weights["decoder.bridge.weight"], weights["decoder.bridge.bias"]))
    hidden, cell = first.chunk(2, 1)
    fed, loss = torch.zeros(BATCH, SIZE), torch.zeros(())
    lstm = [weights[f"decoder.lstm.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    for time, tokens in enumerate(shift_right(words).unbind(1)):
        embedded = SIZE**0.5 * weights["output.weight"][tokens]
        hidden, cell = torch.lstm_cell(torch.cat([embedded, fed], 1), (hidden, cell), *lstm)
        keys = F.linear(cells, weights["decoder.attention.key.weight"])
        query = F.linear(hidden, weights["decoder.attention.query.weight"])
        scores = torch.tanh(keys + query[:, None]) @ weights["decoder.attention.energy"]
        seen = (scores.softmax(-1)[:, :, None] * cells).sum(1)
        fed = torch.tanh(F.linear(torch.cat([hidden, seen], 1), weights["readout.combine.weight"]))
        logits = F.linear(fed, weights["output.weight"], weights["output.bias"])
        each = F.cross_entropy(logits, words[:, time], reduction="none")
        loss = loss + (each * (time < lengths)).sum()
    return loss / lengths.sum()


@at_least(1.3)
def captions_vs_plain(quick: bool) -> Figures:
    """The gradient of 64 captions: a loop over words, by the same weights, over ours."""
    policy, (source, words, lengths) = _policy(), _batch()
    counted = length_mask(lengths, LONGEST)

    def ours(turn: int) -> Tensor:
        loss = F.cross_entropy(policy.token_logits(policy.encode(source), words, lengths), words[counted])
        loss.backward()
        return loss.detach()

    def other(turn: int) -> Tensor:
        loss = _plain_loss(policy, source, words, lengths)
        loss.backward()
        return loss.detach()

    torch.testing.assert_close(ours(0), other(0))
    return speedup(ours, other, 4 if quick else 12)
