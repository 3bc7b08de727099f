"""The regulariser of the attention, and its target as a parameter of the policy."""

from __future__ import annotations

import torch

from rlseq.objectives.attention import attention_spread
from tests.support import attention_policy


def test_by_hand_padding_on_either_side_apart() -> None:
    attention = torch.tensor([[[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [9.0, 9.0, 9.0]]] * 2)
    real, mask = torch.tensor([[True, True, False]] * 2), torch.tensor([[True, True, False], [True, True, True]])
    target = torch.tensor(1.0, requires_grad=True)
    found = attention_spread(attention, real, mask, target)
    torch.testing.assert_close(found, torch.tensor([0.25**2 + 0.25**2, 0.25**2 + 0.25**2 + 1.0]))
    found.sum().backward()
    assert target.grad is not None and float(target.grad) == 2 * (0.25 - 0.25 + 0.25 - 0.25 + 1.0)


def test_even_attention_with_its_mean_as_target_costs_nothing() -> None:
    attention = torch.full((2, 6, 4), 0.25)
    full = torch.ones(2, 6, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    assert not attention_spread(attention, *full, torch.tensor(1.5)).any()
    assert attention_spread(attention, *full, torch.tensor(1.0)).tolist() == [1.0, 1.0]


def test_the_target_may_be_missing_on_either_side_of_a_checkpoint() -> None:
    without, having = attention_policy(seed=0), attention_policy(seed=1)
    having.learn_attention_target()
    assert "attention_target" not in without.state_dict()
    assert having.attention_target is not None
    target = having.attention_target.detach().fill_(0.7).item()
    old, new = without.state_dict(), having.state_dict()
    without.load_state_dict(new)
    assert without.attention_target is None
    having.load_state_dict(old)
    assert having.attention_target.item() == target
    other = attention_policy()
    other.learn_attention_target()
    other.load_state_dict(new)
    assert other.attention_target is not None and other.attention_target.item() == target
