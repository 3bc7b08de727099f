"""Tables of results, as text."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from rlseq.report.tables import comparison_tables, evaluation_table, format_p_value, preflight_tables

COMPARISON: dict[str, Any] = {
    "arms": [
        {"name": "mle", "checkpoint": "a", "metrics": {"accuracy": 75.5, "area": None}},
        {"name": "rl", "checkpoint": "b", "metrics": {"accuracy": 80.25, "area": 99.1}},
    ],
    "differences": [
        {"metric": "accuracy", "a": "mle", "b": "rl", "delta": 4.75, "ci95": [3.9, 5.6], "p_value": 1e-9},
        {"metric": "reward", "a": "mle", "b": "rl", "delta": -0.01, "ci95": [-0.02, 0.01], "p_value": 0.25},
    ],
    "examples": [
        {
            "id": 3, "source": "[p1]", "reference": "r",
            "outputs": [{"name": "mle", "output": "x", "reward": 0.0}, {"name": "rl", "output": "y", "reward": 1.0}],
        }
    ],
}  # fmt: skip


def text(table: RenderableType) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_comparison_shows_arms_differences_and_examples() -> None:
    examples, arms, differences = map(text, comparison_tables(COMPARISON))
    assert "[p1]" in examples and "[0.000]" in examples and "[1.000]" in examples
    row = next(line for line in arms.splitlines() if "accuracy" in line)
    assert "75.50" in row and "80.25" in row
    assert "–" in next(line for line in arms.splitlines() if "area" in line)
    assert "–: failed by the metric's own rule" in " ".join(arms.split())
    row = next(line for line in differences.splitlines() if "accuracy" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "accuracy",
        "mle",
        "rl",
        "+4.75",
        "+3.9 … +5.6",
        "< 0.001",
    ]
    assert "0.250" in next(line for line in differences.splitlines() if "reward" in line)


def test_no_examples_give_no_table_of_them() -> None:
    assert len(comparison_tables({**COMPARISON, "examples": []})) == 2


def test_evaluation_shows_every_metric() -> None:
    shown = text(
        evaluation_table({"name": "rl", "split": "test", "instances": 10000, "metrics": {"BLEU": 36.62, "area": None}})
    )
    assert "rl on 10,000 test instances" in shown and "36.62" in shown and "–" in shown


def test_small_p_values_are_bounded() -> None:
    assert (format_p_value(0.0004), format_p_value(0.0014), format_p_value(1.0)) == ("< 0.001", "0.001", "1.000")


def test_a_preflight_shows_figures_findings_and_the_verdict() -> None:
    finding = {"key": "truncated", "verdict": "against", "text": "half of the outputs are cut: raise [the] limit"}
    preflight = {
        "name": "run/mle-6", "figures": {"instances": 300}, "verdict": "not advisable", "findings": [finding],
        "measures": {"greedy reward": {"value": 0.76, "judged_by": "at least 0.02"}},
        "temperatures": [{"temperature": 0.6, "sampled": 0.7, "spread": 0.1, "alike": 0.5}],
    }  # fmt: skip
    figures, tried, found, verdict = map(text, preflight_tables(preflight))
    row = next(line for line in figures.splitlines() if "greedy" in line)
    assert "0.7600" in row and "at least 0.02" in row and "run/mle-6 before rl" in figures
    assert "0.6000" in tried and "0.5000" in tried
    assert found.strip() == "against: half of the outputs are cut: raise [the] limit"
    assert verdict.strip() == "rl from this checkpoint: not advisable"
