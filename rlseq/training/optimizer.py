"""Optimiser, learning-rate schedule and moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from rlseq.config.phases import OptimizerConfig, ScheduleConfig


def build_optimizer(parameters: Iterable[torch.nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam, or AdamW if there is weight decay, in torch's fused implementation."""
    kind = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    return kind(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(config: OptimizerConfig, update: int, total: int) -> float:
    """The learning rate of update ``update`` (from 0) of a phase of ``total`` updates; pure, so no state to save.

    Linear warm-up, then constant until ``start``, then the decay; ``inverse_sqrt`` is Vaswani et al. 2017, eq. 3,
    scaled to its peak.
    """
    schedule = config.schedule
    if update < schedule.warmup:
        return config.learning_rate * (update + 1) / schedule.warmup
    return config.learning_rate * _decay(schedule, update, total)


def _decay(schedule: ScheduleConfig, update: int, total: int) -> float:
    start = max(schedule.warmup, schedule.start)
    if update <= start or schedule.decay == "constant":
        return 1.0
    if schedule.decay == "inverse_sqrt":
        return max(schedule.final, math.sqrt(max(start, 1) / update))
    done = min(1.0, (update - start) / max(1, total - start))
    if schedule.decay == "exponential":
        return max(schedule.final, 1e-8) ** done
    left = 1.0 - done if schedule.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return schedule.final + (1.0 - schedule.final) * left


def update_average(average: list[Tensor], parameters: list[Tensor], decay: float, update: int) -> None:
    """Move the average towards the parameters, in place (Polyak & Juditsky 1992; exponential, with a warm-up).

    The decay is at most (1 + update) / (10 + update), so the first updates do not hang on the initial weights.
    """
    torch._foreach_lerp_(average, parameters, 1.0 - min(decay, (1 + update) / (10 + update)))
