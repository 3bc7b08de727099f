"""Rewards token by token and generalised advantages: means over all that can be sampled, against plain loops.

The potential of each prefix is a number at random, so nothing but the increments' sum makes an estimator right.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlseq.config.baselines import CriticConfig
from rlseq.config.rl import RLConfig
from rlseq.models.policy import SequencePolicy
from rlseq.objectives.credit import generalised_advantages, rewards_before
from rlseq.training.batch import rl_batch
from rlseq.training.rollout import Rollout
from rlseq.training.update import batch_loss
from tests.objectives.test_critic import expected_parts, parts, with_critic
from tests.objectives.test_gradients import Enumeration, assert_same, config
from tests.objectives.test_mixer import AfterPrefix
from tests.support import attention_policy, pointer_policy

Prefix = tuple[int, ...]

pytestmark = pytest.mark.slow


class Shaped(Enumeration):
    """What a sequence has come to after each token is a number of the tokens so far; at the end it is the reward."""

    def __init__(self, policy: SequencePolicy, limit: int, temperature: float = 1.0) -> None:
        super().__init__(policy, limit, temperature)
        generator, worth = np.random.default_rng(1), dict[Prefix, float]()
        self.potentials = np.zeros(self.rows.shape)
        for index, sequence in enumerate(self.sequences):
            for time in range(1, len(sequence)):
                worth.setdefault(sequence[:time], generator.integers(-8, 9) / 8.0)
                self.potentials[index, time - 1] = worth[sequence[:time]]
            self.potentials[index, len(sequence) - 1] = self.rewards[index]

    def rollout(self, chosen: tuple[int, ...], greedy: bool) -> Rollout:
        return replace(super().rollout(chosen, greedy), potentials=self.potentials[list(chosen)][None])


class ShapedAfterPrefix(Shaped, AfterPrefix):
    """The same where the first two tokens are given."""


CASES = {
    "attention": lambda: Shaped(with_critic(attention_policy(vocabulary=3, feed_context=False)), 4),
    "feeding": lambda: Shaped(with_critic(attention_policy(vocabulary=3, feed_context=True)), 3, 0.7),
    "pointer": lambda: Shaped(with_critic(pointer_policy()), 3),
}
everywhere = pytest.mark.parametrize("case", CASES)


def actor_critic(gae_lambda: float = 1.0, shaped: bool = True, **keys: Any) -> RLConfig:
    return config(baseline={"type": "critic", "weight": 0.25, "shaped": shaped, "gae_lambda": gae_lambda}, **keys)


def drawn(enumeration: Enumeration, rl: RLConfig) -> Enumeration:
    """The enumeration with potentials only where they are asked for, as a rollout has them."""
    if not (rl.critic and rl.critic.shaped):
        roll_out = enumeration.rollout
        enumeration.rollout = lambda *of: replace(roll_out(*of), potentials=None)  # type: ignore[method-assign]
    return enumeration


# ------------------------------------------------------------------------------------------------------- plain loops
def states(enumeration: Enumeration) -> dict[Prefix, Tensor]:
    """The decoder's state before each token that can come."""
    policy, found = enumeration.policy, dict[Prefix, Tensor]()
    memory = policy.encode(enumeration.source)
    for sequence in enumeration.sequences:
        state, last = policy.initial_state(memory), torch.zeros(1, dtype=torch.int64)
        for time, token in enumerate(sequence):
            _, state, _ = policy.step(last, time, state, memory)
            found[sequence[:time]] = state.decoder.hidden[0].detach()
            last = torch.tensor([token])
    return found


def rewards(enumeration: Enumeration, shaped: bool) -> list[list[float]]:
    """Of each token of each sequence."""
    found = []
    for sequence, total, row in zip(enumeration.sequences, enumeration.rewards, potentials(enumeration), strict=True):
        increments = [row[0], *(after - before for before, after in itertools.pairwise(row))]
        found.append(increments[: len(sequence)] if shaped else [0.0] * (len(sequence) - 1) + [total])
        assert sum(found[-1]) == total
    return found


def potentials(enumeration: Enumeration) -> list[list[float]]:
    assert isinstance(enumeration, Shaped)
    found: list[list[float]] = enumeration.potentials.tolist()
    return found


