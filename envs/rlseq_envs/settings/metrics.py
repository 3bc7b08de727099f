"""Which way corpus metrics are better, by their names."""

from __future__ import annotations

LESS_IS_BETTER = frozenset({"TER", "WER", "CER", "truncated"})


def larger_is_better(metric: str) -> bool:
    """Whether more of a metric is better, or of that of some instances, ``<metric>_<which>``."""
    return metric.partition("_")[0] not in LESS_IS_BETTER


def signed(metric: str, value: float) -> float:
    """A number of which more is better, from a metric's value; from that number the value again."""
    return value if larger_is_better(metric) else -value
