"""Score a policy on a split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlseq.evaluation.decoding import decode_sources, split_shards
from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.loading import LoadedPolicy, load_policy
from rlseq.evaluation.options import DecodingOptions
from rlseq.training.remote import display_path
from rlseq_envs.task import END, Bools, Floats, Ints, SequenceTask, SplitName


@dataclass(frozen=True)
class Outputs:
    """What a policy made of the instances of a split, and what that is worth.

    Attributes:
        ids: (instances,).
        sequences: (instances, time) END beyond a length.
        lengths: (instances,).
        rewards: (instances,).
        values: (instances,) each: the task's metrics of single instances, the reward, its components, 1 if
            there was no END by the limit, the length.
    """

    ids: Ints
    sequences: Ints
    lengths: Ints
    rewards: Floats
    values: dict[str, Bools | Floats]


@dataclass(frozen=True)
class Evaluation:
    """A policy's figures on a split.

    Attributes:
        name: Of the policy.
        checkpoint: Where it was loaded from.
        split: What was decoded.
        decoding: How.
        metrics: Corpus metrics, then means of what single instances are worth: the reward, its components, …;
            NaN if a metric's own rule says it failed.
        signatures: What the figures mean exactly: the task's signature, and sacreBLEU's of each text metric.
        outputs: Everything behind them.
        more: What else was asked for, JSON-ready: ``exposure_bias``, ``likelihood``.
    """

    name: str
    checkpoint: Path
    split: SplitName
    decoding: DecodingOptions
    metrics: dict[str, float]
    signatures: dict[str, str]
    outputs: Outputs
    more: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; NaN becomes null."""
        return {
            "name": self.name,
            "checkpoint": display_path(self.checkpoint),
            "split": self.split,
            "instances": len(self.outputs.ids),
            "decoding": self.decoding.to_dict(),
            "metrics": json_numbers(self.metrics),
            "signatures": self.signatures,
            **self.more,
        }


def evaluate_checkpoint(
    path: Path | str,
    *,
    split: SplitName = "test",
    decoding: DecodingOptions | None = None,
    max_instances: int | None = None,
    **loading: Any,
) -> Evaluation:
    """Load the policy of a checkpoint and score it; see ``load_policy``, which ``loading`` is for, and ``evaluate``."""
    return evaluate(load_policy(path, **loading), split=split, decoding=decoding, max_instances=max_instances)


def evaluate(
    loaded: LoadedPolicy,
    *,
    split: SplitName = "test",
    decoding: DecodingOptions | None = None,
    max_instances: int | None = None,
    name: str | None = None,
) -> Evaluation:
    """Decode a split and score it.

    Args:
        loaded: The policy and its task.
        split: What to decode.
        decoding: How; default: the task's own way.
        max_instances: Only the first ones; an endless split needs it.
        name: Of the policy in the result; default: its unmistakable name.

    Raises:
        EvaluationError: The split is endless and ``max_instances`` is not given, or not above 0.
        ValueError: The task has no data for this split.
    """
    ids = instance_ids(loaded, split, max_instances)
    options = (decoding or DecodingOptions()).of(loaded.task)
    found = decode_sources(loaded, split_shards(loaded, ids), options)
    outputs = score_outputs(loaded.task, found.tokens[:, 0], found.lengths[:, 0], ids)
    metrics = loaded.task.corpus_metrics(outputs.sequences, outputs.lengths, ids)
    signatures = metric_signatures(loaded.task, ids)
    return Evaluation(
        name or loaded.name, loaded.checkpoint, split, options, with_means(metrics, outputs), signatures, outputs
    )


def instance_ids(loaded: LoadedPolicy, split: SplitName, max_instances: int | None) -> Ints:
    """The ids to decode: the whole split, or its first instances."""
    if max_instances is not None and max_instances < 1:
        raise EvaluationError(f"max_instances is {max_instances}: give 1 or more")
    instances = loaded.task.instances(split)
    if instances.size is None and max_instances is None:
        raise EvaluationError(f"split {split!r} is endless: say how many instances of it with max_instances")
    sizes = [size for size in (instances.size, max_instances) if size is not None]
    return instances.ids(0, min(sizes))


def score_outputs(task: SequenceTask, sequences: Ints, lengths: Ints, ids: Ints) -> Outputs:
    """What sequences (instances, time) of these lengths are worth, one an instance."""
    reward = task.reward(sequences, lengths, ids)
    cut = (sequences[np.arange(len(ids)), lengths - 1] != END) & task.ends
    values: dict[str, Bools | Floats] = {**task.instance_metrics(sequences, lengths, ids), "reward": reward.total}
    for name, column in (
        *reward.components.items(),
        ("truncated", cut.astype(np.float64)),
        ("length", lengths.astype(np.float64)),
    ):
        values.setdefault(name, column)
    return Outputs(ids, sequences, lengths, reward.total, values)


def with_means(metrics: Mapping[str, float], outputs: Outputs) -> dict[str, float]:
    """Corpus metrics, then the means of what single instances are worth, over those that count; NaN if none does."""
    found = dict(metrics)
    for name, values in outputs.values.items():
        counted = values[~np.isnan(values)]
        mean = float(counted.mean()) * (100 if metric_is_share(values) else 1) if len(counted) else math.nan
        found.setdefault(name, mean)
    return found


def metric_is_share(values: Bools | Floats) -> bool:
    """Whether a metric of single instances is yes or no; over all of them it is shown in per cent."""
    return values.dtype == np.bool_


def metric_signatures(task: SequenceTask, ids: Ints) -> dict[str, str]:
    """The number of references is part of sacreBLEU's signatures: a metric has one only once it has read some."""
    signatures = {"task": task.signature}
    pairs = task.text_pairs(*task.references(ids[:1]), ids[:1])
    if pairs is not None:
        for name, metric in task.text_metrics().items():
            metric.corpus_score(pairs.hypotheses, pairs.references)
            signatures[name] = str(metric.get_signature())
    return signatures


def json_numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    """The values as JSON knows numbers; see ``number``."""
    return {name: number(value) for name, value in values.items()}


def number(value: float) -> float | None:
    """A number as JSON knows it: one that is not finite becomes null."""
    return float(value) if math.isfinite(value) else None
