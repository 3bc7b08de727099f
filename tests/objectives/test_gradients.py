"""Each estimator's mean over all that can be sampled is the exact gradient of the expected reward.

With 3 tokens and at most 4 of them there are 31 sequences: each is put through the very path of training, from
rollout to gradient, and weighted with its probability. Of a truncated distribution, only sequences of its support can
be sampled, and the exact gradient is that of the expected reward with the support of every state held fixed.
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlseq.config.rl import RLConfig
from rlseq.models.policy import SequencePolicy, length_mask
from rlseq.training.batch import rl_batch
from rlseq.training.rollout import Rollout
from rlseq.training.update import batch_loss
from rlseq_envs.source import Source
from tests.support import attention_policy, every_sequence, padded, pointer_policy, sources

pytestmark = pytest.mark.slow


class Enumeration:
    """A policy in double precision, one source, every sequence it can emit, and a reward for each."""

    def __init__(self, policy: SequencePolicy, limit: int, temperature: float = 1.0) -> None:
        self.policy, self.temperature = policy.double(), temperature
        source = sources(policy, [2])
        self.source = source.map(lambda values: values.double() if values.is_floating_point() else values)
        self.sequences = every_sequence(3, limit)
        self.rows, self.lengths = padded(self.sequences)
        generator = np.random.default_rng(0)
        self.rewards = generator.integers(-8, 9, len(self.sequences)) / 8.0
        self.greedy_reward = 0.625
        self.task: Any = SimpleNamespace(source=self._source)

    def _source(self, ids: np.ndarray) -> Source[np.ndarray]:
        return self.source.select(torch.zeros(len(ids), dtype=torch.int64)).map(lambda values: values.numpy())

    def token_log_probs(self) -> Tensor:
        """Log-probability of each token (sequences, time), 0 beyond a length, with its graph."""
        memory = self.policy.encode(self.source)
        memory = memory.select(torch.zeros(len(self.rows), dtype=torch.int64))
        logits = self.policy.token_logits(memory, self.rows, self.lengths) / self.temperature
        real = length_mask(self.lengths, self.rows.shape[1])
        taken = logits.log_softmax(-1).gather(1, self.rows[real][:, None])[:, 0]
        return taken.new_zeros(real.shape).masked_scatter(real, taken)

    def distribution(self) -> Tensor:
        """Probability of each sequence, with its graph."""
        return self.token_log_probs().sum(1).exp()

    def gradient(self, loss: Tensor) -> Tensor:
        """The gradient over all parameters as one vector."""
        parameters = list(self.policy.parameters())
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in found])

    def exact(self) -> Tensor:
        """The gradient of −expected reward."""
        return self.gradient(-(self.distribution() * torch.from_numpy(self.rewards)).sum())

    def sampler(self) -> Tensor:
        """Probability of each sequence under the distribution that is sampled from."""
        return self.distribution().detach()

    def rollout(self, chosen: tuple[int, ...], greedy: bool) -> Rollout:
        """As if these sequences had been sampled for one instance."""
        index = [*chosen, 0] if greedy else list(chosen)
        rewards = self.rewards[index]
        if greedy:
            rewards[-1] = self.greedy_reward
        shape = (1, len(index))
        return Rollout(
            np.array([0]),
            self.task.source(np.array([0])),
            self.rows[index][None].numpy(),
            self.lengths[index][None].numpy(),
            self.sampler().log()[index][None].numpy(),
            rewards[None],
            {},
            np.zeros(shape, np.bool_),
            greedy,
            token_log_probs=self.token_log_probs().detach()[index][None].numpy(),
        )

    def estimate(self, config: RLConfig, chosen: tuple[int, ...]) -> Tensor:
        """The gradient that training would follow, had these sequences been sampled."""
        baseline = {"total": 0.375, "weight": 1.0}  # of a running mean
        batch, _ = rl_batch(self.task, self.rollout(chosen, config.decodes_greedy), config, baseline)
        tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
        return self.gradient(batch_loss(self.policy, None, tensors, config)[0])

    def expected_estimate(self, config: RLConfig) -> Tensor:
        """The mean of ``estimate`` over all tuples of ``config.samples`` independent samples."""
        distribution = self.sampler()
        assert float(distribution.sum()) == pytest.approx(1.0, abs=1e-12)
        mean = torch.zeros(sum(p.numel() for p in self.policy.parameters()), dtype=torch.float64)
        for chosen in itertools.product(distribution.nonzero()[:, 0].tolist(), repeat=config.samples):
            mean += distribution[list(chosen)].prod() * self.estimate(config, chosen)
        return mean


def assert_same(ours: Tensor, exact: Tensor) -> None:
    assert float(exact.abs().max()) > 1e-2
    torch.testing.assert_close(ours, exact, atol=1e-6, rtol=0)


def config(**keys: Any) -> RLConfig:
    return RLConfig.model_validate({"updates": 1} | keys)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("baseline", ["none", "greedy", "running_mean"])
@pytest.mark.parametrize("feed", [False, True])
def test_one_sample_is_unbiased(baseline: str, temperature: float, feed: bool) -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3, feed_context=feed), 4, temperature)
    ours = enumeration.expected_estimate(config(baseline=baseline, temperature=temperature))
    assert_same(ours, enumeration.exact())


def test_a_pointer_over_two_points_is_unbiased() -> None:
    enumeration = Enumeration(pointer_policy(), 3)
    assert_same(enumeration.expected_estimate(config(baseline="greedy")), enumeration.exact())


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_leave_one_out_is_unbiased(temperature: float) -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3, feed_context=False), 3, temperature)
    ours = enumeration.expected_estimate(config(baseline="leave_one_out", samples=2, temperature=temperature))
    assert_same(ours, enumeration.exact())


def test_the_mean_baseline_is_leave_one_out_scaled_by_the_share_of_other_samples() -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3, feed_context=False), 3)
    ours = enumeration.expected_estimate(config(baseline="mean", samples=2))
    assert_same(ours, enumeration.exact() / 2)


class Truncated(Enumeration):
    """Samples come from the likeliest tokens of each state alone: at most ``top_k``, or fewer that hold ``top_p``."""

    def __init__(self, policy: SequencePolicy, limit: int, temperature: float, top_k: int | None, top_p: float) -> None:
        super().__init__(policy, limit, temperature)
        self.top_k, self.top_p = top_k, top_p

    def distribution(self) -> Tensor:
        """As of ``Enumeration``, over supports worked out in plain Python."""
        memory = self.policy.encode(self.source)
        memory = memory.select(torch.zeros(len(self.rows), dtype=torch.int64))
        logits = self.policy.token_logits(memory, self.rows, self.lengths) / self.temperature
        tokens, taken = self.rows[length_mask(self.lengths, self.rows.shape[1])].tolist(), []
        for row, token in zip(logits, tokens, strict=True):
            kept = self.support(row.softmax(-1).tolist())
            taken.append(row[kept].softmax(-1)[kept.index(token)] if token in kept else row.new_zeros(()))
        return torch.stack([part.prod() for part in torch.stack(taken).split(self.lengths.tolist())])

    def support(self, distribution: list[float]) -> list[int]:
        kept = sorted(range(len(distribution)), key=lambda token: -distribution[token])[: self.top_k]
        left = [distribution[token] / sum(distribution[token] for token in kept) for token in kept]
        return [token for place, token in enumerate(kept) if sum(left[:place]) < self.top_p]


truncations = pytest.mark.parametrize(("top_k", "top_p"), [(2, 1.0), (None, 0.75), (2, 0.85)])


@truncations
@pytest.mark.parametrize("feed", [False, True])
def test_a_truncated_distribution_is_unbiased_with_its_support_held_fixed(
    feed: bool, top_k: int | None, top_p: float
) -> None:
    enumeration = Truncated(attention_policy(vocabulary=3, feed_context=feed), 4, 0.8, top_k, top_p)
    assert 1 < int((enumeration.sampler() > 0).sum()) < len(enumeration.sequences)
    ours = enumeration.expected_estimate(config(baseline="greedy", temperature=0.8, top_k=top_k, top_p=top_p))
    assert_same(ours, enumeration.exact())


@truncations
def test_leave_one_out_and_pointers_are_unbiased_under_a_truncated_distribution(
    top_k: int | None, top_p: float
) -> None:
    enumeration = Truncated(pointer_policy(), 3, 1.0, top_k, top_p)
    ours = enumeration.expected_estimate(config(baseline="leave_one_out", samples=2, top_k=top_k, top_p=top_p))
    assert_same(ours, enumeration.exact())


def test_a_truncated_distribution_scored_as_the_whole_one_is_biased() -> None:
    """The control."""
    enumeration = Truncated(attention_policy(vocabulary=3), 3, 1.0, 2, 1.0)
    ours = enumeration.expected_estimate(config(baseline="none"))
    assert float((ours - enumeration.exact()).abs().max()) > 1e-2


@pytest.mark.parametrize(("clip", "scale"), [(None, 5.0), ((-0.5, 0.5), 1.0), ((-0.25, 1.0), 3.0)])
def test_scaled_and_clipped_rewards_are_the_ones_optimised(clip: tuple[float, float] | None, scale: float) -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3), 3)
    ours = enumeration.expected_estimate(config(baseline="running_mean", reward_clip=clip, reward_scale=scale))
    enumeration.rewards = enumeration.rewards.clip(*(clip or (-8, 8))) * scale
    assert_same(ours, enumeration.exact())


class Mismatched(Enumeration):
    """Samples come from a flatter distribution than the one they are scored under."""

    def sampler(self) -> Tensor:
        """A tempered distribution of sequences."""
        return self.distribution().detach().pow(0.7) / self.distribution().detach().pow(0.7).sum()


@pytest.mark.parametrize(("baseline", "samples"), [("greedy", 1), ("leave_one_out", 2)])
def test_importance_weights_undo_the_samplers_distribution(baseline: str, samples: int) -> None:
    enumeration = Mismatched(attention_policy(vocabulary=3), 3)
    keys: dict[str, Any] = {"baseline": baseline, "samples": samples}
    exact, plain = enumeration.exact(), enumeration.expected_estimate(config(**keys))
    assert float((plain - exact).abs().max()) > 1e-2  # the control
    uncut = {"type": "reinforce", "importance_cap": 1e9}
    ours = enumeration.expected_estimate(config(**keys, sampling_precision="bf16", objective=uncut))
    assert_same(ours, exact)


def test_a_distribution_other_than_the_sampling_distribution_is_biased() -> None:
    """The control: these tests can fail."""
    enumeration = Enumeration(attention_policy(vocabulary=3), 3, temperature=0.6)
    ours = enumeration.expected_estimate(config(baseline="none", temperature=1.0))
    assert float((ours - enumeration.exact()).abs().max()) > 1e-2


def test_a_constant_reward_has_no_gradient_on_average() -> None:
    """What this control moves is noise: sharpening, if anything."""
    enumeration = Enumeration(attention_policy(vocabulary=3), 3)
    ours = enumeration.expected_estimate(config(baseline="none", reward_source="constant"))
    assert float(ours.abs().max()) < 1e-6
    one = enumeration.estimate(config(baseline="none", reward_source="constant"), (3,))
    assert float(one.abs().max()) > 1e-2


def test_self_training_is_cross_entropy_on_the_greedy_sequence() -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3), 3)
    keys = {"objective": "self_training", "baseline": "none", "reward_source": "constant"}
    batch, stats = rl_batch(enumeration.task, enumeration.rollout((), True), config(**keys))
    tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
    ours = enumeration.gradient(batch_loss(enumeration.policy, None, tensors, config(**keys))[0])
    assert_same(ours, enumeration.gradient(-enumeration.token_log_probs()[0].sum()))
    assert stats["rollout/reward_mean"] == enumeration.greedy_reward
