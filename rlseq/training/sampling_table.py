"""What a validation shows beside its metrics: a few instances that are still wrong, and histograms over all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq.decoding.attention_map import column_labels, grid_of, without_padding
from rlseq.report.samples import SampleRow
from rlseq.training.engine import Engine
from rlseq.training.rollout import Rollout, RolloutRequest
from rlseq_envs.source import source_sizes
from rlseq_envs.task import Ints, SequenceTask


def worst(rolled: Rollout, count: int) -> Ints:
    """The instances of the lowest rewards, (at most ``count``,); among equals the first ones."""
    return rolled.ids[np.argsort(rolled.rewards[:, -1], kind="stable")[:count]]


def histograms(rolled: Rollout) -> dict[str, npt.NDArray[Any]]:
    """Of what was decoded: the reward and the length in tokens of each, and −log p of each of their tokens, nats."""
    assert rolled.token_log_probs is not None
    lengths, log_probs = rolled.lengths[:, -1], rolled.token_log_probs[:, -1]
    emitted = np.arange(log_probs.shape[1]) < lengths[:, None]
    return {"reward": rolled.rewards[:, -1], "length": lengths, "surprisal": -log_probs[emitted]}


def sample_rows(task: SequenceTask, engine: Engine, ids: Ints, update: int) -> list[SampleRow]:
    """One greedy output and one sample for each instance, with rewards, advantage and attention.

    What is drawn, and what attention is of, is the one that the task is validated on.
    """
    if not len(ids):
        return []
    rolled = engine.rollout(ids, RolloutRequest(1, True, update, with_attention=True), averaged=True)
    rows, reads, looked_at = [], None, 0 if task.decodes_samples else 1
    if rolled.attention is not None:
        reads = without_padding(task, rolled.attention[:, looked_at], source_sizes(rolled.source))
    for row, instance in enumerate(ids.tolist()):
        outputs = [rolled.sequences[row, column, : rolled.lengths[row, column]] for column in (0, 1)]
        sample, greedy = rendered = [task.render(instance, output) for output in outputs]
        drawn = rendered[looked_at]
        attention, labels = None, drawn.input_labels
        if reads is not None:
            attention = reads[row][: len(outputs[looked_at])]
            labels = column_labels(task, drawn, attention.shape[1])
        rows.append(
            SampleRow(
                id=instance,
                source=greedy.source,
                reference=greedy.reference,
                greedy=greedy.output,
                greedy_reward=float(rolled.rewards[row, 1]),
                sample=sample.output,
                sample_reward=float(rolled.rewards[row, 0]),
                advantage=float(rolled.rewards[row, 0] - rolled.rewards[row, 1]),
                draws_sample=task.decodes_samples,
                drawing=drawn.drawing,
                attention=attention,
                input_labels=labels,
                output_labels=drawn.output_labels,
                grid=None if attention is None else grid_of(task, attention.shape[1]),
            )
        )
    return rows
