"""Tables of results, as text."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from rlseq.report.tables import evaluation_table, format_p_value, preflight_tables


def text(table: RenderableType) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


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
