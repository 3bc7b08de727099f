"""The LSTM over a picture: against its equations pixel by pixel, and what each pixel can see."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from rlseq.models.build import build_policy
from rlseq.models.decoders.grid_lstm import GridLSTM
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.spaces import TaskSpaces
from rlseq_envs.source import Source
from rlseq_envs.spaces import Choices
from tests.support import policy_config, shaken

ROWS, COLUMNS = 4, 5


def policy_of(ahead: int) -> EncoderDecoder:
    decoder = {"type": "grid_lstm", "ahead": ahead}
    config = policy_config({"encoder": "nothing", "decoder": decoder}, hidden_size=6, embedding_size=3, dropout=0.0)
    return shaken(build_policy(config, TaskSpaces({}, Choices(ROWS * COLUMNS, 3, ends=False, columns=COLUMNS))))


def by_the_equations(policy: EncoderDecoder, tokens: Tensor) -> Tensor:
    """States (pixels, hidden_size) of one picture, one pixel after the other."""
    decoder = policy.decoder
    assert isinstance(decoder, GridLSTM)
    memory = policy.encode(Source(1, {}))
    first = torch.tanh(decoder.first(memory.summary[0])).chunk(2)
    read = policy.output.embed(torch.cat([tokens.new_zeros(1), tokens[:-1]])[None], memory)[0]
    states: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    for row, column in itertools.product(range(ROWS), range(COLUMNS)):
        left = states.get((row, column - 1), first)
        above = states.get((row - 1, min(column + decoder.ahead, COLUMNS - 1)), first)
        inputs = read[row * COLUMNS + column] + decoder.row[row] + decoder.column[column]
        gates = decoder.inputs(inputs) + decoder.recurrent @ torch.cat([left[0], above[0]])
        add, keep_left, keep_above, show, candidate = gates.chunk(5)
        cell = keep_left.sigmoid() * left[1] + keep_above.sigmoid() * above[1] + add.sigmoid() * candidate.tanh()
        states[row, column] = show.sigmoid() * cell.tanh(), cell
    return torch.stack([hidden for hidden, _ in states.values()])


@pytest.mark.parametrize("ahead", [1, 2, 4, 7])
def test_it_follows_its_equations(ahead: int) -> None:
    policy = policy_of(ahead)
    tokens = torch.randint(1, 3, (3, ROWS * COLUMNS), generator=torch.Generator().manual_seed(0))
    forced = policy.forced(policy.encode(Source(3, {})), tokens, torch.full((3,), ROWS * COLUMNS))
    for row in range(3):
        torch.testing.assert_close(forced.hidden_steps[0][row], by_the_equations(policy, tokens[row]))


@pytest.mark.parametrize(("ahead", "seen"), [(1, 0), (2, 1), (3, 2)])
def test_a_pixel_sees_the_row_above_as_far_as_it_is_told(ahead: int, seen: int) -> None:
    """Pixel (2, 1) depends on (1, c) up to c = 1 + ``seen``, and on its left neighbour."""
    policy, place = policy_of(ahead), 2 * COLUMNS + 1
    tokens = torch.ones(1, ROWS * COLUMNS, dtype=torch.int64)
    lengths = torch.tensor([ROWS * COLUMNS])
    plain = policy(Source(1, {}), tokens, lengths)[0, place]
    for column in range(COLUMNS):
        changed = tokens.clone()
        changed[0, COLUMNS + column] = 2
        differs = not torch.equal(policy(Source(1, {}), changed, lengths)[0, place], plain)
        assert differs == (column <= 1 + seen or column == COLUMNS - 1), column  # the last one is read at (2, 0)
    tokens[0, place - 1] = 2
    assert not torch.equal(policy(Source(1, {}), tokens, lengths)[0, place], plain)
