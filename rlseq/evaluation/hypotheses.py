"""Outputs of another system as an arm: one line for each instance of a split, in its order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.evaluate import Evaluation, Outputs, metric_signatures, score_outputs, with_means
from rlseq.evaluation.options import DecodingOptions
from rlseq_envs.task import END, Ints, SequenceTask, SplitName, TextPairs


def read_hypotheses(
    path: Path, name: str, task: SequenceTask, ids: Ints, split: SplitName, options: DecodingOptions
) -> tuple[Evaluation, TextPairs | None]:
    """Score the outputs of another system.

    Text is scored as it stands, since it need not be made of the task's vocabulary; it has no tokens, so it has neither
    length nor END. Other outputs are lines as ``format_outputs`` of the task writes them.

    Args:
        path: The file, UTF-8.
        name: Of the system.
        task: Whose instances they are.
        ids: The instances.
        split: That they are from.
        options: How the arms beside it are decoded.

    Raises:
        EvaluationError: The file cannot be read, or does not fit the instances.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: cannot be read as lines of UTF-8 ({error})") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(lines) != len(ids):
        raise EvaluationError(f"{path} has {len(lines)} lines for {len(ids)} {split} instances: give one for each")
    try:
        outputs, metrics, texts = _score_texts(lines, task, ids) if task.text_metrics() else _score(lines, task, ids)
    except (ValueError, NotImplementedError) as error:
        raise EvaluationError(f"{path}: {error}") from error
    signatures = metric_signatures(task, ids)
    return Evaluation(name, path, split, options, with_means(metrics, outputs), signatures, outputs), texts


_Scored = tuple[Outputs, dict[str, float], TextPairs | None]


def _score(lines: list[str], task: SequenceTask, ids: Ints) -> _Scored:
    sequences, lengths = task.parse_outputs(lines, ids)
    return score_outputs(task, sequences, lengths, ids), task.corpus_metrics(sequences, lengths, ids), None


def _score_texts(lines: list[str], task: SequenceTask, ids: Ints) -> _Scored:
    pairs = task.text_pairs(*task.references(ids), ids)
    assert pairs is not None
    reward = task.text_reward(lines, ids)
    nothing = np.full((len(ids), 1), END, np.int64), np.ones(len(ids), np.int64)
    outputs = Outputs(ids, *nothing, reward.total, {"reward": reward.total, **reward.components})
    metrics = {
        name: float(metric.corpus_score(lines, pairs.references).score) for name, metric in task.text_metrics().items()
    }
    return outputs, metrics, TextPairs(lines, pairs.references)
