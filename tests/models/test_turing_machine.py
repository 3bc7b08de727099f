"""Neural Turing machines: heads are those of the paper, read equation by equation, and so are their gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.layers.heads import move_and_write
from rlseq.models.layers.turing_machine import BLANK
from rlseq.models.memory import SOURCE, TAPE
from tests.support import only, policy_config, shaken, sources, text_spaces

ROWS, LOCATIONS, WIDTH = 3, 6, 4
SHIFTS = (0, 1, 2)
HEADS = ((1, 1), (2, 1), (1, 2))


def step_arguments(readers: int, writers: int, shift: int, seed: int = 0) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    heads, parts = readers + writers, WIDTH + 1 + (2 * shift + 3 if shift else 0)
    before = drawn(ROWS, heads, LOCATIONS).softmax(2)
    given = [drawn(ROWS, heads, parts), drawn(ROWS, writers, WIDTH), drawn(ROWS, writers, WIDTH), before]
    return [*(each.requires_grad_() for each in [*given, drawn(ROWS, LOCATIONS, WIDTH)]), shift]


def softplus(value: Tensor) -> Tensor:
    return (1 + value.exp()).log()


def plain_step(heads: Any, erased: Any, added: Any, before: Any, matrix: Any, shift: int) -> list[Any]:
    """Head by head, location by location (Graves et al. 2014, eqs. 2 to 9)."""
    readers = heads.shape[1] - erased.shape[1]
    reads, weights, memories = [], [], []
    for row in range(len(heads)):
        places = []
        for head in range(heads.shape[1]):
            given = heads[row, head]
            key = given[:WIDTH].tanh()
            cosines = [key @ line / (key @ key).sqrt() / (line @ line).sqrt() for line in matrix[row]]
            found = (softplus(given[WIDTH]) * torch.stack(cosines)).softmax(0)
            if shift:
                gate, moves = given[WIDTH + 1].sigmoid(), given[WIDTH + 2 : -1].softmax(0)
                mixed = gate * found + (1 - gate) * before[row, head]
                moved = []
                for place in range(LOCATIONS):
                    parts = [mixed[(place - j + shift) % LOCATIONS] * moves[j] for j in range(2 * shift + 1)]
                    moved.append(torch.stack(parts).sum())
                sharp = torch.stack(moved) ** (1 + softplus(given[-1]))
                found = sharp / sharp.sum()
            places.append(found)
        memory = matrix[row]
        for writer in range(erased.shape[1]):
            where = places[readers + writer][:, None]
            memory = memory * (1 - where * erased[row, writer].sigmoid()) + where * added[row, writer].tanh()
        reads.append(torch.stack([place @ memory for place in places[:readers]]))
        weights.append(torch.stack(places))
        memories.append(memory)
    return [torch.stack(reads), torch.stack(weights), torch.stack(memories)]


# ------------------------------------------------------------------------------------------------------------ a step
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("readers", "writers"), HEADS)
def test_a_step_and_its_gradients_are_those_of_the_equations(readers: int, writers: int, shift: int) -> None:
    arguments = step_arguments(readers, writers, shift)
    learned = [each for each in arguments[:-1] if shift or each is not arguments[3]]
    gradients = []
    for step in (move_and_write, plain_step):
        outputs = step(*arguments)
        loss = sum((each * torch.linspace(-1, 2, each.numel()).view_as(each)).sum() for each in outputs)
        gradients.append([*outputs, *torch.autograd.grad(loss, learned)])  # type: ignore[arg-type]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)


def test_gradients_hold_through_several_steps() -> None:
    arguments, later = step_arguments(2, 2, 1), step_arguments(2, 2, 1, seed=1)

    def two(heads: Any, erased: Any, added: Any, before: Any, matrix: Any) -> Any:
        _, weights, matrix = move_and_write(heads, erased, added, before, matrix, 1)
        return move_and_write(later[0], later[1], later[2], weights, matrix, 1)

    assert torch.autograd.gradcheck(two, tuple(arguments[:-1]), atol=1e-6)


def test_a_head_that_stands_still_or_meets_a_blank_memory_stays_finite() -> None:
    heads = torch.full((1, 2, 8 + WIDTH - 2), 40.0).float()
    heads[:, :, WIDTH + 1] = -40.0
    heads[:, :, WIDTH + 2 : -1] = torch.tensor([-40.0, 40.0, -40.0])
    before = torch.zeros(1, 2, LOCATIONS)
    before[:, :, 2] = 1.0
    memory = torch.full((1, LOCATIONS, WIDTH), BLANK)
    given = [
        each.requires_grad_() for each in (heads, torch.zeros(1, 1, WIDTH), torch.ones(1, 1, WIDTH), before, memory)
    ]
    reads, weights, matrix = move_and_write(given[0], given[1], given[2], given[3], given[4], 1)
    torch.testing.assert_close(weights, before)
    torch.testing.assert_close(reads[0, 0], matrix[0, 2])
    (reads.sum() + weights.square().sum()).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in given)


# --------------------------------------------------------------------------------------------------------- a network
def machine(**keys: Any) -> EncoderDecoder:
    part = {"type": "turing_machine", "width": 5}
    base = {"encoder": part | {"locations": 9}, "decoder": part}
    config = policy_config(base, **{"hidden_size": 8, "dropout": 0.0} | keys)
    return build_policy(config, text_spaces(7, 9))


@pytest.mark.parametrize("controller", ["lstm", "feed_forward"])
def test_an_encoder_is_its_machine_step_by_step_source_by_source(controller: str) -> None:
    policy = shaken(machine(controller=controller))
    source = sources(policy, [4, 1, 6, 4])
    encoder: Any = policy.encoder
    memory = policy.encode(source)
    for row, (tape, length) in enumerate(zip(*only(source), strict=True)):
        blank = encoder.machine.blank(1, 9)
        hidden = blank.new_zeros(1, 8)
        state = encoder.machine.start(hidden, hidden if controller == "lstm" else hidden[:, :0], blank)
        for place in range(int(length)):
            state = encoder.machine(encoder.machine.read(policy.embedding(tape[None, place])), state)
            torch.testing.assert_close(memory.banks[SOURCE].values[row, place], state.hidden[0])
        torch.testing.assert_close(memory.banks[TAPE].values[row], state.matrix[0])
        torch.testing.assert_close(memory.summary[row], state.hidden[0])
    assert not memory.banks[SOURCE].values[~memory.banks[SOURCE].mask].any()


def test_the_first_memory_is_the_same_everywhere_and_the_decoder_begins_with_what_was_written() -> None:
    policy = shaken(machine())
    memory = policy.encode(sources(policy, [5, 2]))
    state = policy.initial_state(memory).decoder
    assert torch.equal(state.matrix, memory.banks[TAPE].values) and (state.matrix != BLANK).any()
    assert state.weights[:, :, 0].eq(1).all() and not state.weights[:, :, 1:].any()


def test_attention_is_where_the_reading_heads_are() -> None:
    policy = shaken(machine(read_heads=2))
    memory = policy.encode(sources(policy, [5, 2]))
    _, state, attention = policy.step(torch.zeros(2, dtype=torch.int64), 0, policy.initial_state(memory), memory)
    torch.testing.assert_close(attention, state.decoder.weights[:, :2].mean(1))
    torch.testing.assert_close(attention.sum(1), torch.ones(2))


@pytest.mark.parametrize("controller", ["lstm", "feed_forward"])
def test_a_machine_learns_to_copy_what_it_read(controller: str) -> None:
    """Two symbols of three: a memory is needed, an LSTM's own or the matrix."""
    torch.manual_seed(0)
    policy = machine(controller=controller, hidden_size=16)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        source = sources(policy, [2] * 32, seed=int(torch.randint(1 << 30, (), generator=generator)))
        symbols = only(source)[0] % 3 + 1
        source = type(source).of(text=(symbols, torch.full((32,), 2)))
        rows = torch.cat([symbols, torch.zeros(32, 1, dtype=torch.int64)], 1)
        loss = -policy(source, rows, torch.full((32,), 3)).gather(2, rows[:, :, None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * 2 * math.log(3) / 3


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        (
            {"encoder": {"type": "turing_machine", "width": 5}, "decoder": "turing_machine"},
            "policy.decoder.width 20 is not that of the memory, policy.encoder.width 5: set policy.decoder.width to 5",
        ),
        ({"decoder": "turing_machine"}, "'lstm' writes none: set policy.encoder.type to turing_machine"),
        (
            {"encoder": {"type": "turing_machine", "locations": 2}, "decoder": "lstm"},
            "policy.encoder.shift 1 goes round a memory of 2 locations: set policy.encoder.locations to 3 or more",
        ),
    ],
)
def test_halves_that_do_not_go_together_are_told(policy: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        build_policy(policy_config(policy, hidden_size=8), text_spaces(7, 9))
    assert problem in str(caught.value) and "\n" not in str(caught.value)
