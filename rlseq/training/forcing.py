"""What the decoder reads while it learns from references: the columns of a batch that say so, and their use."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlseq.config.mle import MLEConfig, ScheduledSamplingConfig
from rlseq.decoding.sampling import argmax, inverse_cdf
from rlseq.models.feeding import Feeding, PolicyTokens
from rlseq_envs.counters import counter_uniforms
from rlseq_envs.task import Ints

FORCED = "teacher_forcing"  # (batch_size,) p, the probability of the reference's token
REPLACED = "replaced_inputs"  # (batch_size, time) True where the policy's token is read instead; absent if it never is
DRAWS = "replacing_draws"  # (batch_size, time) uniforms that draw it


def reference_probability(config: ScheduledSamplingConfig, update: int) -> float:
    """The probability p of update ``update`` (from 0) of the phase: Bengio et al. 2015, sec. 2.4."""
    if config.schedule == "linear":
        return min(1.0, max(config.epsilon, config.constant - config.slope * update))
    if config.schedule == "exponential":
        return config.constant**update
    if config.schedule == "inverse_sigmoid":  # k / (k + exp(i / k)) = σ(log k − i / k), which does not overflow
        return 0.5 * (1.0 + math.tanh(0.5 * (math.log(config.constant) - update / config.constant)))
    return 1.0


def sampling_columns(
    config: ScheduledSamplingConfig, ids: Ints, lengths: Ints, time: int, seed: int, update: int
) -> dict[str, npt.NDArray[Any]]:
    """The columns of scheduled sampling; none if there is no schedule.

    Each toss and draw depends on (seed, update, instance id, position) and on nothing else.

    Args:
        config: The schedule.
        ids: (batch_size,) instances.
        lengths: (batch_size,) of their references.
        time: Of the longest.
        seed: Of the run and the update.
        update: Number of the update in its phase.
    """
    if config.schedule == "none":
        return {}
    forced = reference_probability(config, update)
    columns: dict[str, npt.NDArray[Any]] = {FORCED: np.full(len(ids), forced, np.float32)}
    tosses, draws = counter_uniforms(seed, update, ids, 2, time).swapaxes(0, 1)
    tosses = tosses[:, :1] if config.per == "sequence" else tosses
    positions = np.arange(time)
    replaced = (tosses >= forced) & (positions > 0) & (positions < lengths[:, None])  # the first input is "begin"
    if not replaced.any():
        return columns
    return columns | {REPLACED: replaced} | ({DRAWS: draws.astype(np.float32)} if config.own == "sample" else {})


def feeding(batch: dict[str, Tensor], config: MLEConfig) -> Feeding | None:
    """What is read in place of the references of a batch with ``sampling_columns``."""
    if config.feed == "distribution":
        return "distribution"
    if REPLACED not in batch:
        return None
    device, draws = batch["targets"].device, batch.get(DRAWS)
    rows = [replaced.nonzero()[:, 0].to(device) for replaced in batch[REPLACED].cpu().unbind(1)]

    def choose(logits: Tensor, at: Tensor, step: int) -> Tensor:
        logits = logits.float()
        if draws is None:
            return argmax(logits)
        return inverse_cdf(logits.softmax(-1), draws[at, step].double(), torch.arange(len(at), device=device))

    return PolicyTokens(rows, choose)