def estimator(rewards: list[float], values: list[float], decay: float) -> list[float]:
    """Schulman et al. 2016, eqs. 10 and 16, with γ = 1."""
    time, values = len(rewards), [*values, 0.0]
    deltas = [rewards[t] + values[t + 1] - values[t] for t in range(time)]
    return [sum(decay**later * deltas[t + later] for later in range(time - t)) for t in range(time)]


def expected_estimator(enumeration: Enumeration, decay: float, shaped: bool) -> Tensor:
    """The mean of −Σ_t A_t ∇ log p(y_t)."""
    critic, before = enumeration.policy.critic, states(enumeration)
    assert critic is not None
    advantages = torch.zeros(enumeration.rows.shape, dtype=torch.float64)
    for index, (sequence, each) in enumerate(zip(enumeration.sequences, rewards(enumeration, shaped), strict=True)):
        values = [float(critic(before[sequence[:time]][None]).detach()) for time in range(len(sequence))]
        advantages[index, : len(sequence)] = torch.tensor(estimator(each, values, decay), dtype=torch.float64)
    of_sequences = (advantages * enumeration.token_log_probs()).sum(1)
    return parts(enumeration, -(enumeration.sampler() * of_sequences).sum())[0]


def expected_error(enumeration: Enumeration, shaped: bool) -> Tensor:
    """Mean squared error of the critic as a prediction of the rewards to come, the mean over samples."""
    critic, before = enumeration.policy.critic, states(enumeration)
    assert critic is not None
    total, each = torch.zeros((), dtype=torch.float64), rewards(enumeration, shaped)
    for index, sequence in enumerate(enumeration.sequences):
        errors = [
            (critic(before[sequence[:time]][None])[0] - sum(each[index][time:])).square()
            for time in range(len(sequence))
        ]
        total = total + enumeration.sampler()[index] * torch.stack(errors).mean()
    return total


class Exact(nn.Module):
    """Knows the rewards that are to be expected from each state on."""

    def __init__(self, enumeration: Enumeration, shaped: bool) -> None:
        super().__init__()
        before, distribution = states(enumeration), enumeration.sampler().tolist()
        weights, totals = dict.fromkeys(before, 0.0), dict.fromkeys(before, 0.0)
        for sequence, each, p in zip(enumeration.sequences, rewards(enumeration, shaped), distribution, strict=True):
            for time in range(len(sequence)):
                weights[sequence[:time]] += p
                totals[sequence[:time]] += p * sum(each[time:])
        self.states = torch.stack(list(before.values()))
        self.values = torch.tensor([totals[prefix] / (weights[prefix] or 1.0) for prefix in before])

    def forward(self, read: Tensor) -> Tensor:
        distances, nearest = torch.cdist(read, self.states).min(1)
        assert float(distances.max()) < 1e-6
        return self.values[nearest].to(read) + 0.0 * read.sum()


def exact(enumeration: Enumeration, values: np.ndarray | None = None) -> Tensor:
    """The gradient of −expected reward over the policy's parameters."""
    values = enumeration.rewards if values is None else values
    return parts(enumeration, -(enumeration.distribution() * torch.from_numpy(values)).sum())[0]


# -------------------------------------------------------------------------------------------------------- the policy
@everywhere
@pytest.mark.parametrize("objective", ["reinforce", "ppo"])
def test_rewards_token_by_token_leave_the_gradient_unbiased_whatever_the_critic(case: str, objective: str) -> None:
    enumeration = CASES[case]()
    rl = actor_critic(objective=objective, temperature=enumeration.temperature)
    policy, critic = expected_parts(enumeration, rl)
    assert_same(policy, exact(enumeration))
    assert_same(critic, parts(enumeration, 0.25 * expected_error(enumeration, shaped=True))[1])


def test_a_potential_that_looks_ahead_is_biased() -> None:
    """The control: each token is told what the next one comes to."""
    enumeration = CASES["attention"]()
    enumeration.potentials[:, :-1] = enumeration.potentials[:, 1:].copy()
    policy, _ = expected_parts(enumeration, actor_critic())
    assert float((policy - exact(enumeration)).abs().max()) > 1e-2


