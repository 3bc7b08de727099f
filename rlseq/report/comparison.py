"""A comparison on the terminal: the verdict, then tables of at most 120 columns."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rlseq.report.tables import FAILED, SIGNIFICANT, format_p_value, gain_kind, number_cell, p_phrase

Result = Mapping[str, Any]
_SIDE_BY_SIDE = 3  # arms whose outputs and differences are all shown; of more, those of the reward and beside it


def comparison_tables(result: Result) -> list[RenderableType]:
    """The instances that changed most, every metric of each arm, every difference, and the verdict, in this order."""
    return [*examples_tables(result, "examples", "Changed most"), *_figures(result), verdict(result)]


def comparison_report(result: Result) -> list[RenderableType]:
    """All there is to see of a comparison, the verdict first and last."""
    return [
        verdict(result),
        *examples_tables(result, "examples", "Changed most"),
        *examples_tables(result, "regressions", "Lost most against mle"),
        *_figures(result),
        profile_table(result),
        *(bucket_table(result, buckets) for buckets in result["buckets"]),
        *curve_tables(result),
        cost_table(result),
        facts(result),
        verdict(result),
    ]


def _figures(result: Result) -> list[Table]:
    return [arms_table(result), metrics_table(result), differences_table(result)]


# ------------------------------------------------------------------------------------------------------------- verdict
def verdict(result: Result) -> Text:
    """What the reward brought beyond its controls, a line for each arm that was trained on it."""
    gains = [gain for gain in result["attributable"] if gain["metric"] == result["primary"]]
    if gains:
        return Text("\n".join(gain_line(result, gain) for gain in gains), style="bold")
    rewarded = [arm["name"] for arm in result["arms"] if arm["role"] == "reward"]
    if not rewarded:
        return Text("no arm was trained on a reward, so there is no gain to attribute to one")
    who = " and ".join(rewarded)
    return Text(
        f"no control was given, so it is not known what {who} owes to the reward: "
        "train controls with `rlseq study CONFIG`, or one with `rlseq train --from MLE --control constant_reward`"
    )


def gain_line(result: Result, gain: Mapping[str, Any]) -> str:
    """The gain of an arm over its best control, and what it means in words."""
    low, high = gain["ci95"]
    digits = 2 if max(abs(low), abs(high)) >= 1 else 4
    meaning = {
        "none": "the reward brought nothing beyond its controls that could be told from chance",
        "good": "the reward brought this",
        "bad": "the reward brought nothing beyond its controls: it did worse",
    }[gain_kind(result, gain)]
    size = f"{gain['delta']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    return (
        f"gain attributable to the reward: {gain['arm']} - best control ({gain['best_control']}): "
        f"{gain['metric']} {size}, {p_phrase(gain['p_value'])}; {meaning}"
    )


# ---------------------------------------------------------------------------------------------------- arms and metrics
def arms_table(result: Result) -> Table:
    """The primary metric of each arm: mean and interval, deviation and value of each seed."""
    primary = result["primary"]
    table = Table(title=Text(f"Arms: {primary}"), box=box.SIMPLE_HEAD)
    for name in ("arm", "role"):
        table.add_column(name)
    for name in ("mean", "95 % interval", "sd", "of each seed", "CPU seconds"):
        table.add_column(name, justify="right")
    for arm in result["arms"]:
        points, interval = arm["per_seed"].get(primary, []), arm["ci95"].get(primary)
        known = [point for point in points if point is not None]
        cells = [arm["name"], arm["role"], number_cell(arm["metrics"].get(primary)), _interval(interval)]
        cells.append(number_cell(statistics.stdev(known)) if len(known) > 1 else "–")
        cells += [" ".join(map(number_cell, points)), number_cell(arm["seconds"])]
        table.add_row(*map(Text, cells))
    return table


def metrics_table(result: Result) -> Table:
    """Every metric of every arm, mean over seeds; those that were trained on and those held out are marked."""
    table = _by_arm(result, "Metrics", "metric")
    held_out = set(result["held_out"])
    for name in dict.fromkeys(name for arm in result["arms"] for name in arm["metrics"]):
        marked = f"{name} *" if name in held_out else name
        table.add_row(Text(marked), *(number_cell(arm["metrics"].get(name)) for arm in result["arms"]))
    failed = any(None in arm["metrics"].values() for arm in result["arms"])
    notes = ["*: held out, no arm was rewarded for it" if held_out else "", FAILED if failed else ""]
    table.caption = "; ".join(filter(None, notes)) or None
    return table


def profile_table(result: Result) -> Table:
    """What changed beside the metrics, of each arm."""
    table = _by_arm(result, f"What changed; outputs counted in {result['profile_unit']}", "")
    for name in result["arms"][0]["profile"]:
        table.add_row(name, *(number_cell(arm["profile"].get(name)) for arm in result["arms"]))
    return table


def cost_table(result: Result) -> Table:
    """What the training of each arm used up, mean over seeds."""
    table = _by_arm(result, "Cost of training, mean over seeds", "")
    for name in dict.fromkeys(name for arm in result["arms"] for name in arm["cost"]):
        table.add_row(name, *(number_cell(arm["cost"].get(name)) for arm in result["arms"]))
    return table


def bucket_table(result: Result, buckets: Mapping[str, Any]) -> Table:
    """The primary metric of each arm in groups of instances."""
    table = _by_arm(result, f"{result['primary']} by {buckets['by']}", buckets["by"], "instances")
    for row in buckets["rows"]:
        values = (number_cell(row["values"].get(arm["name"])) for arm in result["arms"])
        table.add_row(row["bucket"], f"{row['instances']:,}", *values)
    return table


def curve_tables(result: Result) -> list[Table]:
    """Mean rewards of beams and of the best of n samples, by size."""
    if "curves" not in result:
        return []
    curves, tables = result["curves"], []
    titles = {"beam": "Reward of a beam's best, by size", "best_of_n": "Expected reward of the best of n samples, by n"}
    for kind, title in titles.items():
        table = _by_arm(result, f"{title}; {curves['instances']:,} instances", "size")
        for row in curves[kind]:
            values = [row["values"].get(arm["name"]) for arm in result["arms"]]
            table.add_row(str(row["size"]), *(number_cell(value and value["mean"]) for value in values))
        tables.append(table)
    return tables


def _by_arm(result: Result, title: str, *columns: str) -> Table:
    """A table with a column for each arm."""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(Text(name), justify="left" if name == columns[0] else "right")
    for arm in result["arms"]:
        name = arm["name"].replace("_", "_\n") if len(result["arms"]) > _SIDE_BY_SIDE else arm["name"]
        table.add_column(Text(name), justify="right", overflow="fold")
    return table


# --------------------------------------------------------------------------------------------------------- differences
def differences_table(result: Result) -> Table:
    """Differences with their tests; the significant ones are bold."""
    rows = shown_differences(result)
    hidden = len(result["differences"]) - len(rows)
    caption = f"bold: p < {SIGNIFICANT}" + (f"; {hidden} more differences are in the JSON" if hidden else "")
    table = Table(title="Differences (b - a)", caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("metric", "b - a"):
        table.add_column(name, overflow="fold")
    for name in ("difference", "95 % interval", "p", "p Holm", "p rand.", "P(b > a)", "won/tied/lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for item in rows:
        digits = 2 if max(map(abs, item["ci95"])) >= 1 else 4
        low, high = (f"{value:+.{digits}f}" for value in item["ci95"])
        cells = [item["metric"], f"{item['b']} - {item['a']}", f"{item['delta']:+.{digits}f}", f"{low} … {high}"]
        cells += [format_p_value(item[name]) for name in ("p_value", "p_holm", "p_randomization")]
        cells += [f"{item['probability_of_improvement']:.2f}", f"{item['wins']}/{item['ties']}/{item['losses']}"]
        table.add_row(*map(Text, cells), style="bold" if item["p_value"] < SIGNIFICANT else "")
    return table


def shown_differences(result: Result) -> list[Mapping[str, Any]]:
    """All differences of up to three arms; of more, those of the reward: all by the primary metric, else the best's."""
    roles = {arm["name"]: arm["role"] for arm in result["arms"]}
    if len(roles) <= _SIDE_BY_SIDE or "reward" not in roles.values():
        return list(result["differences"])
    best = {gain["best_control"] for gain in result["attributable"] if gain["metric"] == result["primary"]}
    beside = best | {name for name, role in roles.items() if role == "mle"}
    return [
        item
        for item in result["differences"]
        if roles[item["b"]] == "reward" and (item["metric"] == result["primary"] or item["a"] in beside)
    ]


