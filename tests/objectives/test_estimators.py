"""Mini-batches, advantages by instance, dynamic sampling and given starts: what each estimates, by enumeration.

All sequences of a tiny task are put through the very path of training, as in ``test_gradients``.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlseq.config.rl import RLConfig
from rlseq.data.padding import concatenate_sources
from rlseq.models.policy import SequencePolicy
from rlseq.training.batch import Batch, rl_batch, step_batches
from rlseq.training.draw import Drawn, draw
from rlseq.training.engine import UpdateRequest
from rlseq.training.rollout import Rollout
from rlseq.training.update import batch_loss
from rlseq_envs.source import Source
from rlseq_envs.task import Ints
from tests.objectives.test_gradients import Enumeration, assert_same, config
from tests.support import attention_policy, pointer_policy, sources

pytestmark = pytest.mark.slow


def gradient(enumeration: Enumeration, batch: Batch, rl: RLConfig) -> Tensor:
    tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
    return enumeration.gradient(batch_loss(enumeration.policy, None, tensors, rl)[0])


# -------------------------------------------------------------------------------------------------------- mini-batches
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_the_mean_of_the_mini_batches_gradients_is_the_batchs(parts: int) -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3), 3)
    ppo = {"epochs": 3, "minibatches": parts}
    rl = config(objective={"type": "ppo"} | ppo, baseline="leave_one_out", samples=2, batch_size=5, entropy=0.1)
    instances = [enumeration.rollout(chosen, False) for chosen in ((0, 3), (1, 7), (2, 2), (14, 5), (6, 9))]
    batch, _ = rl_batch(enumeration.task, Rollout.concatenate(instances), rl)
    whole, steps = gradient(enumeration, batch, rl), step_batches(batch, rl, seed=4)
    assert len(steps) == 3 * parts and float(whole.abs().max()) > 1e-2
    orders = []
    for epoch in (steps[:parts], steps[parts : 2 * parts], steps[2 * parts :]):
        assert {len(step["targets"]) for step in epoch} <= {5 // parts, -(-5 // parts)}
        orders.append(np.concatenate([step["token_log_probs"] for step in epoch]))
        mean = torch.stack([gradient(enumeration, step, rl) for step in epoch]).mean(0)
        torch.testing.assert_close(mean, whole, atol=1e-6, rtol=0)
    rows = [sorted(map(np.ndarray.tobytes, order)) for order in orders]
    assert rows[0] == rows[1] == rows[2]  # every instance once in each epoch
    assert (parts == 1) == all(np.array_equal(order, orders[0]) for order in orders)  # in another order each time
    again = step_batches(batch, rl, seed=4)
    assert all(
        np.array_equal(ours[name], theirs[name]) for ours, theirs in zip(steps, again, strict=True) for name in ours
    )


# ----------------------------------------------------------------------------------------- advantages by instance
def by_instance(enumeration: Enumeration, baseline: str, samples: int) -> Tensor:
    """The gradient of −Σ_tuples p Σ_k A_k log p(y_k) / K, A held fixed: GRPO's advantages, written down."""
    distribution, rewards = enumeration.sampler(), enumeration.rewards
    coefficients = torch.zeros(len(distribution), dtype=torch.float64)
    for chosen in itertools.product(range(len(distribution)), repeat=samples):
        seen = [float(rewards[index]) for index in chosen]
        mean = sum(seen) / samples
        deviation = (sum((reward - mean) ** 2 for reward in seen) / samples) ** 0.5
        if deviation:
            for index, reward in zip(chosen, seen, strict=True):
                others = mean if baseline == "mean" else (sum(seen) - reward) / (samples - 1)
                coefficients[index] += distribution[list(chosen)].prod() * (reward - others) / deviation / samples
    return enumeration.gradient(-(coefficients * enumeration.distribution().log()).sum())


@pytest.mark.parametrize(
    ("baseline", "samples", "limit"), [("mean", 2, 3), ("leave_one_out", 2, 3), ("mean", 3, 2), ("leave_one_out", 3, 2)]
)
def test_advantages_by_instance_are_grpos(baseline: str, samples: int, limit: int) -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3, feed_context=False), limit)
    rl = config(baseline=baseline, samples=samples, normalize_advantage="instance")
    ours, exact = enumeration.expected_estimate(rl), enumeration.exact()
    assert_same(ours, by_instance(enumeration, baseline, samples))
    cosine = torch.nn.functional.cosine_similarity(ours, exact, dim=0)
    assert 0 < float(cosine) < 0.999  # biased, not only scaled


