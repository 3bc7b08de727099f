"""Comparisons: the contract of their JSON, the tests behind it, and what is refused."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from rlseq.decoding.encoding import encode_sources
from rlseq.decoding.sampling import Drawing, decode
from rlseq.evaluation.arms import ArmSpec, Role, rewards_of, study_arms
from rlseq.evaluation.compare import Comparison, compare, compare_checkpoints
from rlseq.evaluation.errors import EvaluationError
from rlseq.evaluation.evaluate import Outputs, evaluate, evaluate_checkpoint
from rlseq.evaluation.judging import Arm
from rlseq.evaluation.loading import load_policy
from rlseq.evaluation.options import DecodingOptions
from rlseq.evaluation.seeds import compare_arms, holm, of_means
from rlseq.report.page import comparison_page
from rlseq.training.checkpoint import load_checkpoint, save_checkpoint
from rlseq_envs.task import Floats


def arm(name: str, runs: list[Path], phase: str, role: Role | None = None) -> ArmSpec:
    return ArmSpec(name, tuple(run / "checkpoints" / phase for run in runs), role)


@pytest.fixture(scope="module")
def hull(hull_run: Path) -> Comparison:
    place = hull_run / "checkpoints"
    return compare_checkpoints([place / "mle", place / "rl"], resamples=200)


@pytest.fixture(scope="module")
def text(text_run: Path) -> Comparison:
    place = text_run / "checkpoints"
    return compare_checkpoints([place / "mle", place / "rl"], resamples=200)


@pytest.fixture(scope="module")
def study(hull_runs: list[Path]) -> Comparison:
    """Three seeds of mle and rl, and two controls that are checkpoints of the same runs."""
    arms = [arm("rl", hull_runs, "rl"), arm("mle", hull_runs, "mle")]
    arms += [arm("constant_reward", hull_runs, "rl"), arm("mine", hull_runs, "mle", "control")]
    return compare(arms, resamples=100)


def outputs(arm: Arm) -> Outputs:
    return arm.judged[0].evaluation.outputs


def difference(comparison: Comparison, metric: str) -> dict[str, Any]:
    (found,) = [item for item in comparison.to_json()["differences"] if item["metric"] == metric]
    return found


def test_json_is_the_contract(hull: Comparison, text: Comparison, study: Comparison) -> None:
    for comparison in (hull, text, study):
        result = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
        assert set(result) == {
            "primary", "split", "instances", "decoding", "resamples", "seed", "method", "less_is_better",
            "profile_unit", "arms", "attributable", "differences", "trained_on", "held_out", "buckets",
            "training_curves", "regressions", "examples",
        }  # fmt: skip
        arms = {arm["name"]: arm for arm in result["arms"]}
        for entry in arms.values():
            assert list(entry) == [
                "name", "seeds", "checkpoints", "role", "metrics", "seconds", "per_seed", "iqm", "ci95",
                "signatures", "profile", "cost", "selection",
            ]  # fmt: skip
            assert len(entry["seeds"]) == len(entry["checkpoints"]) == len(entry["selection"])
            for name, values in entry["per_seed"].items():
                if None not in values:
                    assert entry["metrics"][name] == pytest.approx(np.mean(values))
            for name, (low, high) in entry["ci95"].items():
                assert low <= entry["metrics"][name] + 1e-9 and entry["metrics"][name] - 1e-9 <= high
        for item in result["differences"]:
            assert set(item) == {
                "metric", "a", "b", "delta", "ci95", "p_value", "p_holm", "p_randomization", "ci95_percentile",
                "probability_of_improvement", "probability_ci95", "wins", "ties", "losses", "per_seed",
            }  # fmt: skip
            assert item["ci95"][0] - 1e-9 <= item["delta"] <= item["ci95"][1] + 1e-9
            assert item["p_value"] <= item["p_holm"] <= 1
            assert item["wins"] + item["ties"] + item["losses"] <= result["instances"]
            shown = [arms[item[place]]["metrics"][item["metric"]] for place in "ab"]
            assert item["delta"] == pytest.approx(shown[1] - shown[0], abs=1e-9)


def test_the_page_explains_every_key(study: Comparison) -> None:
    page = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text(encoding="utf-8")
    result = study.to_json()
    example = result["examples"][0]
    parts = [result, result["arms"][0], result["arms"][0]["profile"], result["differences"][0]]
    parts += [example, example["outputs"][0]]
    keys = {key for part in parts for key in part} - {"metric", "a", "b"}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_the_roles_are_found_and_the_rewarded_are_compared_with_the_others(study: Comparison) -> None:
    assert [arm.role for arm in study.arms] == ["reward", "mle", "control", "control"]
    pairs = {(item.a, item.b) for item in study.differences}
    assert {("mle", "rl"), ("constant_reward", "rl"), ("mine", "rl")} < pairs and len(pairs) == 6


def test_an_unknown_name_plays_the_part_of_its_training(hull_run: Path) -> None:
    meta = load_policy(hull_run).meta
    assert ArmSpec("x").role_of(meta) == "reward" and rewards_of(meta) == ["valid", "edge_f1"]
    config = meta["config"] | {"rl": meta["config"]["rl"] | {"reward_source": "constant"}}
    for other in (meta | {"config": config}, meta | {"phase": "mle"}):
        assert ArmSpec("x").role_of(other) == "other" and rewards_of(other) == []
    assert ArmSpec("self_training").role_of(meta) == "control"


def test_seeds_are_compared_as_by_hand(study: Comparison, hull_runs: list[Path]) -> None:
    found: dict[str, Any] = {
        phase: np.stack(
            [evaluate_checkpoint(run / "checkpoints" / phase).outputs.values["edge_f1"] for run in hull_runs]
        )
        for phase in ("mle", "rl")
    }
    expected = compare_arms(of_means(found["mle"]), of_means(found["rl"]), resamples=100, seed=12345)
    (item,) = [d for d in study.differences if (d.metric, d.a, d.b) == ("edge_f1", "mle", "rl")]
    assert item.found == expected and len(expected.per_seed) == 3


def test_what_is_attributable_is_left_beside_the_best_control(study: Comparison) -> None:
    gains = {metric: gain for metric, arm, gain in study.attributable}
    assert study.attributable[0][:2] == ("accuracy", "rl")
    # One control is rl itself, so nothing is left.
    assert gains["accuracy"].best_control == "constant_reward" and gains["accuracy"].delta == 0
    result = study.to_json()
    assert result["trained_on"] == {"rl": ["valid", "edge_f1"], "constant_reward": ["valid", "edge_f1"]}
    assert result["held_out"] == ["simple", "coverage"] and result["less_is_better"] == ["truncated"]


def test_holm_is_over_the_other_metrics_of_a_pair(study: Comparison) -> None:
    pair = [item for item in study.differences if (item.a, item.b) == ("mle", "rl")]
    assert pair[0].metric == study.primary and pair[0].p_holm == pair[0].found.p_value
    assert [item.p_holm for item in pair[1:]] == holm([item.found.p_value for item in pair[1:]])


def test_arms_of_other_seeds_are_compared_unpaired(hull_runs: list[Path]) -> None:
    arms = [arm("mle", hull_runs, "mle"), arm("rl", hull_runs[:2], "rl"), arm("one", hull_runs[:1], "rl")]
    result = compare(arms, resamples=20, max_instances=60).to_json()
    assert all(item["per_seed"] == [] for item in result["differences"])
    assert [arm["seeds"] for arm in result["arms"]] == [[0, 1, 2], [0, 1], [0]]


def test_a_study_names_its_arms(hull_runs: list[Path], tmp_path: Path) -> None:
    entries = [
        {
            "name": name, "role": role, "tried": 3, "selected": {"rl.samples": "4"},
            "runs": [os.path.relpath(run / "checkpoints" / phase, tmp_path) for run in hull_runs],
        }
        for name, role, phase in (("mle", "mle", "mle"), ("rl", "reward", "rl"), ("other", "control", "mle"))
    ]  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps({"arms": entries}))
    result = compare(study_arms(tmp_path), resamples=20, max_instances=60).to_json()
    assert [(arm["name"], arm["role"], arm["seeds"]) for arm in result["arms"]] == [
        ("mle", "mle", [0, 1, 2]), ("rl", "reward", [0, 1, 2]), ("other", "control", [0, 1, 2]),
    ]  # fmt: skip
    assert result["arms"][1]["selection"][0].endswith("rl.samples=4 chosen on validation among 3 settings")
    assert result["attributable"][0]["best_control"] == "other"


def test_a_study_that_cannot_be_read_is_refused_with_all_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read as a study"):
        study_arms(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({"arms": []}))
    with pytest.raises(EvaluationError, match="rlseq study --resume"):
        study_arms(tmp_path)
    arms = [{"name": name, "role": "mle", "runs": runs} for name, runs in (("a", ["x", "y"]), ("b", []))]
    (tmp_path / "study.json").write_text(json.dumps({"arms": arms}))
    with pytest.raises(EvaluationError, match=r"(?s)x of a is missing.*y of a is missing.*b has no runs"):
        study_arms(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({"arms": [{"name": "a", "role": "king", "runs": []}]}))
    with pytest.raises(EvaluationError, match="role 'king' of a"):
        study_arms(tmp_path)


@pytest.mark.parametrize("run", ["hull_run", "text_run"])
def test_a_policys_outputs_read_back_are_the_policy(run: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    checkpoint = request.getfixturevalue(run) / "checkpoints" / "rl"
    loaded = load_policy(checkpoint)
    outputs = evaluate(loaded).outputs
    lines = loaded.task.format_outputs(outputs.sequences, outputs.lengths)
    (tmp_path / "out.txt").write_text("".join(f"{line}\r\n" for line in lines), encoding="utf-8")
    arms = [ArmSpec("theirs", hypotheses=tmp_path / "out.txt"), ArmSpec("rl", (checkpoint,))]
    result = compare(arms, resamples=20).to_json()
    theirs, ours = result["arms"]
    assert theirs["seeds"] == [] and theirs["role"] == "other" and ours["role"] == "reward"
    shared = [name for name in ours["metrics"] if name in theirs["metrics"] and name not in ("length", "truncated")]
    assert {"reward", result["primary"]} <= set(shared)
    assert [theirs["metrics"][name] for name in shared] == [ours["metrics"][name] for name in shared]
    assert all(item["delta"] == 0 for item in result["differences"] if item["metric"] in shared)
    assert theirs["signatures"] == ours["signatures"] and result["examples"] == []
    assert theirs["profile"]["length_ratio"] == pytest.approx(ours["profile"]["length_ratio"])
    assert theirs["profile"]["entropy"] is None and ours["profile"]["entropy"] > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [("1 2 3 1\n", "1 lines for 250 test instances"), ("1 9 3 1\n" * 250, "line 1: output '9' is not the index")],
)
def test_outputs_that_do_not_fit_are_refused(hull_run: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "out.txt").write_text(text)
    arms = [ArmSpec("rl", (hull_run,)), ArmSpec("theirs", hypotheses=tmp_path / "out.txt")]
    with pytest.raises(EvaluationError, match=message):
        compare(arms)


def test_accuracy_is_tested_with_mcnemars_test_in_percentage_points(hull: Comparison) -> None:
    first, second = (outputs(arm).values["accuracy"].astype(bool) for arm in hull.arms)
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    assert gained + lost > 10  # the arms differ
    found = difference(hull, "accuracy")
    assert found["p_value"] == pytest.approx(scipy.stats.binomtest(gained, gained + lost).pvalue)
    assert found["delta"] == pytest.approx(100 * (gained - lost) / 250)


def test_means_are_compared_in_their_own_units(hull: Comparison) -> None:
    first, second = (outputs(arm).values["edge_f1"] for arm in hull.arms)
    found = difference(hull, "edge_f1")
    assert found["delta"] == pytest.approx((second - first).mean())
    # A share that the task shows as a share, not in per cent.
    truncated = difference(hull, "truncated")
    assert abs(truncated["delta"]) <= 1 and max(map(abs, truncated["ci95"])) <= 1
    assert {item["metric"] for item in hull.to_json()["differences"]} == {
        "accuracy", "simple", "edge_f1", "coverage", "valid", "reward", "truncated", "length",
    }  # fmt: skip


def test_a_metric_that_failed_has_no_difference(hull: Comparison) -> None:
    assert all(np.isnan(arm.judged[0].evaluation.metrics["area"]) for arm in hull.arms)
    assert "area" not in {item["metric"] for item in hull.to_json()["differences"]}


def test_bleu_has_the_p_value_of_sacrebleu(text: Comparison) -> None:
    pairs = [arm.judged[0].texts for arm in text.arms]
    assert pairs[0] is not None and pairs[1] is not None
    systems: list[tuple[str, Sequence[str]]] = [("mle", pairs[0].hypotheses), ("rl", pairs[1].hypotheses)]
    test = PairedTest(systems, {"BLEU": BLEU(force=True)}, pairs[0].references, test_type="bs", n_samples=200)
    oracle = test()[1]["BLEU"]
    assert test._seed == 12345
    found = difference(text, "BLEU")
    assert found["p_value"] == oracle[1].p_value
    assert found["delta"] == oracle[1].score - oracle[0].score
    assert found["delta"] != 0


def test_examples_are_the_ten_that_changed_most(hull: Comparison) -> None:
    rewards = np.stack([outputs(arm).rewards for arm in hull.arms])
    changes = np.abs(rewards[1] - rewards[0])
    shown = hull.to_json()["examples"]
    assert len(shown) == 10
    rows = [int(np.flatnonzero(outputs(hull.arms[0]).ids == example["id"])[0]) for example in shown]
    assert sorted(changes[rows], reverse=True) == changes[rows].tolist() == np.sort(changes)[::-1][:10].tolist()
    for row, example in zip(rows, shown, strict=True):
        assert [out["name"] for out in example["outputs"]] == ["mle", "rl"]
        assert [out["reward"] for out in example["outputs"]] == rewards[:, row].tolist()
        assert example["outputs"][0]["output"] != example["outputs"][1]["output"]
        assert example["source"].startswith("p1(") and example["reference"].endswith("END")
        assert example["drawing"]["polygon"] == example["drawing"]["reference"] != []
        assert all(out["drawing"] == example["drawing"] | {"polygon": corners(out)} for out in example["outputs"])


def corners(output: dict[str, Any]) -> list[int]:
    """Indices of the points that an output names."""
    return [int(name[1:]) - 1 for name in output["output"].split() if name.startswith("p")]


def test_regressions_are_where_rl_lost_most_against_mle(study: Comparison) -> None:
    losses = study.arms[1].rewards - study.arms[0].rewards
    ids = outputs(study.arms[0]).ids
    shown = study.to_json()["regressions"]
    rows = [int(np.flatnonzero(ids == example["id"])[0]) for example in shown]
    means = losses.mean(axis=0)
    assert means[rows].tolist() == np.sort(means)[::-1][: len(rows)].tolist()
    assert len(rows) == min(10, int((means > 0).sum())) > 0
    for row, example in zip(rows, shown, strict=True):
        reward = {out["name"]: out["reward"] for out in example["outputs"]}
        assert reward["mle"] - reward["rl"] == losses[:, row].max() > 0


def decoded(checkpoint: Path, instance: int) -> Floats:
    """The attention of the greedy output of one instance, as decoding itself gives it."""
    loaded = load_policy(checkpoint)
    ids = np.array([instance])
    memory = encode_sources(loaded.policy, loaded.task.source(ids), "cpu")
    limits = torch.from_numpy(loaded.task.length_limits(loaded.task.sizes(ids)))
    found = decode(loaded.policy, memory, limits, Drawing(with_attention=True))
    assert found.attention is not None
    return found.attention[0, 0, : found.lengths[0, 0]].double().numpy()


@pytest.mark.parametrize("name", ["study", "text"])
def test_what_greedy_outputs_read_is_shown_with_a_label_for_each_row_and_column(
    name: str, hull_runs: list[Path], text_run: Path, request: pytest.FixtureRequest
) -> None:
    result = request.getfixturevalue(name).to_json()
    runs, points = (hull_runs, True) if name == "study" else ([text_run], False)
    phases = {"mle": "mle", "mine": "mle", "mle-20": "mle"}  # of an arm; others show rl
    of_seed = {example["seed"]: example for example in result["examples"] + result["regressions"]}
    assert len(of_seed) >= min(2, len(runs))
    for example in of_seed.values():
        for output in example["outputs"]:
            inputs, tokens = output["input_labels"], output["output_labels"]
            weights = np.array(output["attention"])
            assert weights.shape == (len(tokens), len(inputs))
            assert weights.sum(axis=1) == pytest.approx(1, abs=0.0005 * len(inputs))
            checkpoint = runs[example["seed"]] / "checkpoints" / phases.get(output["name"], "rl")
            assert weights == pytest.approx(decoded(checkpoint, example["id"]), abs=0.00051)
            if points:  # a pointer emits what it reads most
                assert inputs == ["END", *(f"p{i + 1}" for i in range(len(example["drawing"]["points"])))]
                assert [row[inputs.index(token)] for row, token in zip(weights, tokens, strict=True)] == [
                    *weights.max(1)
                ]
            else:
                assert " ".join(inputs).startswith(example["source"])


def test_searched_outputs_and_those_of_other_systems_have_no_attention(hull_run: Path, tmp_path: Path) -> None:
    place = hull_run / "checkpoints"
    beam = DecodingOptions("beam", beam_size=2)
    searched = compare_checkpoints([place / "mle", place / "rl"], decoding=beam, max_instances=60, resamples=20)
    outputs = [output for example in searched.to_json()["examples"] for output in example["outputs"]]
    assert outputs and not any("attention" in output for output in outputs)
    (tmp_path / "out.txt").write_text("1 2 3 1\n" * 250)
    arms = [ArmSpec("rl", (place / "rl",)), ArmSpec("theirs", hypotheses=tmp_path / "out.txt")]
    for example in compare(arms, resamples=20).to_json()["examples"]:
        assert ["attention" in output for output in example["outputs"]] == [True, False]


@pytest.mark.parametrize("name", ["study", "text"])
def test_the_page_draws_what_each_output_read(name: str, request: pytest.FixtureRequest) -> None:
    result = request.getfixturevalue(name).to_json()
    shown = [output for part in ("examples", "regressions") for each in result[part] for output in each["outputs"]]
    page = comparison_page(result)
    assert len(re.findall(r'<svg[^>]*class="attention"', page)) == len(shown) > 0
    for output in shown:
        assert f"attention of {output['name']}" in page
        largest = output["input_labels"][int(np.argmax(output["attention"][0]))]
        assert f"{output['output_labels'][0]} reads {largest}" in html.unescape(page)


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
    meta["phase"] = meta["trainer"]["phase"] = "rl"
    save_checkpoint(place, tensors=checkpoint.state, meta=meta, artifacts=lambda _: None)
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
