"""A pyramidal encoder on frames of sound: ours beside packed bidirectional LSTMs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench_rows.measure import Figures, at_least, speedup
from rlseq.config.policy import PolicyConfig
from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.encoders.pyramidal import PyramidalEncoder
from rlseq.models.memory import SOURCE
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space

BANDS, SIZE, BATCH, FRAMES, HALVINGS = 40, 128, 64, 180, 2


def _policy() -> EncoderDecoder:
    section = {"hidden_size": SIZE, "dropout": 0.0, "encoder": {"type": "pyramidal", "halvings": HALVINGS}}
    spaces = TaskSpaces({"frames": Space.of_vectors(BANDS, FRAMES)}, Choices(9, 20))
    return build_policy(PolicyConfig.model_validate(section), spaces)


def _layers(policy: EncoderDecoder) -> list[nn.LSTM]:
    """torch's, with our weights."""
    assert isinstance(policy.encoder, PyramidalEncoder)
    weights, made = policy.state_dict(), []
    for number in range(1 + HALVINGS):
        layer = nn.LSTM(2 * SIZE if number else SIZE, SIZE // 2, batch_first=True, bidirectional=True)
        for direction, suffix in (("forwards", ""), ("backwards", "_reverse")):
            for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
                getattr(layer, name + suffix).data = weights[f"encoder.layers.{number}.{direction}.0.{name}"]
        made.append(layer)
    return made


def _plain(layers: list[nn.LSTM], states: Tensor, lengths: Tensor) -> Tensor:
    """Each layer on packed sources, then neighbours side by side."""
    for number, layer in enumerate(layers):
        if number:
            states = F.pad(states, (0, 0, 0, states.shape[1] % 2)).unflatten(1, (-1, 2)).flatten(2)
            lengths = (lengths + 1) // 2
        packed = pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(layer(packed)[0], batch_first=True)[0]
    return states


@at_least(1.2)
def pyramid_vs_packed(quick: bool) -> Figures:
    """The gradient of 64 sounds of 20 to 180 frames of 40 bands: torch's LSTMs on packed sources over ours."""
    policy, generator = _policy(), torch.Generator().manual_seed(0)
    frames = torch.randn(BATCH, FRAMES, BANDS, generator=generator)
    lengths = torch.randint(20, FRAMES + 1, (BATCH,), generator=generator)
    lengths[0] = FRAMES
    source, layers = Source.of(frames=(frames, lengths)), _layers(policy)

    def ours(turn: int) -> Tensor:
        bank = policy.encode(source).banks[SOURCE]
        total = bank.values[bank.mask].square().sum()
        total.backward()
        return total.detach()

    def other(turn: int) -> Tensor:
        total = _plain(layers, policy.embedding(frames), lengths).square().sum()
        total.backward()
        return total.detach()

    torch.testing.assert_close(ours(0), other(0))
    return speedup(ours, other, 4 if quick else 12)
