"""What sacrebleu does about n-gram orders without a match."""

from __future__ import annotations

import math
from typing import get_args

from sacrebleu.metrics import BLEU

from rlseq_envs.settings.text import Smoothing

SMOOTHINGS: tuple[Smoothing, ...] = get_args(Smoothing)
FLOOR, ADD_K, EXP = SMOOTHINGS.index("floor"), SMOOTHINGS.index("add-k"), SMOOTHINGS.index("exp")

MAX_ORDER = 4
LOG_ZERO = -9999999999.0  # sacrebleu's log of 0


def resolve_smoothing(smoothing: Smoothing, value: float | None) -> tuple[int, float]:
    """A smoothing's index and the value it uses, sacrebleu's default if none is given.

    Raises:
        ValueError: The smoothing is unknown, or the value is negative or not finite.
    """
    if smoothing not in SMOOTHINGS:
        raise ValueError(f"smoothing {smoothing!r} is unknown; choose one of {', '.join(SMOOTHINGS)}")
    if value is not None and not 0 <= value < math.inf:
        raise ValueError(f"the smoothing value must be finite and not negative, got {value}")
    used = value if value is not None else BLEU.SMOOTH_DEFAULTS[smoothing] or 0.0
    return SMOOTHINGS.index(smoothing), float(used)
