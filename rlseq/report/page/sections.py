"""The page's main sections: the verdict, the arms, the differences."""

from __future__ import annotations

from collections.abc import Sequence

from rlseq.report.page.charts import Point, Strip, strip_chart
from rlseq.report.page.figures import (
    MISSING,
    arm_colors,
    decimals,
    interval,
    metric_names,
    number,
    signed,
)
from rlseq.report.page.layout import Result, Section, folded, section, table
from rlseq.report.page.markup import Markup, join, tag
from rlseq.report.tables import SIGNIFICANT, format_p_value, gain_kind, p_phrase


# ------------------------------------------------------------------------------------------------------------- verdict
def verdicts(result: Result) -> Markup:
    """What the reward brought to each arm beyond its best control; or why that is not known."""
    by_arm: dict[str, list[Result]] = {}
    for gain in result["attributable"]:
        by_arm.setdefault(gain["arm"], []).append(gain)
    primary = result["primary"]
    made = [
        _verdict(result, gain, [other for other in gains if other is not gain])
        for gains in by_arm.values()
        for gain in gains
        if gain["metric"] == primary
    ]
    return tag("section", *(made or [_no_verdict(result)]), id="verdict")


def _verdict(result: Result, gain: Result, others: Sequence[Result]) -> Markup:
    metric, arm, control = gain["metric"], gain["arm"], gain["best_control"]
    digits = decimals(result, metric)
    kind = gain_kind(result, gain)
    claim = {
        "none": f"The reward brought nothing beyond its controls that can be told from chance; the best is {control}.",
        "good": f"The reward brought this much {metric} beyond the best of its controls, {control}.",
        "bad": f"The reward brought nothing: {arm} is worse than the best of its controls, {control}.",
    }[kind]
    figures = f"{interval(gain['ci95'], digits, sign=True)}, {_unbroken(gain['p_value'])}"
    return tag(
        "div",
        tag("h2", f"Gain attributable to the reward: {arm} − best control ({control})"),
        tag("p", signed(gain["delta"], digits), tag("small", f" {metric}"), class_="big"),
        tag("p", f"95 % interval {figures}"),
        tag("p", claim),
        _other_gains(result, others),
        class_=f"verdict {kind}",
    )


def _other_gains(result: Result, gains: Sequence[Result]) -> Markup | None:
    if not gains:
        return None
    rows = []
    for gain in gains:
        digits = decimals(result, gain["metric"])
        figures = [
            signed(gain["delta"], digits),
            interval(gain["ci95"], digits, sign=True),
            format_p_value(gain["p_value"]),
        ]
        rows.append([gain["metric"], gain["best_control"], *figures])
    headers = ["metric", "best control", "gain", "95 % interval", "p"]
    return folded("gain in the other metrics", table(headers, rows, texts=2))


def _no_verdict(result: Result) -> Markup:
    why = (
        "No control was given: a difference between these arms may come of longer training, of a sharper distribution "
        "or of chance, and not of the reward."
    )
    heading = tag("h2", "Gain attributable to the reward")
    return tag("div", heading, tag("p", "not known", class_="big"), tag("p", why), class_="verdict none")


# ---------------------------------------------------------------------------------------------------------------- arms
def arms(result: Result) -> Section:
    """Every arm with a point a seed, its mean and its interval, metric by metric."""
    names = metric_names(result)
    charts = [tag("figure", tag("h3", name, *_badges(result, name)), _arms_chart(result, name)) for name in names]
    note = "A point is a seed, the upright line their mean, the bar its 95 % interval."
    trained = [f"{name} on {', '.join(rewards) or 'no reward'}" for name, rewards in result["trained_on"].items()]
    return section(
        "Arms",
        tag("p", note, f" Trained: {'; '.join(trained)}." if trained else None, class_="note"),
        charts[0],
        tag("div", *charts[1:], class_="grid") if charts[1:] else None,
        _arms_table(result, names),
    )


def _arms_chart(result: Result, metric: str) -> Markup:
    colors, digits, strips = arm_colors(result["arms"]), decimals(result, metric), []
    for arm in result["arms"]:
        mean = arm["metrics"].get(metric)
        ends = arm["ci95"].get(metric)
        points = [
            Point(value, f"{arm['name']}, seed {seed}: {number(value, digits)}")
            for seed, value in zip(arm["seeds"], arm["per_seed"].get(metric, ()), strict=False)
            if value is not None
        ]
        note = number(mean, digits) + (f" {interval(ends, digits)}" if ends else "")
        strips.append(Strip(arm["name"], note, colors[arm["name"]], points, mean, ends))
    return strip_chart(strips, f"{metric} of each arm")


