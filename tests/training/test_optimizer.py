"""Schedules by hand, the moving average by hand, the optimiser against torch's plain loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from rlseq.config.phases import OptimizerConfig
from rlseq.training.optimizer import build_optimizer, learning_rate, update_average


def rates(updates: list[int], total: int, **schedule: Any) -> list[float]:
    config = OptimizerConfig.model_validate({"learning_rate": 2.0, "schedule": schedule})
    return [learning_rate(config, update, total) for update in updates]


@pytest.mark.parametrize(
    ("schedule", "updates", "expected"),
    [
        ({}, [0, 50, 99], [2, 2, 2]),
        ({"warmup": 4}, [0, 1, 3, 4, 99], [0.5, 1, 2, 2, 2]),
        ({"decay": "linear"}, [0, 25, 50, 100, 150], [2, 1.5, 1, 0, 0]),
        ({"decay": "linear", "final": 0.2, "start": 20}, [0, 20, 60, 100], [2, 2, 1.2, 0.4]),
        ({"decay": "linear", "warmup": 10, "start": 5}, [4, 9, 10, 55, 100], [1, 2, 2, 1, 0]),
        ({"decay": "cosine"}, [0, 50, 100], [2, 1, 0]),
        ({"decay": "cosine", "final": 0.5, "warmup": 60}, [59, 60, 80, 100], [2, 2, 1.5, 1]),
        ({"decay": "inverse_sqrt", "warmup": 4}, [4, 16, 64], [2, 1, 0.5]),
        ({"decay": "inverse_sqrt", "final": 0.3}, [1, 4, 10**6], [2, 1, 0.6]),
        ({"decay": "exponential", "final": 0.01}, [0, 50, 100, 200], [2, 0.2, 0.02, 0.02]),
        ({"decay": "exponential", "final": 0.25, "start": 50}, [50, 75, 100], [2, 1, 0.5]),
    ],
)
def test_learning_rates_by_hand(schedule: dict[str, Any], updates: list[int], expected: list[float]) -> None:
    assert rates(updates, 100, **schedule) == pytest.approx(expected)


@pytest.mark.parametrize("decay", ["linear", "cosine", "inverse_sqrt", "exponential"])
def test_rates_never_rise_after_the_warm_up_nor_leave_their_bounds(decay: str) -> None:
    values = rates(list(range(130)), 120, decay=decay, warmup=7, start=30, final=0.05)
    assert values[:8] == sorted(values[:8]) and values[7:] == sorted(values[7:], reverse=True)
    assert min(values[7:]) >= 0.05 * 2 - 1e-12 and max(values) == 2.0


def test_the_average_follows_the_weights_by_hand() -> None:
    average, weights = [torch.tensor([0.0])], [torch.tensor([1.0])]
    update_average(average, weights, 0.9, 0)  # decay 1 / 10
    assert float(average[0]) == pytest.approx(0.9)
    update_average(average, weights, 0.9, 1)  # decay 2 / 11
    assert float(average[0]) == pytest.approx(1 - 0.1 * 2 / 11)
    average = [torch.tensor([0.0])]
    update_average(average, weights, 0.9, 1000)
    assert float(average[0]) == pytest.approx(0.1) and float(weights[0]) == 1.0


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_torchs_plain_loop(decay: float) -> None:
    config = OptimizerConfig(learning_rate=0.1, betas=(0.8, 0.99), eps=1e-6, weight_decay=decay)
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    parameters = [nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2)]
    optimizers = [
        build_optimizer([parameters[0]], config),
        kind([parameters[1]], lr=0.1, betas=(0.8, 0.99), eps=1e-6, weight_decay=decay, foreach=False),
    ]
    for _ in range(5):
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            optimizer.zero_grad()
            (parameter**2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(parameters[0], parameters[1])
    assert type(optimizers[0]) is kind
