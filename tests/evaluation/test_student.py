"""Student's t distribution against scipy's."""

from __future__ import annotations

import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq.evaluation.student import critical_value, two_sided_p

DEGREES = st.one_of(st.integers(1, 60), st.floats(1, 1e6))


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-3, 60), DEGREES)
def test_the_tail_is_scipys(t: float, df: float) -> None:
    assert two_sided_p(t, df) == pytest.approx(2 * scipy.stats.t.sf(t, df), rel=1e-10, abs=1e-300)
    assert two_sided_p(-t, df) == two_sided_p(t, df)


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-60, 0.999), DEGREES)
def test_the_critical_value_is_scipys(p: float, df: float) -> None:
    assert critical_value(p, df) == pytest.approx(scipy.stats.t.isf(p / 2, df), rel=1e-10)


def test_the_ends_of_the_distribution() -> None:
    assert two_sided_p(0.0, 2) == 1.0
    assert two_sided_p(float("inf"), 2) == 0.0
    assert two_sided_p(80.0, 1e6) == 0.0
    assert critical_value(0.05, 2) == pytest.approx(4.302652729749464, rel=1e-13)
