"""The table of samples: what the policy makes of a few fixed instances."""

from __future__ import annotations

from rlseq.report.samples import SampleRow
from rlseq.training.engine import Engine
from rlseq_envs.task import Ints, SequenceTask


def sample_rows(task: SequenceTask, engine: Engine, ids: Ints, update: int) -> list[SampleRow]:
    """One greedy output and one sample for each instance, with rewards, advantage and attention."""
    if not len(ids):
        return []
    rolled = engine.rollout(ids, num_samples=1, greedy=True, update=update, averaged=True, with_attention=True)
    source_lengths = task.source(ids)[1]
    rows = []
    for row, instance in enumerate(ids.tolist()):
        sample, greedy = (rolled.sequences[row, column, : rolled.lengths[row, column]] for column in (0, 1))
        drawn, best = task.render(instance, sample), task.render(instance, greedy)
        attention = None if rolled.attention is None else rolled.attention[row, 1, : len(greedy)]
        # A pointer's attention has END in front of the source's positions.
        extra = 0 if attention is None or task.vocabulary_size is not None else 1
        rows.append(
            SampleRow(
                id=instance,
                source=best.source,
                reference=best.reference,
                greedy=best.output,
                greedy_reward=float(rolled.rewards[row, 1]),
                sample=drawn.output,
                sample_reward=float(rolled.rewards[row, 0]),
                advantage=float(rolled.rewards[row, 0] - rolled.rewards[row, 1]),
                points=best.points,
                polygon=best.polygon,
                reference_polygon=best.reference_polygon,
                attention=None if attention is None else attention[:, : source_lengths[row] + extra],
                input_labels=("END", *best.input_labels) if extra else best.input_labels,
                output_labels=best.output_labels,
            )
        )
    return rows