def _badges(result: Result, metric: str) -> list[Markup]:
    """Whether the metric was none of the rewards."""
    return [tag("span", "held out: not rewarded", class_="badge")] if metric in result["held_out"] else []


def _arms_table(result: Result, names: Sequence[str]) -> Markup:
    headers = ["", *(arm["name"] for arm in result["arms"])]
    rows = []
    for name in names:
        digits = decimals(result, name)
        rows.append([name, *(number(arm["metrics"].get(name), digits) for arm in result["arms"])])
    primary = names[0]
    middle = [number(arm["iqm"].get(primary), decimals(result, primary)) for arm in result["arms"]]
    if any(cell != MISSING for cell in middle):
        rows.insert(1, [f"{primary}, interquartile mean", *middle])
    return table(headers, rows)


# --------------------------------------------------------------------------------------------------------- differences
def differences(result: Result) -> Section:
    """Every pair of arms: those with rl drawn, for the primary metric; the other metrics behind their names."""
    primary = result["primary"]
    rewarded = {arm["name"] for arm in result["arms"] if arm["role"] == "reward"}
    by_metric: dict[str, list[Result]] = {primary: []}
    for item in result["differences"]:
        by_metric.setdefault(item["metric"], []).append(item)
    for items in by_metric.values():
        items.sort(key=lambda item: item["b"] not in rewarded)
    first = by_metric.pop(primary)
    drawn = [item for item in first if item["b"] in rewarded] or first
    return section(
        "Differences",
        tag("p", result["method"], class_="note"),
        tag("figure", tag("h3", primary), _differences_chart(result, primary, drawn)) if drawn else None,
        _differences_table(result, primary, first),
        *(
            folded(join(name, *_badges(result, name)), _differences_table(result, name, items))
            for name, items in by_metric.items()
        ),
    )


def _differences_chart(result: Result, metric: str, items: Sequence[Result]) -> Markup:
    colors, digits = arm_colors(result["arms"]), decimals(result, metric)
    strips = []
    for item in items:
        figures = f"{signed(item['delta'], digits)} {interval(item['ci95'], digits, sign=True)}"
        points = [Point(value, signed(value, digits)) for value in item["per_seed"] or ()]
        note = f"{figures}, {_unbroken(item['p_value'])}"
        strips.append(Strip(_pair(item), note, colors.get(item["a"], "plain"), points, item["delta"], item["ci95"]))
    return strip_chart(strips, f"differences of {metric}", zero=True)


def _pair(item: Result) -> str:
    return f"{item['b']} − {item['a']}"


def _unbroken(p_value: float) -> str:
    return p_phrase(p_value).replace(" ", "\N{NO-BREAK SPACE}")


def _intervals(item: Result, digits: int) -> Markup:
    """The interval and, below it, that of the percentile bootstrap."""
    percentile = item["ci95_percentile"]
    below = None if percentile is None else tag("small", f"bootstrap {interval(percentile, digits, sign=True)}")
    return join(interval(item["ci95"], digits, sign=True), below)


def _wins(item: Result) -> str:
    """On how many instances each arm is ahead."""
    counts = [item[name] for name in ("wins", "ties", "losses")]
    return MISSING if None in counts else " / ".join(number(count, 0) for count in counts)


def _differences_table(result: Result, metric: str, items: Sequence[Result]) -> Markup:
    digits = decimals(result, metric)
    headers = ["", "difference", "95 % interval", "p", "p, Holm", "p, randomisation"]
    headers += ["P(improve\N{SOFT HYPHEN}ment)", "wins / ties / losses"]
    rows = [
        [
            _pair(item),
            signed(item["delta"], digits),
            _intervals(item, digits),
            *(format_p_value(item[name]) for name in ("p_value", "p_holm", "p_randomization")),
            number(item["probability_of_improvement"], 2),
            _wins(item),
        ]
        for item in items
    ]
    return table(headers, rows, [item["p_value"] < SIGNIFICANT for item in items])
