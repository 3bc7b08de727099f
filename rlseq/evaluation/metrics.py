"""Which metrics measure the same as a reward, by their names."""

from __future__ import annotations

from collections.abc import Iterable

_MEASURED_BY = {
    "bleu": {"BLEU", "BLEU-lc", "BLEU-1"},
    "cider": {"CIDEr-D"},
    "chrf": {"chrF"},
    "neg_ter": {"TER"},
    "neg_wer": {"WER"},
    "neg_cer": {"CER"},
    "valid": {"accuracy"},
    "coverage": {"area"},
    "digit": {"recognised"},
}  # the metrics that a reward of another name is the same measurement as
_NO_QUALITY = frozenset({"reward", "length", "truncated"})


def held_out(metrics: Iterable[str], rewards: Iterable[str]) -> list[str]:
    """The metrics that none of these rewards measures: a gain in them was not trained for by name."""
    rewarded = {"reward"}
    for reward in rewards:
        rewarded |= {reward, f"sentence_{reward}", *_MEASURED_BY.get(reward, ())}
    return [name for name in metrics if name not in rewarded | _NO_QUALITY]
