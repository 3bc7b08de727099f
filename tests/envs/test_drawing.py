"""What a drawing takes, what it refuses, and how it is written down."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args

import numpy as np
import pytest

from rlseq_envs.drawing import Drawing, Picture, Polygon, Strip, drawing_from_json, drawing_to_json
from tests.drawings import MADE

FLOATS: Any = np.zeros((2, 2))


@pytest.mark.parametrize("made", MADE)
def test_a_drawing_is_read_as_it_was_written(made):
    drawing = MADE[made](np.array([2, 1, 3]), np.array([1, 2, 3, 4]))
    again = drawing_from_json(json.loads(json.dumps(drawing_to_json(drawing), allow_nan=False)))
    assert type(again) is type(drawing)
    for field in fields(drawing):
        before, after = getattr(drawing, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(after, before)
        assert getattr(after, "dtype", None) == getattr(before, "dtype", None)


def test_gaps_survive():
    again = drawing_from_json(
        json.loads(json.dumps(drawing_to_json(Strip(np.array([1, np.nan, -np.inf]))), allow_nan=False))
    )
    np.testing.assert_array_equal(again.values, np.array([1, np.nan, -np.inf], np.float32))
    assert again.limits == (0.5, 1.5)


def test_there_is_one_of_every_type():
    made = {type(make(np.array([1]), np.array([1]))) for make in MADE.values()}
    assert made == set(get_args(Drawing))


@pytest.mark.parametrize("made", MADE)
def test_the_reference_alone_has_nothing_of_the_output(made):
    reference = np.array([1, 2, 3, 4])
    one, other = (MADE[made](np.array(output), reference).reference_alone() for output in ([2, 1], [4, 4, 4]))
    assert one is not None and other is not None
    assert drawing_to_json(one) == drawing_to_json(other)


def test_without_a_reference_there_is_none_to_show():
    numbers = np.zeros((2, 2))
    assert Polygon(numbers, (0,)).reference_alone() is None
    assert Picture(numbers.astype(np.uint8)).reference_alone() is None
    assert Strip(numbers).reference_alone() is None


def test_limits_hold_values_and_reference():
    assert Strip(np.array([1, 2]), np.array([0, 1, 5])).limits == (0, 5)
    assert Strip(np.array([3, 3])).limits == (2.5, 3.5)
    assert Strip(np.zeros((4, 0))).limits == (0, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Polygon(np.zeros((0, 2))), [r"shape \(0, 2\); give \(n, 2\) with n at least 1"]),
        (lambda: Polygon(np.zeros((3, 3))), [r"shape \(3, 3\); give \(n, 2\)"]),
        (
            lambda: Polygon(np.zeros((3, 2)), (0, 3), (-1,)),
            [r"polygon names the points \[3\]; give indices from 0 to 2", r"reference names the points \[-1\]"],
        ),
        (
            lambda: Picture(FLOATS, np.zeros((2, 2, 1), np.uint8)),
            ["pixels of a picture is float64; give uint8", r"reference of a picture has shape \(2, 2, 1\); give \(hei"],
        ),
        (lambda: Picture(np.zeros((0, 2), np.uint8)), ["at least one pixel"]),
        (
            lambda: Strip(np.zeros((2, 3, 4)), np.array(1.0)),
            [r"values .* \(2, 3, 4\)", r"reference .* shape \(\); give"],
        ),
        (lambda: Strip(np.zeros((0, 3))), [r"shape \(0, 3\); give \(time,\) or \(channels, time\)"]),
        (lambda: Strip(np.zeros((2, 3)), np.zeros(3)), [r"shapes \(2, 3\) and \(3,\); give both the same channels"]),
    ],
)
def test_all_that_is_wrong_is_said_at_once(make, said):
    with pytest.raises(ValueError, match=".*".join(said)):
        make()
