"""What the decoder reads in place of the reference's tokens: own tokens, and their expected embedding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rlseq.decoding.sampling import decode
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.feeding import Feeding, PolicyTokens
from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy
from tests.support import attention_policy, pointer_policy, sources, targets

SOURCE_LENGTHS, LENGTHS = [5, 3, 1, 4], [4, 3, 1, 5]
POLICIES = pytest.mark.parametrize(
    "policy",
    [
        pytest.param(make(feed_context=feed, **keys), id=f"{make.__name__}-{feed}-{keys}")
        for feed in (False, True)
        for make, keys in ((attention_policy, {}), (pointer_policy, {"mask_revisits": False}))
    ],
)
MASKING = pytest.mark.parametrize("policy", [pointer_policy(mask_revisits=True)], ids=["masking"])


def batch(policy: SequencePolicy) -> tuple[Memory, Tensor, Tensor]:
    source = sources(policy, SOURCE_LENGTHS)
    return policy.encode(source), targets(policy, source, LENGTHS), torch.tensor(LENGTHS)


def rows_of(replaced: Tensor) -> list[Tensor]:
    return [column.nonzero()[:, 0] for column in replaced.unbind(1)]


def likeliest(logits: Tensor, rows: Tensor, step: int) -> Tensor:
    return logits.argmax(-1)


def gradients(policy: SequencePolicy, features: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, features.numel()).view_as(features)
    values = torch.where(features > -1e8, features, 0.0)
    found = torch.autograd.grad(
        (values * weights).sum(), list(policy.parameters()), retain_graph=True, allow_unused=True
    )
    return [torch.zeros(()) if part is None else part for part in found]


@POLICIES
def test_where_no_token_is_replaced_it_is_teacher_forcing(policy: SequencePolicy) -> None:
    memory, rows, lengths = batch(policy)
    never = PolicyTokens(rows_of(torch.zeros(rows.shape, dtype=torch.bool)), likeliest)
    ours, theirs = (policy.forced(memory, rows, lengths, read) for read in (never, None))
    torch.testing.assert_close(ours.features, theirs.features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.hidden, theirs.hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.attention, theirs.attention, atol=1e-5, rtol=0)
    for mine, other in zip(gradients(policy, ours.features), gradients(policy, theirs.features), strict=True):
        torch.testing.assert_close(mine, other, atol=2e-4, rtol=1e-3)


@POLICIES
def test_where_every_token_is_the_policys_own_it_reads_its_greedy_output(policy: SequencePolicy) -> None:
    memory, rows, lengths = batch(policy)
    replaced = torch.ones(rows.shape, dtype=torch.bool)
    replaced[:, 0] = False
    ours = policy.forced(memory, rows, lengths, PolicyTokens(rows_of(replaced), likeliest)).features
    state, tokens, emitted = policy.initial_state(memory), torch.zeros_like(rows[:, 0]), []
    for time in range(rows.shape[1]):  # on beyond END, which decoding does not go
        logits, state, _ = policy.step(tokens, time, state, memory)
        tokens = logits.argmax(-1)
        emitted.append(tokens)
    greedy = torch.stack(emitted, 1)
    torch.testing.assert_close(ours, policy.forced(memory, greedy, lengths).features, atol=1e-4, rtol=1e-4)
    decoded = decode(policy, memory.detach(), torch.full((len(rows),), rows.shape[1]))
    for row, length in enumerate(decoded.lengths[:, 0].tolist()):
        assert decoded.sequences[row, 0, :length].tolist() == greedy[row, :length].tolist()


@POLICIES
def test_own_tokens_pass_no_gradient_and_are_asked_for_where_they_are_read(policy: SequencePolicy) -> None:
    memory, rows, lengths = batch(policy)
    replaced = torch.zeros(rows.shape, dtype=torch.bool)
    replaced[[0, 1, 3], [1, 2, 3]] = True
    asked: list[tuple[list[int], int]] = []

    def choose(logits: Tensor, at: Tensor, step: int) -> Tensor:
        assert not logits.requires_grad
        asked.append((at.tolist(), step))
        return torch.ones_like(at)

    ours = policy.forced(memory, rows, lengths, PolicyTokens(rows_of(replaced), choose)).features
    assert asked == [([0], 1), ([1], 2), ([3], 3)]
    others = rows.clone()
    others[[0, 1, 3], [0, 1, 2]] = 1  # the token that is emitted at a step is the next one's input
    theirs = policy.forced(memory, others, lengths).features
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for mine, other in zip(gradients(policy, ours), gradients(policy, theirs), strict=True):
        torch.testing.assert_close(mine, other, atol=2e-4, rtol=1e-3)


@MASKING
@pytest.mark.parametrize("feeding", ["distribution", "own"])
def test_no_target_is_forbidden_by_what_is_read_in_its_place(policy: SequencePolicy, feeding: Any) -> None:
    memory, rows, lengths = batch(policy)
    real = torch.arange(rows.shape[1]) < lengths[:, None]
    following = torch.cat([rows[:, 1:], rows[:, :1]], 1)  # what is fed is what is to be pointed at next
    read: Feeding = (
        PolicyTokens(
            rows_of(real & (torch.arange(rows.shape[1]) > 0)), lambda logits, at, step: following[at, step - 1]
        )
        if feeding == "own"
        else "distribution"
    )
    logits = policy.forced(memory, rows, lengths, read).features
    assert (logits.gather(1, rows[real][:, None]) > -1e8).all()


# ------------------------------------------------------------------------------------------------------ distributions
def distribution_after(policy: EncoderDecoder, features: Tensor) -> Tensor:
    logits = features if policy.head is None else F.linear(features, *policy.head)
    return logits.softmax(-1)


@POLICIES
def test_the_distribution_is_the_mean_embedding_under_the_distribution(policy: EncoderDecoder) -> None:
    """Step by step, the embedding of every choice weighted by its probability."""
    memory, rows, lengths = batch(policy)
    state, tokens, expected = policy.initial_state(memory), torch.zeros_like(rows[:, 0]), []
    embedded = policy.output.embed(tokens[:, None], memory)[:, 0]
    for time in range(rows.shape[1]):
        read = policy.decoder.read(embedded)
        features, _, state = policy._advance(read, tokens, time, state, memory, F.linear)
        expected.append(features[:, 0])
        distribution = distribution_after(policy, features[:, 0])
        every = torch.arange(distribution.shape[1]).expand(len(distribution), -1)
        embedded = (distribution[:, :, None] * policy.output.embed(every, memory)).sum(1)
    real = torch.arange(rows.shape[1]) < lengths[:, None]
    theirs = torch.stack(expected, 1)[real]
    ours = policy.forced(memory, rows, lengths, "distribution").features
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for mine, other in zip(gradients(policy, ours), gradients(policy, theirs), strict=True):
        torch.testing.assert_close(mine, other, atol=5e-4, rtol=1e-3)


@POLICIES
def test_what_is_fed_has_a_gradient(policy: EncoderDecoder) -> None:
    """The first step's distribution counts in the second step's features."""
    memory, rows, lengths = batch(policy)
    captured: list[Tensor] = []
    embed = policy.output.embed_expected

    def capture(distribution: Tensor, *rest: Any) -> Tensor:
        distribution.retain_grad()
        captured.append(distribution)
        return embed(distribution, *rest)

    policy.output.embed_expected = capture  # type: ignore[method-assign, assignment]
    try:
        features = policy.forced(memory, rows, lengths, "distribution").features
    finally:
        del policy.output.embed_expected
    torch.where(features > -1e8, features, 0.0).square().sum().backward()
    policy.zero_grad()
    assert len(captured) == rows.shape[1] - 1
    assert all(distribution.grad is not None and distribution.grad.abs().sum() > 0 for distribution in captured)
