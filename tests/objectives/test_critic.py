"""The critic as a baseline of each token: REINFORCE stays unbiased, and the critic follows its own squared error."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from rlseq.config.baselines import CriticConfig
from rlseq.config.rl import RLConfig
from rlseq.models.critic import Critic
from rlseq.models.policy import SequencePolicy
from rlseq.training.batch import rl_batch
from rlseq.training.update import batch_loss
from tests.objectives.test_gradients import Enumeration, assert_same, config
from tests.objectives.test_mixer import AfterPrefix
from tests.support import attention_policy, padded, pointer_policy, sources


def with_critic(policy: SequencePolicy) -> SequencePolicy:
    """The policy with a critic whose predictions are far from 0 and differ from token to token."""
    with torch.random.fork_rng(devices=[]):  # the same critic, whatever tests ran before
        torch.manual_seed(4)
        policy.critic = Critic(8, CriticConfig(hidden_size=5))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in policy.critic.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return policy


def parts(enumeration: Enumeration, loss: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient over the policy's parameters, and that over its critic's."""
    named = list(enumeration.policy.named_parameters())
    found = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, materialize_grads=True)
    split: tuple[list[Tensor], list[Tensor]] = ([], [])
    for (name, _), gradient in zip(named, found, strict=True):
        split[name.startswith("critic.")].append(gradient.flatten())
    return torch.cat(split[0]), torch.cat([*split[1], torch.empty(0)])


def expected_parts(enumeration: Enumeration, rl: RLConfig) -> tuple[Tensor, Tensor]:
    """The mean of what training would follow, over single samples."""
    total: Any = (0.0, 0.0)
    for index, weight in enumerate(enumeration.sampler().tolist()):
        if not weight:
            continue
        batch, _ = rl_batch(enumeration.task, enumeration.rollout((index,), False), rl)
        tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
        found = parts(enumeration, batch_loss(enumeration.policy, None, tensors, rl)[0])
        total = tuple(mean + weight * part for mean, part in zip(total, found, strict=True))
    return total


def expected_error(enumeration: Enumeration, first: int = 0) -> Tensor:
    """Mean squared error of the critic over the tokens of each sample, from ``first`` on, the mean over samples."""
    policy, total = enumeration.policy, torch.zeros((), dtype=torch.float64)
    assert policy.critic is not None
    memory = policy.encode(enumeration.source)
    distribution, rewards = enumeration.sampler(), torch.from_numpy(enumeration.rewards)
    for index, sequence in enumerate(enumeration.sequences):
        state, last, errors = policy.initial_state(memory), torch.zeros(1, dtype=torch.int64), []
        for time, token in enumerate(sequence):
            _, state, _ = policy.step(last, time, state, memory)
            errors.append((policy.critic(state.decoder.hidden.detach())[0] - rewards[index]).square())
            last = torch.tensor([token])
        if distribution[index]:
            total = total + distribution[index] * torch.stack(errors[first:]).mean()
    return total


CASES = {
    "attention": lambda: Enumeration(with_critic(attention_policy(vocabulary=3, feed_context=False)), 4),
    "feeding": lambda: Enumeration(with_critic(attention_policy(vocabulary=3, feed_context=True)), 3, 0.7),
    "pointer": lambda: Enumeration(with_critic(pointer_policy()), 3),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("objective", ["reinforce", "ppo"])
def test_the_policy_is_unbiased_and_the_critic_follows_its_error(case: str, objective: str) -> None:
    enumeration = CASES[case]()
    rl = config(objective=objective, baseline={"type": "critic", "weight": 0.25}, temperature=enumeration.temperature)
    policy, critic = expected_parts(enumeration, rl)
    exact = parts(enumeration, -(enumeration.distribution() * torch.from_numpy(enumeration.rewards)).sum())
    assert_same(policy, exact[0])
    assert_same(critic, parts(enumeration, 0.25 * expected_error(enumeration))[1])


def test_given_tokens_are_nothing_to_a_critic() -> None:
    enumeration = AfterPrefix(with_critic(attention_policy(vocabulary=3)), 4)
    policy, critic = expected_parts(enumeration, config(objective="mixer", baseline={"type": "critic", "weight": 1.0}))
    distribution = enumeration.distribution() * enumeration.continues() / enumeration.given().exp()
    exact = parts(enumeration, -enumeration.given() - (distribution * torch.from_numpy(enumeration.rewards)).sum())
    assert_same(policy, exact[0])
    assert_same(critic, parts(enumeration, expected_error(enumeration, first=2))[1])


def test_a_critic_lowers_the_variance_that_its_absence_leaves() -> None:
    """Predicting the mean reward already does, where rewards are far from 0."""
    enumeration = Enumeration(attention_policy(vocabulary=3), 3)
    enumeration.rewards = enumeration.rewards + 5.0
    fitted = Critic(8, CriticConfig(hidden_size=5)).double()
    torch.nn.init.constant_(cast(Tensor, fitted[2].bias), 5.0)
    spread = []
    for baseline, critic in (("none", None), ("critic", fitted)):
        enumeration.policy.critic, squares = critic, 0.0
        for index, weight in enumerate(enumeration.sampler().tolist()):
            batch, _ = rl_batch(enumeration.task, enumeration.rollout((index,), False), config(baseline=baseline))
            tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
            loss = batch_loss(enumeration.policy, None, tensors, config(baseline=baseline))[0]
            squares += weight * float(parts(enumeration, loss)[0].square().sum())
        spread.append(squares)
    assert spread[1] < spread[0] / 5


@pytest.mark.parametrize("feed", [False, True])
def test_states_are_those_of_stepping(feed: bool) -> None:
    policy = attention_policy(feed_context=feed)
    source = sources(policy, [3, 5])
    rows, lengths = padded([[1, 2, 0], [3, 4, 5, 6, 0]])
    memory = policy.encode(source)
    state, last, steps = policy.initial_state(memory), torch.zeros(2, dtype=torch.int64), []
    for time, tokens in enumerate(rows.unbind(1)):
        _, state, _ = policy.step(last, time, state, memory)
        steps.append(state.decoder.hidden)
        last = tokens
    stepped = torch.stack(steps, 1)
    torch.testing.assert_close(
        policy.forced(memory, rows, lengths).hidden, torch.cat([stepped[0, :3], stepped[1]]), atol=1e-5, rtol=0
    )


def test_weights_go_between_policies_with_and_without_a_critic() -> None:
    plain, critical = attention_policy(seed=1), with_critic(attention_policy(seed=2))
    fitted = {name: value.clone() for name, value in critical.state_dict().items() if name.startswith("critic.")}
    critical.load_state_dict(plain.state_dict())
    for name, value in critical.state_dict().items():
        torch.testing.assert_close(value, fitted[name] if name in fitted else plain.state_dict()[name])
    plain.load_state_dict(with_critic(attention_policy(seed=3)).state_dict())
    assert plain.critic is None
    torch.testing.assert_close(dict(plain.state_dict()), dict(attention_policy(seed=3).state_dict()))
    missing = {name: value for name, value in plain.state_dict().items() if "bridge" not in name}
    with pytest.raises(RuntimeError, match=r"Missing key.*bridge"):
        plain.load_state_dict(missing)
