"""What every objective keeps to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlseq.config.objectives import OBJECTIVE_SECTIONS
from rlseq.config.rl import RLConfig
from rlseq.objectives.registry import OBJECTIVES, build_objective
from rlseq.training.batch import rl_batch
from rlseq.training.update import batch_loss
from tests.objectives.test_gradients import Enumeration
from tests.support import attention_policy

NEEDED: dict[str, dict[str, Any]] = {  # keys without which an objective is refused
    "mrt": {"baseline": "none", "objective": {"type": "mrt", "reference": False}},
    "self_training": {"baseline": "none", "reward_source": "constant", "samples": 1},
}


def config(kind: str, **keys: Any) -> RLConfig:
    return RLConfig.model_validate({"updates": 1, "objective": kind, "samples": 2} | NEEDED.get(kind, {}) | keys)


def test_every_section_has_its_class() -> None:
    assert list(OBJECTIVES) == [section.model_fields["type"].default for section in OBJECTIVE_SECTIONS]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_step_against_the_gradient_lowers_the_loss_and_statistics_carry_no_graph(kind: str) -> None:
    enumeration, rl = Enumeration(attention_policy(vocabulary=3), 3), config(kind)
    chosen = (3, 5)[: rl.drawn]
    batch, _ = rl_batch(enumeration.task, enumeration.rollout(chosen, rl.decodes_greedy), rl)
    tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
    loss, stats = batch_loss(enumeration.policy, None, tensors, rl)
    assert not any(value.requires_grad for value in stats.values())
    assert stats["train/policy_loss"] == loss
    loss.backward()
    with torch.no_grad():
        for parameter in enumeration.policy.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=1e-4)
    assert batch_loss(enumeration.policy, None, tensors, rl)[0] < loss


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_logits_are_read_only_if_an_objective_asks_for_them(kind: str) -> None:
    assert not build_objective(config(kind)).reads_logits
    rounded = kind == "reinforce"
    if kind != "mixer":
        assert build_objective(config(kind, sampling_precision="bf16")).reads_logits == rounded
