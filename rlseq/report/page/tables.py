"""A comparison as LaTeX tables and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from rlseq.report.page.figures import (
    decimals,
    interval,
    metric_names,
    number,
    signed,
)
from rlseq.report.page.layout import Result
from rlseq.report.tables import format_p_value

COLUMNS = ("table", "arm", "seed", "metric", "value", "low", "high", "p")
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "−": r"$-$", "–": "--", "\N{NO-BREAK SPACE}": "~", "|": r"\textbar{}", '"': "''", "\n": " ",
    }
)  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- LaTeX
def comparison_latex(result: Result) -> str:
    r"""Three tables for a paper: the arms, what is attributable to the reward, the differences.

    They need ``\usepackage{booktabs}`` and stand anywhere in a document's body.

    Args:
        result: What ``rlseq compare --json`` writes.
    """
    made = [_arms(result)]
    made += [_attributable(result)] if result["attributable"] else []
    made += [_differences(result)] if result["differences"] else []
    return "% \\usepackage{booktabs}\n" + "\n".join(made)


def _arms(result: Result) -> str:
    primary, *others = metric_names(result)
    digits, rows = decimals(result, primary), []
    for arm in result["arms"]:
        first = [number(arm["metrics"].get(primary), digits), interval(arm["ci95"].get(primary), digits)]
        rest = [number(arm["metrics"].get(name), decimals(result, name)) for name in others]
        rows.append([arm["name"], str(len(arm["seeds"])), *first, *rest])
    where = f"{result['instances']:,} {result['split']} instances"
    return _table(f"Arms on {where}, means over seeds.", ["arm", "seeds", primary, "95 % interval", *others], rows)


def _attributable(result: Result) -> str:
    rows = []
    for gain in result["attributable"]:
        digits = decimals(result, gain["metric"])
        figures = [
            signed(gain["delta"], digits),
            interval(gain["ci95"], digits, sign=True),
            format_p_value(gain["p_value"]),
        ]
        rows.append([gain["metric"], gain["arm"], gain["best_control"], *figures])
    headers = ["metric", "arm", "best control", "gain", "95 % interval", "p"]
    return _table("Gain attributable to the reward: arm − best control.", headers, rows, texts=3)


def _differences(result: Result) -> str:
    primary = result["primary"]
    digits, rows = decimals(result, primary), []
    for item in result["differences"]:
        if item["metric"] == primary:
            figures = [signed(item["delta"], digits), interval(item["ci95"], digits, sign=True)]
            tests = [format_p_value(item[name]) for name in ("p_value", "p_randomization")]
            rows.append([item["a"], item["b"], *figures, *tests])
    headers = ["a", "b", "b − a", "95 % interval", "p", "p, randomisation"]
    return _table(f"Differences of {primary}.", headers, rows, texts=2)


def _table(caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    columns = "l" * texts + "r" * (len(headers) - texts)
    body = [" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in rows]
    head = " & ".join(header.translate(_LATEX) for header in headers) + r" \\"
    lines = [
        r"\begin{table}", r"  \centering", f"  \\caption{{{caption.translate(_LATEX)}}}",
        f"  \\begin{{tabular}}{{{columns}}}", r"    \toprule", f"    {head}", r"    \midrule",
        *(f"    {line}" for line in body), r"    \bottomrule", r"  \end{tabular}", r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------------- CSV
def comparison_csv(result: Result) -> str:
    """Every figure of a comparison, one a row: table, arm, seed, metric, value, low, high, p.

    Args:
        result: What ``rlseq compare --json`` writes.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_records(result))
    return text.getvalue()


def _records(result: Result) -> Iterator[dict[str, Any]]:
    primary = result["primary"]
    for arm in result["arms"]:
        yield from _arm_records(arm)
    for gain in result["attributable"]:
        yield _tested("attributable", gain, f"{gain['arm']} - {gain['best_control']}")
    for item in result["differences"]:
        yield from _difference_records(item)
    for part in result.get("buckets") or ():
        for row in part["rows"]:
            table = f"buckets, {part['by']} {row['bucket']}"
            for name, value in row["values"].items():
                yield {"table": table, "arm": name, "metric": primary, "value": value}
    for part in ("beam", "best_of_n"):
        for row in (result.get("curves") or {}).get(part) or ():
            for name, value in row["values"].items():
                figures = {"value": value["mean"], **_ends(value.get("ci95"))}
                yield {"table": f"{part}, {row['size']}", "arm": name, "metric": "reward", **figures}


def _difference_records(item: Result) -> Iterator[dict[str, Any]]:
    pair = f"{item['b']} - {item['a']}"
    yield _tested("differences", item, pair)
    same = {"arm": pair, "metric": item["metric"]}
    yield {
        "table": "differences, percentile bootstrap",
        **same,
        "value": item["delta"],
        **_ends(item["ci95_percentile"]),
    }
    yield {"table": "differences, Holm", **same, "value": item["delta"], "p": item["p_holm"]}
    yield {"table": "differences, randomisation", **same, "value": item["delta"], "p": item["p_randomization"]}
    for name in ("probability_of_improvement", "wins", "ties", "losses"):
        yield {"table": f"differences, {name}", **same, "value": item[name]}


def _arm_records(arm: Result) -> Iterator[dict[str, Any]]:
    name = arm["name"]
    for metric, mean in arm["metrics"].items():
        ends = _ends(arm["ci95"].get(metric))
        yield {"table": "arms", "arm": name, "metric": metric, "value": mean, **ends}
        for seed, value in zip(arm["seeds"], arm["per_seed"][metric], strict=True):
            yield {"table": "seeds", "arm": name, "seed": seed, "metric": metric, "value": value}
    for part in ("iqm", "profile", "cost"):
        for metric, value in arm[part].items():
            yield {"table": part, "arm": name, "metric": metric, "value": value}


def _tested(table: str, item: Result, pair: str) -> dict[str, Any]:
    figures = {"metric": item["metric"], "value": item["delta"], "p": item["p_value"]}
    return {"table": table, "arm": pair, **figures, **_ends(item["ci95"])}


def _ends(ends: Sequence[float] | None) -> dict[str, float]:
    return {} if ends is None else {"low": ends[0], "high": ends[1]}
