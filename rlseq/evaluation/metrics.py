"""What metrics are by their names: which way is better, and which reward measures the same."""

from __future__ import annotations

from collections.abc import Iterable

LESS_IS_BETTER = frozenset({"TER", "truncated"})
_MEASURED_BY = {
    "bleu": {"BLEU", "BLEU-lc", "BLEU-1"},
    "cider": {"CIDEr-D"},
    "chrf": {"chrF"},
    "neg_ter": {"TER"},
    "valid": {"accuracy"},
    "coverage": {"area"},
}  # the metrics that a reward of another name is the same measurement as
_NO_QUALITY = frozenset({"reward", "length", "truncated"})


def larger_is_better(metric: str) -> bool:
    """Whether more of a metric is better."""
    return metric not in LESS_IS_BETTER


def held_out(metrics: Iterable[str], rewards: Iterable[str]) -> list[str]:
    """The metrics that none of these rewards measures: a gain in them was not trained for by name."""
    rewarded = {"reward"}
    for reward in rewards:
        rewarded |= {reward, f"sentence_{reward}", *_MEASURED_BY.get(reward, ())}
    return [name for name in metrics if name not in rewarded | _NO_QUALITY]
