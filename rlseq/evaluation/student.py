"""Student's t distribution, for the intervals of a few seeds."""

from __future__ import annotations

import math
from functools import lru_cache


def two_sided_p(t: float, df: float) -> float:
    """P(|T| ≥ |t|) of a T with ``df`` degrees of freedom, which need not be whole.

    It is the regularised incomplete beta function I_x(df / 2, 1 / 2) at x = df / (df + t²) (Abramowitz & Stegun 1964,
    26.7.1).
    """
    if t == 0.0 or math.isinf(t):
        return float(t == 0.0)
    a, x, rest = df / 2, df / (df + t * t), t * t / (df + t * t)
    front = math.exp(-a * math.log1p(t * t / df) + 0.5 * math.log(rest) - _log_beta_half(a))
    if x < (a + 1) / (a + 2.5):  # the fraction converges fast
        return front * _beta_fraction(a, 0.5, x) / a
    return 1.0 - front * _beta_fraction(0.5, a, rest) / 0.5


@lru_cache(maxsize=1024)
def critical_value(p: float, df: float) -> float:
    """The t with P(|T| ≥ t) = p for 1e-140 ≤ p < 1 and df ≥ 1.

    Bisection comes near. Newton's method on log P as a function of log t, which is concave, ends it from above.
    """
    low, high = 0.5, 1.0
    while two_sided_p(low, df) < p:
        low, high = low / 2, low
    while two_sided_p(high, df) > p:
        low, high = high, 2 * high
    for _ in range(5):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided_p(middle, df) > p else (low, middle)
    for _ in range(5):
        reached = two_sided_p(high, df)
        high *= math.exp(math.log(reached / p) * reached / (2 * high * density(high, df)))
    return high


def density(t: float, df: float) -> float:
    """The probability density of T at t."""
    return math.exp(-(df + 1) / 2 * math.log1p(t * t / df) - _log_beta_half(df / 2) - math.log(df) / 2)


def _log_beta_half(a: float) -> float:
    """Log B(a, 1/2); if a is large, by the series of Γ(a + 1/2) / Γ(a), whose logarithms are too close."""
    if a < 25:
        return math.lgamma(a) + 0.5 * math.log(math.pi) - math.lgamma(a + 0.5)
    series = -1 / (8 * a) + 1 / (192 * a**3) - 1 / (640 * a**5) + 17 / (14336 * a**7)
    return 0.5 * math.log(math.pi / a) - series


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (Abramowitz & Stegun 1964, 26.5.8), by Lentz's method.

    For the x that it is called with, no denominator comes near 0.
    """
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1))
    value, m = d, 1
    while True:
        term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1.0 / (1.0 + term * d), 1.0 + term / c
        value *= d * c
        term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1.0 / (1.0 + term * d), 1.0 + term / c
        value *= d * c
        if abs(d * c - 1.0) < 3e-16:
            return value
        m += 1
