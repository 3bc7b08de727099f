"""Minimum risk and clipped ratios: the gradient of training against that of the objective as its paper states it.

All sequences of a tiny task are put through the very path of training, as in ``test_gradients``.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlseq.config.objectives import PPOConfig
from rlseq.config.rl import RLConfig
from rlseq.objectives.mrt import minimum_risk
from rlseq.objectives.ppo import clipped_ratio
from rlseq.training.batch import rl_batch
from rlseq.training.update import batch_loss
from rlseq_envs.task import Reward
from tests.objectives.test_gradients import Enumeration, assert_same
from tests.support import attention_policy, pointer_policy


def config(**keys: Any) -> RLConfig:
    return RLConfig.model_validate({"updates": 1} | keys)


def tensors(enumeration: Enumeration, chosen: tuple[int, ...], rl: RLConfig) -> dict[str, Tensor]:
    batch, _ = rl_batch(enumeration.task, enumeration.rollout(chosen, rl.decodes_greedy), rl)
    return {name: torch.from_numpy(column) for name, column in batch.items()}


def loss_and_gradient(enumeration: Enumeration, batch: dict[str, Tensor], rl: RLConfig) -> tuple[float, Tensor]:
    loss, _ = batch_loss(enumeration.policy, None, batch, rl)
    return loss.item(), enumeration.gradient(loss)


# -------------------------------------------------------------------------------------------------------- minimum risk
class WithReference(Enumeration):
    """Whose reference is one of the sequences, and has the reward that the task gives it."""

    def __init__(self, reference: int, **keys: Any) -> None:
        super().__init__(attention_policy(vocabulary=3), 3, **keys)
        self.reference = reference
        garbage = self.rows.shape[1] + 2  # what stands beyond a length does not count
        row = np.full((1, garbage), 2)
        row[0, : self.lengths[reference]] = self.rows[reference, : self.lengths[reference]]
        self.task.references = lambda ids: (row, self.lengths[[reference]].numpy())
        self.task.reward = lambda sequences, lengths, ids: Reward(self.rewards[[reference]], {})

    def risk(self, chosen: set[int], alpha: float) -> Tensor:
        """The paper's, eqs. 8 and 9: a softmax of α log p over the distinct candidates, as it is written down."""
        candidates = sorted(chosen)
        scores = alpha * self.distribution()[candidates].log()
        return -(scores.softmax(0) * torch.from_numpy(self.rewards[candidates])).sum()


@pytest.mark.parametrize(("reference", "alpha", "temperature"), [(False, 1.0, 1.0), (True, 0.5, 0.6)])
def test_minimum_risk_is_the_papers_for_every_pair_of_samples(
    reference: bool, alpha: float, temperature: float
) -> None:
    """Pairs of equal samples are one candidate; so are the reference and a sample that equals it."""
    enumeration = WithReference(4, temperature=temperature)
    keys = {"baseline": "none", "samples": 2, "temperature": temperature}
    rl = config(**keys, objective={"type": "mrt", "alpha": alpha, "reference": reference})
    distribution, largest = enumeration.sampler(), 0.0
    ours = exact = torch.zeros(sum(p.numel() for p in enumeration.policy.parameters()), dtype=torch.float64)
    for chosen in itertools.combinations_with_replacement(range(len(distribution)), 2):
        value, gradient = loss_and_gradient(enumeration, tensors(enumeration, chosen, rl), rl)
        risk = enumeration.risk({*chosen, *([4] if reference else [])}, alpha)
        expected = enumeration.gradient(risk)
        assert value == pytest.approx(risk.item(), abs=1e-6)
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)
        largest = max(largest, float(expected.abs().max()))
        weight = distribution[list(chosen)].prod() * len(set(chosen))  # either may have been drawn first
        ours, exact = ours + weight * gradient, exact + weight * expected
    assert largest > 1e-2
    assert_same(ours, exact)
    if not reference:  # the control: a contrast of few candidates is not the expected reward
        assert float((ours - enumeration.exact()).abs().max()) > 1e-2


def test_minimum_risk_over_all_sequences_is_the_expected_reward() -> None:
    """Where the candidates are everything and α is 1, Q is the policy's own distribution."""
    enumeration = WithReference(0)
    everything = tuple(range(len(enumeration.sequences)))
    rl = config(objective={"type": "mrt", "alpha": 1.0}, baseline="none", samples=len(everything))
    value, gradient = loss_and_gradient(enumeration, tensors(enumeration, everything, rl), rl)
    assert value == pytest.approx(-float(enumeration.sampler() @ torch.from_numpy(enumeration.rewards)), abs=1e-6)
    assert_same(gradient, enumeration.exact())


def test_minimum_risk_by_hand() -> None:
    log_probs = torch.tensor([[0.5, 0.25, 0.25]]).log()
    weights, risk = minimum_risk(log_probs, torch.tensor([[1.0, 0.0, 5.0]]), torch.tensor([[2.0, 2.0, 0.0]]), 1.0)
    # Q = 2/3, 1/3: the expected reward is 2/3.
    torch.testing.assert_close(risk, torch.tensor(-4 / 3))
    torch.testing.assert_close(weights, torch.tensor([[4 / 9, -4 / 9, 0.0]]))


