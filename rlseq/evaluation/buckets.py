"""Where arms differ: the instances in groups by what is hard about them (as compare-mt does; Neubig et al. 2019)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rlseq_envs.task import Floats, Ints, SequenceTask

GROUPS = 5
QUARTERS = 4
RARE_BELOW = 5  # times in the training references
_AT_ONCE = 10_000  # training references that are in memory as text


@dataclass(frozen=True)
class Buckets:
    """A partition of the instances.

    Attributes:
        by: What they are grouped by.
        labels: What the values of a group are, or from what to what they are.
        rows: Of each group, the places of its instances.
    """

    by: str
    labels: list[str]
    rows: list[Ints]


def make_buckets(task: SequenceTask, ids: Ints, mle_scores: Floats | None) -> list[Buckets]:
    """All groupings there are for a task.

    Args:
        task: The task.
        ids: The instances.
        mle_scores: (instances,) what cross-entropy alone scores on each, mean over seeds; None if no arm is that.
    """
    lengths = np.concatenate([task.sizes(part) for part in _parts(ids)])
    found = [group_values(task.points_to or "source length", lengths, GROUPS)]
    rare = rare_words(task, ids)
    if rare is not None:
        found.append(group_values("rare words", rare, GROUPS))
    if mle_scores is not None and not np.isnan(mle_scores).any():
        found.append(group_values("mle score", mle_scores, QUARTERS))
    return found


def group_values(by: str, values: Ints | Floats, count: int) -> Buckets:
    """Groups of about equal size, equal values together; a group for each value if these are few.

    Args:
        by: What the values are.
        values: (instances,).
        count: Most groups; for whole numbers one more is allowed if each value then has its own.
    """
    different = np.unique(values)
    if len(different) <= count + (values.dtype.kind == "i"):
        edges = different
    else:
        edges = np.unique(np.quantile(values, np.arange(count) / count, method="higher"))
    places = np.searchsorted(edges, values, side="right") - 1
    rows = [np.flatnonzero(places == place) for place in range(len(edges))]
    return Buckets(by, [_label(values[row]) for row in rows], rows)


def _label(values: Ints | Floats) -> str:
    low, high = (f"{value:d}" if values.dtype.kind == "i" else f"{value:.2f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low}-{high}"


def rare_words(task: SequenceTask, ids: Ints) -> Floats | None:
    """Fraction of each reference's words that the training references have fewer than 5 times, (instances,).

    None if outputs are no text, or if the training data are not there.
    """
    if not task.text_metrics():
        return None
    try:
        trained_on = task.instances("train")
    except (ValueError, OSError):
        return None
    if trained_on.size is None:
        return None
    counts = Counter(word for text in _references(task, trained_on.ids()) for word in text.split())
    rare = [[counts[word] < RARE_BELOW for word in text.split()] for text in _references(task, ids)]
    return np.array([float(np.mean(words)) if words else 0.0 for words in rare])


def _references(task: SequenceTask, ids: Ints) -> Iterator[str]:
    for part in _parts(ids):
        pairs = task.text_pairs(*task.references(part), part)
        yield from pairs.references[0] if pairs else ()


def _parts(ids: Ints) -> Sequence[Ints]:
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