# ---------------------------------------------------------------------------------------------------- dynamic sampling
class Stream:
    """Two instances of one policy, either as likely to be drawn: which come, and their samples, is enumerated."""

    def __init__(self, policy: SequencePolicy) -> None:
        self.instances = [Enumeration(policy, 2), Enumeration(policy, 2)]
        other = self.instances[1]
        other.source = sources(policy, [2], seed=5)
        other.rewards = np.array([0.5, 0.5, 0.5, 0.0, -0.5, 0.5, 0.0])  # alike more often than the first's
        self.task: Any = SimpleNamespace(source=self._source)

    def _source(self, ids: Ints) -> Source[np.ndarray]:
        return concatenate_sources([self.instances[index].task.source(np.zeros(1)) for index in ids])

    def draws(self) -> list[tuple[float, Rollout]]:
        """Everything that one draw of one instance with two samples can be, with its probability."""
        found = []
        for index, instance in enumerate(self.instances):
            distribution = instance.sampler()
            for chosen in itertools.product(range(len(distribution)), repeat=2):
                drawn = replace(instance.rollout(chosen, False), ids=np.array([index]))
                found.append((0.5 * float(distribution[list(chosen)].prod()), drawn))
        return found

    def exact(self) -> Tensor:
        return torch.stack([instance.exact() for instance in self.instances]).mean(0)


def differ(drawn: Rollout) -> bool:
    return bool(drawn.rewards[0, 0] != drawn.rewards[0, 1])


def test_dynamic_sampling_scales_the_exact_gradient() -> None:
    """By 1 / P(samples differ) with as many draws as it takes, and by the first terms of this series with a few."""
    stream = Stream(attention_policy(vocabulary=3, feed_context=False))
    rl = config(baseline="leave_one_out", samples=2, batch_size=1, dynamic_sampling=1)
    draws = stream.draws()
    request = UpdateRequest("rl", 7, 0, np.zeros(1, np.int64), 1e-3, spare=(np.zeros(1, np.int64),))

    def drawn_of(*rollouts: Rollout) -> Drawn:
        coming = iter(rollouts)
        return draw(stream.task, lambda ids, number: next(coming), request, rl, 0)

    kept = [(probability, drawn_of(drawn).batch) for probability, drawn in draws if differ(drawn)]
    gradients = [gradient(stream.instances[0], batch, rl) for _, batch in kept]
    mean = sum(probability * found for (probability, _), found in zip(kept, gradients, strict=True))
    assert isinstance(mean, Tensor)
    alike = 1.0 - sum(probability for probability, _ in kept)
    assert 0.2 < alike < 0.8
    assert_same(mean / (1 - alike), stream.exact() / (1 - alike))
    for probability, first in draws:
        if differ(first):
            continue
        coming = iter(zip(kept, gradients, strict=True))
        for _, second in draws:
            drawn = drawn_of(first, second)
            assert drawn.stats["rollout/drawn_ratio"] == 2.0
            assert drawn.stats["rollout/reward_mean"] == first.rewards.mean()  # nobody chose the first draw
            if not differ(second):
                assert not drawn.batch["weights"].any()
                continue
            (chance, batch), found = next(coming)
            assert all(np.array_equal(drawn.batch[name], batch[name]) for name in batch)
            mean = mean + probability * chance * found
    assert_same(mean, (1 + alike) * stream.exact())


