"""Tables for the terminal, from results in the form of their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from rlseq.report.lines import format_value
from rlseq.report.samples import COLUMNS, SampleRow

SIGNIFICANT = 0.05  # a p-value below it
FAILED = "–: failed by the metric's own rule"


def samples_table(rows: Sequence[SampleRow]) -> Table:
    """Source, reference, greedy, sample, reward (the sample's, then the greedy one's in brackets) and advantage."""
    table = Table(box=box.SIMPLE_HEAD, show_lines=True, expand=True)
    for name in COLUMNS:
        if name in ("reward", "advantage"):
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row.cells()))
    return table


def evaluation_table(evaluation: Mapping[str, Any]) -> Table:
    """The metrics of one evaluation."""
    title = f"{evaluation['name']} on {evaluation['instances']:,} {evaluation['split']} instances"
    table = Table(title=Text(title), min_width=len(title))
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in evaluation["metrics"].items():
        table.add_row(Text(name), number_cell(value))
    table.caption = FAILED if None in evaluation["metrics"].values() else None
    return table


def exposure_table(exposure: Mapping[str, Any]) -> Table:
    """Exposure bias over all positions, and at the positions 1, 2, 4, 8, …."""
    table = Table(title="Tokens that are the reference's, per cent")
    for name in ("position", "references", "after the reference's tokens", "after its own", "difference"):
        table.add_column(name, justify="right")
    shown = [row for row in exposure["positions"] if row["position"].bit_count() == 1]
    for row in [*shown, {**exposure, "position": "all", "references": shown[0]["references"]}]:
        forced, free = row["teacher_forced"], row["free_running"]
        cells = [str(row["position"]), f"{row['references']:,}", f"{forced:.2f}", f"{free:.2f}", f"{forced - free:.2f}"]
        table.add_row(*cells)
    return table


def likelihood_table(likelihood: Mapping[str, Any]) -> Table:
    """How likely references are."""
    table = Table(title=f"{likelihood['instances']:,} references of {likelihood['tokens']:,} tokens")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name in ("nats_per_sequence", "nats_per_token", "perplexity", "bits_per_dimension"):
        table.add_row(name.replace("_", " "), number_cell(likelihood[name]))
    return table


def preflight_tables(preflight: Mapping[str, Any]) -> list[Table | Text]:
    """A preflight's figures beside what they are judged by, the temperatures tried, the findings and the verdict."""
    title = f"{preflight['name']} before rl, {preflight['figures']['instances']:,} validation instances"
    figures = Table(title=Text(title), min_width=len(title))
    figures.add_column("measure")
    figures.add_column("value", justify="right")
    figures.add_column("judged by")
    for name, measure in preflight["measures"].items():
        figures.add_row(name, number_cell(measure["value"]), measure["judged_by"])
    tried = Table(title="Temperatures")
    for name in ("temperature", "sampled reward", "spread", "alike"):
        tried.add_column(name, justify="right")
    for row in preflight["temperatures"]:
        tried.add_row(*(format_value(row[name]) for name in ("temperature", "sampled", "spread", "alike")))
    styles = {"against": "bold red", "warning": "yellow", "advice": "cyan"}
    findings = [
        Text(f"{finding['verdict']}: {finding['text']}", style=styles[finding["verdict"]])
        for finding in preflight["findings"]
    ]
    verdict = f"rl from this checkpoint: {preflight['verdict']}"
    return [figures, tried, *findings, Text(verdict, style="bold")]


def format_p_value(p_value: float | None) -> str:
    """Three digits, or a bound if they would all be 0; a dash if there is none."""
    if p_value is None:
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def p_phrase(p_value: float) -> str:
    """``p < 0.001`` or ``p = 0.012``."""
    written = format_p_value(p_value)
    return f"p {written}" if written.startswith("<") else f"p = {written}"


def gain_kind(result: Mapping[str, Any], gain: Mapping[str, Any]) -> Literal["none", "good", "bad"]:
    """Whether a gain over the best control can be told from chance, and if so whether it is one or a loss."""
    if gain["p_value"] >= SIGNIFICANT:
        return "none"
    return "good" if (gain["delta"] > 0) != (gain["metric"] in result["less_is_better"]) else "bad"


def number_cell(value: float | None) -> str:
    """A value; null is a metric that its own rule calls failed, or what is not known."""
    return "–" if value is None else format_value(value)
