"""A comparison on the terminal: the verdict in words, tables within 120 columns."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from rlseq.report.comparison import (
    arms_table,
    comparison_report,
    comparison_tables,
    differences_table,
    gain_line,
    shown_differences,
    verdict,
)


def arm(name: str, role: str, accuracy: float, seeds: int = 3) -> dict[str, Any]:
    points = [accuracy + seed for seed in range(seeds)]
    profile = {"length_ratio": 1.01, "truncated": None, "entropy": 0.125}
    return {
        "name": name, "role": role, "seeds": list(range(seeds)), "checkpoints": ["a"] * seeds, "seconds": 150.4,
        "metrics": {"accuracy": sum(points) / seeds, "area": None, "edge_f1": 0.9},
        "per_seed": {"accuracy": points, "area": [None] * seeds, "edge_f1": [0.9] * seeds},
        "iqm": {"accuracy": accuracy}, "ci95": {"accuracy": [accuracy - 2, accuracy + 2]},
        "signatures": {"task": "convex_hull|version:1"}, "profile": profile,
        "cost": {"updates": 6000, "samples": None, "cpu_seconds": 150.4},
        "selection": ["best of 12 validations by accuracy on validation (update 6000)"] * seeds,
    }  # fmt: skip


def difference(metric: str, a: str, b: str, delta: float, p: float) -> dict[str, Any]:
    return {
        "metric": metric, "a": a, "b": b, "delta": delta, "ci95": [delta - 1, delta + 1], "p_value": p, "p_holm": p,
        "p_randomization": None, "ci95_percentile": [delta, delta], "probability_of_improvement": 0.75,
        "probability_ci95": [0.5, 1.0], "wins": 120, "ties": 9000, "losses": 880, "per_seed": [delta] * 3,
    }  # fmt: skip


def comparison(*arms: dict[str, Any]) -> dict[str, Any]:
    names = [entry["name"] for entry in arms]
    pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
    outputs = [{"name": name, "output": f"p1 of {name}", "reward": 0.25} for name in names]
    example = {"id": 3, "seed": 0, "source": "[p1]", "reference": "r", "outputs": outputs}
    curve = [{"size": 4, "values": {name: {"mean": 0.5, "ci95": [0.4, 0.6]} for name in names}}]
    rows = [{"bucket": "5-6", "instances": 1234, "values": dict.fromkeys(names, 71.5)}]
    return {
        "primary": "accuracy", "split": "test", "instances": 10000, "decoding": {"method": "greedy"}, "resamples": 1000,
        "seed": 12345, "method": "how it was tested", "less_is_better": ["TER"], "profile_unit": "tokens",
        "arms": list(arms), "attributable": [],
        "differences": [difference(m, a, b, 4.75, 1e-9) for a, b in pairs for m in ("accuracy", "edge_f1")],
        "trained_on": {"rl": ["valid"]}, "held_out": ["edge_f1"],
        "buckets": [{"by": "points", "rows": rows}],
        "curves": {"instances": 1000, "beam": curve, "best_of_n": curve},
        "training_curves": {}, "regressions": [example], "examples": [example],
    }  # fmt: skip


TWO = comparison(arm("mle", "mle", 75.5, seeds=1), arm("rl", "reward", 80.25, seeds=1))
CONTROLS = ("equal_time", "constant_reward", "shuffled_reward", "same_instances", "self_training")
STUDY = comparison(
    arm("mle", "mle", 70.0), arm("rl", "reward", 78.0), *(arm(name, "control", 70.5) for name in CONTROLS)
)
GAIN = {
    "metric": "accuracy", "arm": "rl", "best_control": "equal_time", "delta": 6.2, "ci95": [4.9, 7.5], "p_value": 1e-4,
}  # fmt: skip


def text(*shown: RenderableType) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(*shown, sep="\n")
    return console.export_text()


def test_the_short_form_has_examples_arms_metrics_differences_and_the_verdict() -> None:
    examples, arms, metrics, differences, end = (text(shown) for shown in comparison_tables(TWO))
    assert "[p1]" in examples and "p1 of rl" in examples and "[0.250]" in examples
    assert "75.50" in arms and "80.25" in arms and "150.4" in arms
    assert "edge_f1 *" in metrics
    assert "*: held out, no arm was rewarded for it; –: failed by the metric's own rule" in " ".join(metrics.split())
    row = next(line for line in differences.splitlines() if "accuracy" in line).split()
    assert row == "accuracy rl - mle +4.75 +3.75 … +5.75 < 0.001 < 0.001 – 0.75 120/9000/880".split()
    assert "no control was given" in end and "rlseq study CONFIG" in end
    assert len(comparison_tables({**TWO, "examples": []})) == 4


def test_the_report_begins_and_ends_with_the_verdict_and_fits_the_terminal() -> None:
    result = STUDY | {"attributable": [GAIN]}
    shown = text(*comparison_report(result))
    line = gain_line(result, GAIN)
    words = " ".join(shown.split())
    assert words.startswith(line) and words.endswith(line)
    assert max(map(len, shown.splitlines())) <= 120
    for part in ("Lost most against mle", "counted in tokens", "accuracy by points", "1,234", "best of n samples",
                 "Cost of training", "6,000", "rl was trained on: valid", "best of 12 validations", "convex_hull|",
                 "how it was tested"):  # fmt: skip
        assert part in shown, part
    assert not any("…" in line.split("  ")[0] for line in shown.splitlines())  # no name is cut short


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "accuracy +6.20 [+4.90, +7.50], p < 0.001; the reward brought this"),
        ({"p_value": 0.31}, "p = 0.310; the reward brought nothing beyond its controls that could be told from chance"),
        ({"delta": -6.2}, "the reward brought nothing beyond its controls: it did worse"),
        ({"metric": "TER"}, "it did worse"),
        ({"metric": "TER", "delta": -6.2}, "the reward brought this"),
        ({"delta": 0.0123, "ci95": [0.0012, 0.0234]}, "+0.0123 [+0.0012, +0.0234]"),
    ],
)
def test_the_gain_is_said_in_words(changes: dict[str, Any], words: str) -> None:
    line = gain_line(STUDY, GAIN | changes)
    assert line.startswith("gain attributable to the reward: rl - best control (equal_time): ") and words in line


def test_no_arm_of_the_reward_has_no_gain() -> None:
    assert "no arm was trained on a reward" in str(verdict(comparison(arm("a", "mle", 1.0), arm("b", "other", 2.0))))


def test_seeds_are_shown_one_by_one() -> None:
    row = next(line for line in text(arms_table(STUDY)).splitlines() if "rl" in line)
    assert row.split() == "rl reward 79.00 76.00 … 80.00 1.000 78.00 79.00 80.00 150.4".split()


def test_of_many_arms_the_differences_that_matter_are_shown() -> None:
    result = STUDY | {"attributable": [GAIN]}
    result["differences"] = [
        item | {"a": item["b"], "b": item["a"]} if item["a"] == "rl" else item for item in STUDY["differences"]
    ]
    shown = shown_differences(result)
    assert len([item for item in shown if item["metric"] == "accuracy"]) == 6
    others = {(item["a"], item["b"]) for item in shown if item["metric"] != "accuracy"}
    assert others == {("mle", "rl"), ("equal_time", "rl")}
    assert "34 more differences are in the JSON" in text(differences_table(result))