# ---------------------------------------------------------------------------------------------------------- starts
class Started(Enumeration):
    """Sample k begins with the k-th start and follows the policy from there."""

    starts: tuple[int, ...] = (1, 2)

    def of(self, start: int) -> Tensor:
        """Probability of each sequence given its first token."""
        begins = self.rows[:, 0] == start
        return self.distribution() * begins / (self.distribution() * begins).sum()

    def exact(self) -> Tensor:
        """The gradient of −the mean over the starts of the expected reward given the start."""
        expected = torch.stack([self.of(start) @ torch.from_numpy(self.rewards) for start in self.starts])
        return self.gradient(-expected.mean())

    def rollout(self, chosen: tuple[int, ...], greedy: bool) -> Rollout:
        drawn = super().rollout(chosen, greedy)
        given = np.zeros(drawn.lengths.shape, np.int64)
        given[:, : len(chosen)] = 1
        assert drawn.token_log_probs is not None
        token_log_probs = np.where(np.arange(self.rows.shape[1]) < given[:, :, None], 0.0, drawn.token_log_probs)
        return replace(drawn, given=given, token_log_probs=token_log_probs, log_probs=token_log_probs.sum(2))

    def expected_estimate(self, config: RLConfig) -> Tensor:
        distributions = [self.of(start).detach() for start in self.starts]
        mean = torch.zeros_like(self.exact())
        for chosen in itertools.product(*(distribution.nonzero()[:, 0].tolist() for distribution in distributions)):
            probability = torch.stack(
                [distribution[index] for distribution, index in zip(distributions, chosen, strict=True)]
            ).prod()
            mean += probability * self.estimate(config, chosen)
        return mean


class StartedTwice(Started):
    """A start that comes twice counts twice."""

    starts = (1, 2, 1)


@pytest.mark.parametrize("kind", [Started, StartedTwice])
@pytest.mark.parametrize("baseline", ["leave_one_out", "mean", "greedy", "none"])
@pytest.mark.parametrize("objective", ["reinforce", "ppo"])
def test_given_starts_optimise_the_mean_over_the_starts(kind: type[Started], baseline: str, objective: str) -> None:
    enumeration = kind(attention_policy(vocabulary=3, feed_context=False), 2 if kind is StartedTwice else 3)
    samples = len(kind.starts)
    rl = config(objective=objective, baseline=baseline, samples=samples, starts="task")
    scale = (samples - 1) / samples if baseline == "mean" else 1.0
    assert_same(enumeration.expected_estimate(rl), scale * enumeration.exact())


def test_given_starts_of_a_pointer() -> None:
    enumeration = Started(pointer_policy(), 3)
    rl = config(baseline="leave_one_out", samples=2, starts="task")
    assert_same(enumeration.expected_estimate(rl), enumeration.exact())


def test_a_given_start_trained_as_a_sampled_one_is_biased() -> None:
    """The control."""
    enumeration = Started(attention_policy(vocabulary=3, feed_context=False), 3)
    rl = config(baseline="leave_one_out", samples=2, starts="task")
    plain = enumeration.rollout
    enumeration.rollout = lambda chosen, greedy: replace(plain(chosen, greedy), given=None)  # type: ignore[method-assign]
    assert float((enumeration.expected_estimate(rl) - enumeration.exact()).abs().max()) > 1e-2


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_in_later_epochs_a_given_start_has_the_ratio_one(ratio: str) -> None:
    enumeration = Started(attention_policy(vocabulary=3), 3)
    bounds = {"ratio": ratio, "clip": 0.1, "clip_high": 0.3}
    rl = config(objective={"type": "ppo"} | bounds, baseline="greedy", starts="task")
    rows = [index for index, sequence in enumerate(enumeration.sequences) if sequence[0] == 1]
    batches = [rl_batch(enumeration.task, enumeration.rollout((index,), True), rl)[0] for index in rows]
    drawn_under = enumeration.token_log_probs().detach()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in enumeration.policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    for index, batch in zip(rows, batches, strict=True):
        log_ratio = (enumeration.token_log_probs() - drawn_under)[index, : int(enumeration.lengths[index])].clone()
        log_ratio[0] = 0.0
        ratios = log_ratio.exp() if ratio == "token" else log_ratio.mean().exp().expand(len(log_ratio))
        advantage = float(enumeration.rewards[index]) - enumeration.greedy_reward
        terms = torch.stack([ratios * advantage, ratios.clamp(0.9, 1.3) * advantage]).amin(0)
        if ratio == "token":
            expected = enumeration.gradient(-terms[1:].sum())
        else:  # GSPO-token: the ratio's gradient at a token is that of the token's own log-probability
            flows = (ratios * advantage == terms)[0].item()
            log_probs = enumeration.token_log_probs()[index, 1 : len(log_ratio)]
            expected = enumeration.gradient(-(ratios[0].detach() * advantage * log_probs).sum() * float(flows))
        torch.testing.assert_close(gradient(enumeration, batch, rl), expected, atol=1e-6, rtol=0)