@everywhere
@pytest.mark.parametrize("shaped", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_generalised_advantages_have_the_mean_of_their_estimator(case: str, decay: float, shaped: bool) -> None:
    enumeration = CASES[case]()
    rl = actor_critic(decay, shaped, temperature=enumeration.temperature)
    expected = expected_estimator(enumeration, decay, shaped)
    policy, critic = expected_parts(drawn(enumeration, rl), rl)
    assert_same(policy, expected)
    assert float((policy - exact(enumeration)).abs().max()) > 1e-2  # as biased as this critic is wrong
    assert_same(critic, parts(enumeration, 0.25 * expected_error(enumeration, shaped))[1])


@everywhere
@pytest.mark.parametrize("shaped", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_with_a_critic_that_is_right_every_decay_is_unbiased(case: str, decay: float, shaped: bool) -> None:
    enumeration = CASES[case]()
    enumeration.policy.critic = Exact(enumeration, shaped)
    rl = actor_critic(decay, shaped, temperature=enumeration.temperature)
    assert_same(expected_parts(drawn(enumeration, rl), rl)[0], exact(enumeration))


@pytest.mark.parametrize(("clip", "scale"), [(None, 5.0), ((-0.5, 0.5), 1.0), ((0.25, 1.0), 3.0)])
def test_clipped_and_scaled_rewards_are_handed_out_to_the_end(clip: Any, scale: float) -> None:
    enumeration = CASES["attention"]()
    policy, _ = expected_parts(enumeration, actor_critic(reward_clip=clip, reward_scale=scale))
    assert_same(policy, exact(enumeration, enumeration.rewards.clip(*(clip or (-8, 8))) * scale))


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_given_tokens_keep_the_gradient_of_their_cross_entropy(decay: float) -> None:
    enumeration = ShapedAfterPrefix(with_critic(attention_policy(vocabulary=3)), 4)
    if decay < 1.0:
        enumeration.policy.critic = Exact(enumeration, True)
    policy, _ = expected_parts(enumeration, actor_critic(decay, objective="mixer"))
    distribution = enumeration.distribution() * enumeration.continues() / enumeration.given().exp()
    assert_same(
        policy,
        parts(enumeration, -enumeration.given() - (distribution * torch.from_numpy(enumeration.rewards)).sum())[0],
    )


@pytest.mark.parametrize("objective", ["reinforce", "ppo"])
def test_a_sample_drawn_twice_has_the_gradient_of_one(objective: str) -> None:
    enumeration = CASES["attention"]()
    found = []
    for chosen in ((23,), (23, 23)):
        rl = actor_critic(0.5, objective=objective, samples=len(chosen))
        batch, _ = rl_batch(enumeration.task, enumeration.rollout(chosen, False), rl)
        tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
        found.append(torch.cat(parts(enumeration, batch_loss(enumeration.policy, None, tensors, rl)[0])))
    assert_same(found[1], found[0])


# ----------------------------------------------------------------------------------------------------- the functions
numbers = st.floats(-8, 8, width=32)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6), min_size=1, max_size=4), st.data())
def test_advantages_are_the_papers_sums(rows: list[list[tuple[float, float]]], data: st.DataObject) -> None:
    decay = data.draw(st.floats(0.0, 1.0))
    errors = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.float64)
    expected = torch.zeros_like(errors)
    for index, row in enumerate(rows):
        each, values = map(list, zip(*row, strict=True))
        to_go = [math.fsum(each[time:]) - values[time] for time in range(len(row))]
        errors[index, : len(row)] = torch.tensor(to_go, dtype=torch.float64)
        expected[index, : len(row)] = torch.tensor(estimator(each, values, decay), dtype=torch.float64)
    torch.testing.assert_close(generalised_advantages(errors, decay), expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(generalised_advantages(errors, 1.0), errors, atol=1e-9, rtol=0)


def test_nothing_was_handed_out_before_the_first_token_whatever_the_bounds() -> None:
    potentials = np.array([[[0.0, 0.25, 1.0, 0.0]]])
    rl = RLConfig(updates=1, baseline=CriticConfig(shaped=True), reward_clip=(0.125, 0.5), reward_scale=4.0)
    np.testing.assert_array_equal(rewards_before(rl, potentials), [[[0.0, 0.5, 1.0, 2.0]]])
