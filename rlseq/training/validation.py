"""What a validation measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlseq.config.schema import EvaluationConfig
from rlseq.decoding.likelihood import Likelihood
from rlseq.report.samples import SampleRow
from rlseq.training.engine import Engine, TrainingError
from rlseq.training.rollout import Rollout, RolloutRequest
from rlseq.training.sampling_table import sample_rows, worst
from rlseq_envs.task import SequenceTask


@dataclass(frozen=True)
class Measured:
    """What a validation found, before anything follows from it.

    Attributes:
        metrics: By name, the reward among them.
        samples: Rows of the table of samples.
        rolled: The outputs.
    """

    metrics: dict[str, float]
    samples: list[SampleRow]
    rolled: Rollout


def measure(task: SequenceTask, engine: Engine, config: EvaluationConfig, update: int) -> Measured:
    """Decode the validation set, with the moving average of the weights if there is one.

    It is decoded greedily, or one sample of each instance is drawn if the task asks for that.

    Args:
        task: Scores what is decoded.
        engine: Has the policy.
        config: How many instances are looked at and shown.
        update: Which update this comes after.

    Raises:
        TrainingError: Log-probabilities are not finite.
    """
    split = task.instances("validation")
    size = min(s for s in (split.size, config.max_instances) if s is not None)
    draws = task.decodes_samples
    decoding = RolloutRequest(int(draws), not draws, update, score_references=task.validates_likelihood)
    rolled = engine.rollout(split.ids(0, size), decoding, averaged=True)
    if not np.isfinite(rolled.log_probs).all():
        raise TrainingError(f"validation at update {update}: log-probabilities are not finite")
    metrics = task.corpus_metrics(rolled.sequences[:, 0], rolled.lengths[:, 0], rolled.ids)
    if len(rolled.components) > 1:
        metrics |= {name: float(v.mean()) for name, v in rolled.components.items() if name not in metrics}
    metrics["reward"] = float(rolled.rewards.mean())
    if rolled.reference_nats is not None:
        metrics |= Likelihood(rolled.reference_nats, task.references(rolled.ids)[1]).means
    return Measured(metrics, sample_rows(task, engine, worst(rolled, config.samples_shown), update), rolled)
