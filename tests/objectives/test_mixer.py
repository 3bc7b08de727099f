"""MIXER: given tokens have the gradient of their cross-entropy, sampled ones that of the reward expected after them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from rlseq.config.rl import RLConfig
from rlseq.training.rollout import Rollout
from tests.objectives.test_gradients import Enumeration, assert_same, config
from tests.support import attention_policy

PREFIX = [1, 2]


class AfterPrefix(Enumeration):
    """Samples are the sequences that begin with ``PREFIX``, each with its probability given that."""

    def continues(self) -> Tensor:
        return torch.tensor([list(sequence[:2]) == PREFIX for sequence in self.sequences])

    def given(self) -> Tensor:
        """Log-probability of the prefix."""
        return self.token_log_probs()[self.continues()][0, : len(PREFIX)].sum()

    def sampler(self) -> Tensor:
        return (self.distribution() * self.continues() / self.given().exp()).detach()

    def exact(self) -> Tensor:
        """The gradient of the prefix's cross-entropy less the expected reward after it."""
        distribution = self.distribution() * self.continues() / self.given().exp()
        return self.gradient(-self.given() - (distribution * torch.from_numpy(self.rewards)).sum())

    def rollout(self, chosen: tuple[int, ...], greedy: bool) -> Rollout:
        drawn = super().rollout(chosen, greedy)
        return replace(drawn, given=np.full(drawn.lengths.shape, len(PREFIX)))


@pytest.mark.parametrize(("baseline", "samples"), [("greedy", 1), ("running_mean", 1), ("leave_one_out", 2)])
def test_both_parts_have_their_gradients(baseline: str, samples: int) -> None:
    enumeration = AfterPrefix(attention_policy(vocabulary=3), 4)
    rl = config(objective="mixer", baseline=baseline, samples=samples)
    assert_same(enumeration.expected_estimate(rl), enumeration.exact())


@pytest.mark.parametrize(("update", "sampled"), [(0, 2), (9, 2), (10, 4), (35, 8)])
def test_the_boundary_moves_towards_the_first_token(update: int, sampled: int) -> None:
    assert config(objective={"type": "mixer", "step": 2, "every": 10}).objective.sampled_tokens(update) == sampled
    assert RLConfig(updates=1).objective.sampled_tokens(update) is None
