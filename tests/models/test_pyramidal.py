"""The pyramidal encoder against the paper's recurrence, one source at a time by torch's own bidirectional LSTM."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.encoders.pyramidal import PyramidalEncoder
from rlseq.models.memory import SOURCE
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices, Space
from tests.support import policy_config, shaken

LENGTHS = [13, 1, 8, 5, 2]


def pyramid(halvings: int) -> EncoderDecoder:
    section = {"encoder": {"type": "pyramidal", "halvings": halvings}}
    config = policy_config(section, hidden_size=8, embedding_size=6, dropout=0.0)
    return shaken(build_policy(config, TaskSpaces({"frames": Space.of_vectors(3, 13)}, Choices(9, 7))))


def plain(policy: EncoderDecoder, frames: Tensor) -> tuple[Tensor, Tensor]:
    """States (positions, 8) of one source (time, 3), and the last ones of both directions (8,)."""
    assert isinstance(policy.encoder, PyramidalEncoder)
    weights, states, last = policy.state_dict(), policy.embedding(frames), torch.zeros(8)
    for number in range(len(policy.encoder.layers)):
        if number:
            rows = [*states, *[torch.zeros(8)] * (len(states) % 2)]
            states = torch.stack([torch.cat(rows[i : i + 2]) for i in range(0, len(rows), 2)])
        layer = nn.LSTM(states.shape[1], 4, bidirectional=True)
        for direction, suffix in (("forwards", ""), ("backwards", "_reverse")):
            for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
                getattr(layer, name + suffix).data = weights[f"encoder.layers.{number}.{direction}.0.{name}"]
        states, (hidden, _) = layer(states)
        last = hidden.flatten()
    return states, last


@pytest.mark.parametrize("halvings", [1, 2, 3])
@torch.no_grad()
def test_states_are_those_of_the_recurrence_whatever_stands_beside_a_source(halvings: int) -> None:
    policy = pyramid(halvings)
    frames = torch.randn(len(LENGTHS), 13, 3, generator=torch.Generator().manual_seed(0))
    memory = policy.encode(Source.of(frames=(frames, torch.tensor(LENGTHS))))
    bank = memory.banks[SOURCE]
    assert bank.mask.sum(1).tolist() == [-(-length // 2**halvings) for length in LENGTHS]
    for row, length in enumerate(LENGTHS):
        states, last = plain(policy, frames[row, :length])
        torch.testing.assert_close(bank.values[row][bank.mask[row]], states)
        torch.testing.assert_close(memory.summary[row], last)


def test_it_does_not_go_with_an_output_that_points() -> None:
    config = policy_config({"encoder": "pyramidal", "output": "pointer"}, hidden_size=9)
    points = TaskSpaces({"points": Space.of_vectors(2, 9)}, Choices(10, points_to="points"))
    with pytest.raises(
        ValueError, match=r"(?s)hidden_size 9 is odd.*joins the positions.*set policy.encoder.type to lstm"
    ):
        build_policy(config, points)
