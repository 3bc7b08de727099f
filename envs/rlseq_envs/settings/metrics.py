"""Which way metrics are better, by their names."""

from __future__ import annotations

_LIKELIHOOD = ("nats_per_sequence", "nats_per_token", "perplexity", "bits_per_dimension")
LESS_IS_BETTER = frozenset({"TER", "WER", "CER", "truncated", *_LIKELIHOOD})


def larger_is_better(metric: str) -> bool:
    """Whether more of a metric is better, or of that of some instances, ``<metric>_<which>``."""
    return LESS_IS_BETTER.isdisjoint({metric, metric.partition("_")[0]})


def signed(metric: str, value: float) -> float:
    """A number of which more is better, from a metric's value; from that number the value again."""
    return value if larger_is_better(metric) else -value
