"""Comparisons: the contract of their JSON, the tests behind it, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from rlseq.evaluation.compare import Comparison, compare_checkpoints
from rlseq.evaluation.loading import EvaluationError, load_policy
from rlseq.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def hull(hull_run: Path) -> Comparison:
    place = hull_run / "checkpoints"
    return compare_checkpoints([place / "mle", place / "rl"], resamples=200)


@pytest.fixture(scope="module")
def text(text_run: Path) -> Comparison:
    place = text_run / "checkpoints"
    return compare_checkpoints([place / "mle", place / "rl"], resamples=200)


def difference(comparison: Comparison, metric: str) -> dict[str, Any]:
    (found,) = [item for item in comparison.to_json()["differences"] if item["metric"] == metric]
    return found


def test_json_is_the_contract(hull: Comparison, text: Comparison) -> None:
    for comparison in (hull, text):
        result = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
        assert list(result) == ["arms", "differences", "examples"]
        assert [arm["name"] for arm in result["arms"]] == ["mle", "rl"]
        assert all(list(arm) == ["name", "checkpoint", "metrics"] for arm in result["arms"])
        for item in result["differences"]:
            assert list(item) == ["metric", "a", "b", "delta", "ci95", "p_value"]
            assert (item["a"], item["b"]) == ("mle", "rl")
            assert item["ci95"][0] <= item["delta"] <= item["ci95"][1]
            assert 0 <= item["p_value"] <= 1
            shown = [arm["metrics"][item["metric"]] for arm in result["arms"]]
            assert item["delta"] == pytest.approx(shown[1] - shown[0], abs=1e-9)


def test_accuracy_is_tested_with_mcnemars_test_in_percentage_points(hull: Comparison) -> None:
    first, second = (arm.outputs.values["accuracy"] for arm in hull.arms)
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    assert gained + lost > 10  # the arms differ
    found = difference(hull, "accuracy")
    assert found["p_value"] == pytest.approx(scipy.stats.binomtest(gained, gained + lost).pvalue)
    assert found["delta"] == pytest.approx(100 * (gained - lost) / 250)


def test_means_are_compared_in_their_own_units(hull: Comparison) -> None:
    first, second = (arm.outputs.values["edge_f1"] for arm in hull.arms)
    found = difference(hull, "edge_f1")
    assert found["delta"] == pytest.approx((second - first).mean())
    # A share that the task shows as a share, not in per cent.
    truncated = difference(hull, "truncated")
    assert abs(truncated["delta"]) <= 1 and max(map(abs, truncated["ci95"])) <= 1
    assert {item["metric"] for item in hull.to_json()["differences"]} == {
        "accuracy", "simple", "edge_f1", "coverage", "valid", "reward", "truncated", "length",
    }  # fmt: skip


def test_a_metric_that_failed_has_no_difference(hull: Comparison) -> None:
    assert all(np.isnan(arm.metrics["area"]) for arm in hull.arms)
    assert "area" not in {item["metric"] for item in hull.to_json()["differences"]}


def test_bleu_has_the_p_value_of_sacrebleu(text: Comparison, text_run: Path) -> None:
    task = load_policy(text_run).task
    pairs = [task.text_pairs(arm.outputs.sequences, arm.outputs.lengths, arm.outputs.ids) for arm in text.arms]
    assert pairs[0] is not None and pairs[1] is not None
    systems = [("mle", pairs[0].hypotheses), ("rl", pairs[1].hypotheses)]
    test = PairedTest(systems, {"BLEU": BLEU(force=True)}, pairs[0].references, test_type="bs", n_samples=200)
    oracle = test()[1]["BLEU"]
    assert test._seed == 12345
    found = difference(text, "BLEU")
    assert found["p_value"] == oracle[1].p_value  # type: ignore[union-attr]
    assert found["delta"] == oracle[1].score - oracle[0].score  # type: ignore[union-attr]
    assert found["delta"] != 0


def test_examples_are_the_ten_that_changed_most(hull: Comparison) -> None:
    rewards = np.stack([arm.outputs.rewards for arm in hull.arms])
    changes = np.abs(rewards[1] - rewards[0])
    shown = hull.examples
    assert len(shown) == 10
    rows = [int(np.flatnonzero(hull.arms[0].outputs.ids == example["id"])[0]) for example in shown]
    assert sorted(changes[rows], reverse=True) == changes[rows].tolist() == np.sort(changes)[::-1][:10].tolist()
    for row, example in zip(rows, shown, strict=True):
        assert [out["name"] for out in example["outputs"]] == ["mle", "rl"]
        assert [out["reward"] for out in example["outputs"]] == rewards[:, row].tolist()
        assert example["outputs"][0]["output"] != example["outputs"][1]["output"]
        assert example["source"].startswith("p1(") and example["reference"].endswith("END")


def test_three_arms_give_every_pair_in_order(hull_run: Path) -> None:
    place = hull_run / "checkpoints"
    paths = [place / "rl", place / "mle", place / "rl"]
    result = compare_checkpoints(paths, names=["x", "y", "z"], max_instances=40, resamples=50).to_json()
    pairs = [(item["a"], item["b"]) for item in result["differences"] if item["metric"] == "reward"]
    assert pairs == [("x", "y"), ("x", "z"), ("y", "z")]
    same = [item for item in result["differences"] if (item["a"], item["b"]) == ("x", "z")]
    assert all(item["delta"] == 0 and item["p_value"] == 1 for item in same)


def test_names_tell_the_arms_apart(hull_run: Path, tmp_path: Path) -> None:
    place = hull_run / "checkpoints"
    shutil.copytree(hull_run, tmp_path / "hull-2", symlinks=True)
    options: dict[str, Any] = {"max_instances": 20, "resamples": 20}
    other = tmp_path / "hull-2" / "checkpoints" / "mle"
    names = [arm.name for arm in compare_checkpoints([place / "mle", other], **options).arms]
    assert names == ["hull-1/mle-40", "hull-2/mle-40"]
    with pytest.raises(EvaluationError, match=r"two arms are called hull-1/mle-40"):
        compare_checkpoints([place / "mle", place / "mle"], **options)
    with pytest.raises(EvaluationError, match="two arms are called a"):
        compare_checkpoints([place / "mle", place / "rl"], names=["a", "a"], **options)
    with pytest.raises(EvaluationError, match="1 names for 2 checkpoints"):
        compare_checkpoints([place / "mle", place / "rl"], names=["a"], **options)
    with pytest.raises(EvaluationError, match="two or more"):
        compare_checkpoints([place / "mle"], **options)


def with_task(path: Path, place: Path, **changes: Any) -> Path:
    """The checkpoint with another task section, and the signature that belongs to it."""
    from rlseq.config.load import parse_config
    from rlseq.data.tasks import make_task

    checkpoint = load_checkpoint(path, resume=True)
    assert checkpoint.state is not None
    meta = json.loads(json.dumps(checkpoint.meta))
    meta["config"]["task"] |= changes
    meta["signature"] = make_task(parse_config(meta["config"]).task).signature
    save_checkpoint(place, tensors=checkpoint.state, meta=meta | {"phase": "rl"}, artifacts=lambda _: None)
    return place


def test_arms_of_different_tasks_are_refused(hull_run: Path, tmp_path: Path) -> None:
    mle = hull_run / "checkpoints" / "mle" / "40"
    rewarded = with_task(mle, tmp_path / "1", reward={"valid": 1.0})
    with pytest.raises(EvaluationError, match=r"(?s)mle and rl were trained for different tasks.*reward:1\*valid"):
        compare_checkpoints([mle, rewarded])


@pytest.mark.parametrize("change", [{"seed": 1}, {"test_size": 300}, {"test_points": [3, 5]}])
def test_arms_of_different_instances_are_refused(hull_run: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    mle = hull_run / "checkpoints" / "mle" / "40"
    with pytest.raises(EvaluationError, match="mle and rl have different test instances"):
        compare_checkpoints([mle, with_task(mle, tmp_path / "1", **change)])
