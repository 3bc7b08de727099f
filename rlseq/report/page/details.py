"""The sections that explain the verdict; each is None if the result lacks its part."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rlseq.report.page.charts import Curve, Point, Strip, curve_chart, key, strip_chart
from rlseq.report.page.drawings import example, how_to_read
from rlseq.report.page.figures import MISSING, arm_colors, decimals, interval, number
from rlseq.report.page.layout import Result, Section, folded, section, table
from rlseq.report.page.markup import Markup, tag

PROFILE = {  # what it is, and its decimals
    "length_ratio": ("length of the outputs ÷ length of the references", 3),
    "truncated": ("fraction of outputs cut at the length limit", 4),
    "distinct_1": ("fraction of words that are distinct", 4),
    "distinct_2": ("fraction of pairs of words that are distinct", 4),
    "repetition": ("fraction of an output that repeats what it said before", 4),
    "entropy": ("entropy along the greedy path, nats a token", 3),
    "top1_mass": ("probability of the likeliest token along the greedy path", 3),
    "reference_rank": ("mean rank of the reference's token; 1 is the likeliest", 2),
}
COST = {
    "updates": ("updates", 0),
    "samples": ("sampled sequences", 0),
    "cpu_seconds": ("CPU seconds", 0),
    "reward_calls": ("rewards computed", 0),
    "peak_memory_mib": ("peak memory, MiB", 0),
}
SIZES = (
    ("beam", "reward by beam size", "beam size"),
    ("best_of_n", "reward of the best of n samples", "samples, n"),
)


# --------------------------------------------------------------------------------------- what changed, where, the cost
def profile(result: Result) -> Section | None:
    """What the outputs and the distributions of the arms look like."""
    rows = _by_arm(result, "profile", PROFILE)
    if not rows:
        return None
    note = f"Words are {result['profile_unit']}."
    return section("What changed", tag("p", note, class_="note"), table(_headers(result), rows))


def cost(result: Result) -> Section | None:
    """What each arm took, a mean over its seeds, and what it came to for that."""
    rows = _by_arm(result, "cost", COST)
    return section("Cost", _seconds(result), table(_headers(result), rows)) if rows else None


def _by_arm(result: Result, part: str, names: Mapping[str, tuple[str, int]]) -> list[list[str]]:
    """A row for each known figure that an arm has."""
    figures = [arm[part] for arm in result["arms"]]
    rows = [[title, *(number(each.get(name), digits) for each in figures)] for name, (title, digits) in names.items()]
    return [row for row in rows if any(cell != MISSING for cell in row[1:])]


def _headers(result: Result) -> list[str]:
    return ["", *(arm["name"] for arm in result["arms"])]


def _seconds(result: Result) -> Markup | None:
    """The primary metric against the seconds it took, one point an arm."""
    primary, colors = result["primary"], arm_colors(result["arms"])
    curves = [
        Curve(arm["name"], colors[arm["name"]], [(arm["seconds"], arm["metrics"][primary])])
        for arm in result["arms"]
        if arm["seconds"] is not None and arm["metrics"].get(primary) is not None
    ]
    if len(curves) < 2:
        return None
    chart = curve_chart(curves, f"{primary} against CPU seconds", "CPU seconds of training")
    return tag("figure", tag("h3", f"{primary} against CPU seconds"), chart)


def buckets(result: Result) -> Section | None:
    """The primary metric in parts of the instances."""
    primary, colors = result["primary"], arm_colors(result["arms"])
    digits, figures = decimals(result, primary), []
    for part in result.get("buckets") or ():
        strips, rows = [], []
        for row in part["rows"]:
            count = f"{row['instances']:,}"
            points = [
                Point(value, f"{name}: {number(value, digits)}", colors.get(name))
                for name, value in row["values"].items()
                if value is not None
            ]
            strips.append(Strip(f"{part['by']} {row['bucket']}", f"{count} instances", "plain", points))
            rows.append([str(row["bucket"]), count, *(number(row["values"].get(name), digits) for name in colors)])
        chart = strip_chart(strips, f"{primary} by {part['by']}")
        heading = tag("h3", f"{primary} by {part['by']}")
        cells = table([part["by"], "instances", *colors], rows)
        figures.append(tag("figure", heading, chart, folded("figures", cells)))
    return section("Where", key(list(colors.items())), *figures) if figures else None


# -------------------------------------------------------------------------------------------------------------- curves
def training(result: Result) -> Section | None:
    """The validation curves of every arm, a line a seed."""
    colors = arm_colors(result["arms"])
    curves = [
        Curve(name, colors.get(name, "plain"), [(point["update"], point["value"]) for point in seed])
        for name, seeds in (result.get("training_curves") or {}).items()
        for seed in seeds
        if seed
    ]
    if not curves:
        return None
    primary = result["primary"]
    note = tag("p", f"{primary} on the validation set, greedy decoding; a line is a seed.", class_="note")
    chart = curve_chart(curves, f"validation {primary} over training", "update")
    return section("Training", note, tag("figure", chart, class_="many"))


def decoding(result: Result) -> Section | None:
    """What beams, and the best of several samples, bring to each arm."""
    curves = result.get("curves") or {}
    figures = [_sizes(result, title, across, curves[name]) for name, title, across in SIZES if curves.get(name)]
    if not figures:
        return None
    where = f" on {curves['instances']:,} instances" if "instances" in curves else ""
    note = f"Mean reward{where}, with its 95 % interval over seeds and instances."
    return section("Beams and samples", tag("p", note, class_="note"), tag("div", *figures, class_="grid"))


def _sizes(result: Result, title: str, across: str, rows: Sequence[Result]) -> Markup:
    curves, cells = [], [[str(row["size"])] for row in rows]
    for name, color in arm_colors(result["arms"]).items():
        found = [(row["size"], row["values"].get(name)) for row in rows]
        known = [(size, value) for size, value in found if value is not None]
        bands = [(size, *value["ci95"]) for size, value in known]
        curves += [Curve(name, color, [(size, value["mean"]) for size, value in known], bands)] if known else []
        for line, (_, value) in zip(cells, found, strict=True):
            line.append(MISSING if value is None else f"{number(value['mean'])} {interval(value['ci95'], 3)}")
    chart = curve_chart(curves, title, across, doubling=True)
    return tag("figure", tag("h3", title), chart, folded("figures", table([across, *_headers(result)[1:]], cells)))


# ----------------------------------------------------------------------------------------------------------- instances
def examples(result: Result) -> Section | None:
    """The instances that changed most."""
    return _instances(result, "examples", "Changed most")


def regressions(result: Result) -> Section | None:
    """The instances on which rl lost most."""
    return _instances(result, "regressions", "Worst regressions")


def _instances(result: Result, part: str, title: str) -> Section | None:
    items = result.get(part)
    if not items:
        return None
    note, colors = how_to_read(items), arm_colors(result["arms"])
    said = None if note is None else tag("p", note, class_="note")
    return section(title, said, *(example(item, colors) for item in items))


# ------------------------------------------------------------------------------------------------------------ settings
def selection(result: Result) -> Section:
    """How each checkpoint was chosen, and where it is."""
    listed = []
    for arm in result["arms"]:
        for seed, place, said in itertools.zip_longest(arm["seeds"], arm["checkpoints"], arm["selection"]):
            path = None if place is None else tag("code", place)
            listed += [tag("dt", f"{arm['name']}, seed {seed}"), tag("dd", said, " " if said else None, path)]
    return section("Checkpoints", tag("dl", *listed))


def settings(result: Result) -> Section:
    """All it takes to make the figures again."""
    names = ("split", "instances", "decoding", "resamples", "seed", "method")
    entries = {name: _plain(result[name]) for name in names}
    signatures: dict[str, str] = {}
    for arm in result["arms"]:
        for name, value in arm["signatures"].items():
            found = signatures.setdefault(f"signature of {name}", str(value))
            if found != str(value):
                signatures[f"signature of {name}, {arm['name']}"] = str(value)
    listed = (
        part
        for name, value in (entries | signatures).items()
        for part in (tag("dt", name), tag("dd", tag("code", value)))
    )
    return section("Settings and signatures", tag("dl", *listed))


def _plain(value: Any) -> str:
    """A setting as one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items() if each is not None)
    return str(value)
