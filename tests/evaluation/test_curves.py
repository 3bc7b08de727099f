"""Beams and best-of-n: their curves agree with decoding and with counting subsets."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from rlseq.evaluation.arms import arms_of_checkpoints
from rlseq.evaluation.compare import compare
from rlseq.evaluation.curves import BEAMS, SAMPLES, best_of, measure_curves
from rlseq.evaluation.decoding import decode_sources, split_shards
from rlseq.evaluation.loading import load_policy
from rlseq.evaluation.options import DecodingOptions


def test_the_best_of_n_is_its_mean_over_all_subsets() -> None:
    rewards = np.random.default_rng(0).integers(0, 4, (5, 6)).astype(np.float64)
    for n in range(1, 7):
        subsets = [rewards[:, list(chosen)].max(axis=1) for chosen in itertools.combinations(range(6), n)]
        np.testing.assert_allclose(best_of(rewards, n), np.mean(subsets, axis=0))


def test_curves_begin_at_a_sample_never_fall_and_end_at_the_oracle(hull_run: Path) -> None:
    loaded, options = load_policy(hull_run), DecodingOptions()
    ids = loaded.task.instances("test").ids(0, 12)
    curves = measure_curves(loaded, ids, options)
    assert tuple(curves["beam"]) == BEAMS and tuple(curves["best_of_n"]) == SAMPLES
    means = np.array([curves["best_of_n"][n] for n in SAMPLES])
    assert (np.diff(means, axis=0) >= -1e-12).all() and means[-1].mean() > means[0].mean()
    drawn = decode_sources(loaded, split_shards(loaded, ids, 1), DecodingOptions(method="sample"), SAMPLES[-1])
    each = [loaded.task.reward(drawn.tokens[:, k], drawn.lengths[:, k], ids).total for k in range(SAMPLES[-1])]
    np.testing.assert_allclose(means[0], np.mean(each, axis=0))
    np.testing.assert_allclose(means[-1], np.max(each, axis=0))
    greedy = decode_sources(loaded, split_shards(loaded, ids), options)
    np.testing.assert_array_equal(
        curves["beam"][1], loaded.task.reward(greedy.tokens[:, 0], greedy.lengths[:, 0], ids).total
    )


def test_a_comparison_has_curves_if_they_are_asked_for(hull_run: Path) -> None:
    arms = arms_of_checkpoints([hull_run / "checkpoints" / phase for phase in ("mle", "rl")])
    result = compare(arms, max_instances=8, resamples=10, curves=True).to_json()["curves"]
    assert result["instances"] == 8
    assert [row["size"] for row in result["beam"]] == list(BEAMS)
    for row in result["best_of_n"]:
        for value in row["values"].values():
            assert value["ci95"][0] <= value["mean"] <= value["ci95"][1]
        assert set(row["values"]) == {"mle", "rl"}


@pytest.mark.parametrize("n", SAMPLES)
def test_one_reward_is_the_best_of_any_number(n: int) -> None:
    np.testing.assert_allclose(best_of(np.full((2, 64), 0.5), n), 0.5)