def test_candidates_are_counted_and_terms_of_states_read_what_was_sampled() -> None:
    enumeration = WithReference(1)
    rl = config(objective="mrt", baseline="none", samples=3, reward_scale=2.0, entropy=0.1)
    batch, stats = rl_batch(enumeration.task, enumeration.rollout((3, 3, 5), False), rl)
    assert stats["rollout/candidates_mean"] == 3.0 and "rollout/advantage_std" not in stats
    np.testing.assert_allclose(batch["rewards"][0, [0, 2, 3]], 2 * enumeration.rewards[[3, 5, 1]])
    np.testing.assert_allclose(batch["state_weights"], [[2 / 3, 0, 1 / 3, 0]], rtol=1e-6)
    assert batch["weights"].any(2).tolist() == [[True, False, True, True]]


# ------------------------------------------------------------------------------------------------------ clipped ratios
PPO: list[dict[str, Any]] = [
    {"ratio": ratio, "clip": clip, "clip_high": high}
    for ratio in ("token", "sequence")
    for clip, high in ((0.05, None), (0.5, None), (0.05, 0.15))
]


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_the_first_epochs_gradient_is_reinforces_and_unbiased(ratio: str) -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3), 3, temperature=0.8)
    keys = {"baseline": "greedy", "temperature": 0.8}
    clipped, plain = config(objective={"type": "ppo", "ratio": ratio, "clip": 0.05}, **keys), config(**keys)
    estimates = [enumeration.estimate(clipped, (index,)) for index in range(len(enumeration.sequences))]
    for index, ours in enumerate(estimates):
        torch.testing.assert_close(ours, enumeration.estimate(plain, (index,)), atol=1e-6, rtol=0)
    assert_same(enumeration.sampler() @ torch.stack(estimates), enumeration.exact())


def test_the_first_epoch_of_a_pointer_with_several_samples_is_unbiased() -> None:
    enumeration = Enumeration(pointer_policy(), 3)
    rl = config(objective="ppo", baseline="leave_one_out", samples=2)
    assert_same(enumeration.expected_estimate(rl), enumeration.exact())


def stated(enumeration: Enumeration, drawn_under: Tensor, index: int, advantage: float, rl: RLConfig) -> Tensor:
    """The papers' objectives: Schulman et al. 2017, eq. 7; Zheng et al. 2025, eqs. 5 to 7, times the length."""
    length = int(enumeration.lengths[index])
    log_ratio = (enumeration.token_log_probs() - drawn_under)[index, :length]
    ppo = rl.objective
    assert isinstance(ppo, PPOConfig)
    ratio = log_ratio.exp() if ppo.ratio == "token" else (log_ratio.sum() / length).exp().expand(length)
    low, high = 1 - ppo.clip, 1 + (ppo.clip_high or ppo.clip)  # Yu et al. 2025, eq. 10
    return -torch.stack([ratio * advantage, ratio.clamp(low, high) * advantage]).amin(0).sum()


@pytest.mark.parametrize("ppo", PPO)
def test_later_epochs_follow_the_clipped_objective_of_the_papers(ppo: dict[str, Any]) -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3), 3)
    rl = config(objective={"type": "ppo"} | ppo, baseline="greedy")
    batches = [tensors(enumeration, (index,), rl) for index in range(len(enumeration.sequences))]
    drawn_under = enumeration.token_log_probs().detach()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in enumeration.policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    idle = 0
    for index, batch in enumerate(batches):
        advantage = float(enumeration.rewards[index]) - enumeration.greedy_reward
        expected = stated(enumeration, drawn_under, index, advantage, rl)
        value, gradient = loss_and_gradient(enumeration, batch, rl)
        assert value == pytest.approx(expected.item(), abs=1e-6)
        torch.testing.assert_close(gradient, enumeration.gradient(expected), atol=1e-6, rtol=0)
        idle += not gradient.any()
    assert idle < len(batches) and (idle > 0 or ppo["ratio"] == "token" or ppo["clip"] == 0.5)


def test_clipped_ratios_by_hand() -> None:
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0])
    weights, value, stats = clipped_ratio(ratios.log(), advantages, torch.tensor([2, 3]), (0.2, 0.2), "token")
    torch.testing.assert_close(weights, torch.tensor([0.0, -1.5, 0.5, 0.0, 0.0]))
    torch.testing.assert_close(value, torch.tensor(-(1.2 - 1.5 + 0.5 - 0.8)))
    assert stats["train/clip_frac"].item() == pytest.approx(0.4)
    assert stats["train/approx_kl"].item() == pytest.approx(float((ratios - 1 - ratios.log()).mean()))
    weights, value, stats = clipped_ratio(ratios.log(), advantages, torch.tensor([2, 3]), (0.2, 0.6), "token")
    torch.testing.assert_close(weights, torch.tensor([1.5, -1.5, 0.5, 0.0, 0.0]))  # the first is rewarded now
    torch.testing.assert_close(value, torch.tensor(-(1.5 - 1.5 + 0.5 - 0.8)))
    assert stats["train/clip_frac"].item() == pytest.approx(0.2)
    weights, _, _ = clipped_ratio(ratios.log(), advantages, torch.tensor([2, 3]), (0.2, 0.2), "sequence")
    mean = (0.5 * 0.5 * 1.1) ** (1 / 3)
    torch.testing.assert_close(weights, torch.tensor([0.0, -1.5, mean, 0.0, 0.0]))


def test_a_sample_drawn_twice_counts_twice() -> None:
    enumeration = Enumeration(attention_policy(vocabulary=3), 3)
    rl = config(objective="ppo", baseline="running_mean", samples=2)
    one = enumeration.estimate(config(objective="ppo", baseline="running_mean"), (5,))
    torch.testing.assert_close(enumeration.estimate(rl, (5, 5)), one, atol=1e-6, rtol=0)