# ------------------------------------------------------------------------------------------------------------ examples
def examples_tables(result: Result, key: str, title: str) -> list[Table]:
    """Instances with the outputs of the arms side by side, each with its reward; no table if there are none."""
    if not result[key]:
        return []
    table = Table(title=title, box=box.SIMPLE_HEAD, show_lines=True, expand=True)
    arms = result["arms"]
    few = arms if len(arms) <= _SIDE_BY_SIDE else [arm for arm in arms if arm["role"] in ("mle", "reward")] or arms
    names = [arm["name"] for arm in few[:_SIDE_BY_SIDE]]
    for name in ("source", "reference", *names):
        table.add_column(Text(name), ratio=1, overflow="fold")
    for example in result[key]:
        outputs = {output["name"]: output for output in example["outputs"]}
        cells = [f"{outputs[name]['output']}\n[{outputs[name]['reward']:.3f}]" for name in names]
        table.add_row(*map(Text, [example["source"], example["reference"], *cells]))
    return [table]


# --------------------------------------------------------------------------------------------------------------- facts
def facts(result: Result) -> Text:
    """How it was done: instances, decoding, method, training rewards, selection of checkpoints, signatures."""
    decoding = ", ".join(f"{key} {value}" for key, value in result["decoding"].items())
    lines = [f"{result['instances']:,} {result['split']} instances; {decoding}", result["method"]]
    lines += [f"{arm} was trained on: {', '.join(rewards)}" for arm, rewards in result["trained_on"].items()]
    for arm in result["arms"]:
        first, *others = arm["selection"]
        lines.append(f"{arm['name']}: {first}{f', and {len(others)} more seeds likewise' if others else ''}")
    signatures: dict[str, str] = {}
    for arm in result["arms"]:
        signatures |= arm["signatures"]
    return Text("\n".join([*lines, *(f"{name}: {signature}" for name, signature in signatures.items())]))


def _interval(interval: Sequence[float] | None) -> str:
    return f"{number_cell(interval[0])} … {number_cell(interval[1])}" if interval else "–"
