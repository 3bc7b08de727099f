"""What one instance looks like: hulls, attention, and texts with their differences to the reference."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from rlseq.report.page.layout import folded
from rlseq.report.page.markup import Markup, join, tag
from rlseq.report.page.svg import dot, fixed_drawing, line, polygon, text

NAMED_POINTS, PANEL, CELL = 20, 100.0, 20.0  # points that have room for their names; sizes in units of the drawings


def hull_drawing(
    points: Sequence[Sequence[float]], reference: Sequence[int], output: Sequence[int], title: str
) -> Markup:
    """Points, the reference's polygon dashed, the output's drawn through; its first corner has a ring.

    Args:
        points: (n, 2).
        reference: Indices into ``points``; empty if there is none.
        output: Likewise.
        title: What it shows, in words.
    """
    places = _scaled(points)
    parts: list[Markup] = []
    if reference:
        parts.append(polygon([places[i] for i in reference], "reference"))
    if output:
        parts.append(polygon([places[i] for i in output], "output"))
        parts.append(dot(*places[output[0]], 3.2, "first"))
    parts += [dot(x, y, 1.5, "corner") for x, y in places]
    if len(places) <= NAMED_POINTS:
        parts += [text(x + 2.2, y - 2.2, str(i + 1), "name") for i, (x, y) in enumerate(places)]
    return fixed_drawing(PANEL, PANEL, title, *parts, class_="hull")


def _scaled(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """The points in a panel, y upwards, both axes on one scale."""
    xs, ys = zip(*points, strict=True)
    left, bottom = min(xs), min(ys)
    size = max(max(xs) - left, max(ys) - bottom) or 1.0
    scale = (PANEL - 16) / size
    return [(round(8 + (x - left) * scale, 2), round(PANEL - 8 - (y - bottom) * scale, 2)) for x, y in points]


def attention_drawing(weights: Sequence[Sequence[float]], inputs: Sequence[str], outputs: Sequence[str]) -> Markup:
    """A heat map: a row for each token of the output, a column for each position of the source.

    Args:
        weights: (output_length, source_length), from 0 to 1.
        inputs: A label for each column.
        outputs: A label for each row.
    """
    left, top = (8.0 + 7.4 * max((len(label) for label in labels), default=0) for labels in (outputs, inputs))
    rows = list(zip(outputs, weights, strict=False))
    width = max((min(len(row), len(inputs)) for _, row in rows), default=0)
    parts = [
        text(0, 0, label, "name", transform=f"translate({left + CELL * (column + 0.65):g} {top - 5:g}) rotate(-90)")
        for column, label in enumerate(inputs[:width])
    ]
    for number, (label, row) in enumerate(rows):
        y = top + CELL * number
        parts.append(text(left - 6, y + 14, label, "name", text_anchor="end"))
        parts += [
            _cell(left + CELL * column, y, weight) for column, weight in enumerate(row[:width]) if weight >= 0.005
        ]
    right, bottom = left + CELL * width, top + CELL * len(rows)
    parts += [line(left, top, right, top, "axis"), line(left, top, left, bottom, "axis")]
    said = "; ".join(f"{label} reads {inputs[_largest(row[:width])]}" for label, row in rows if width)
    return fixed_drawing(right + 4, bottom + 4, f"attention, most of it: {said}", *parts, class_="attention")


def _cell(x: float, y: float, weight: float) -> Markup:
    return tag("rect", x=f"{x:g}", y=f"{y:g}", width=CELL - 1, height=CELL - 1, fill_opacity=f"{min(weight, 1.0):.2f}")


def _largest(row: Sequence[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)


def marked_text(output: str, reference: str) -> Markup:
    """The output; words that the reference lacks are inserted ones, words of it that the output lacks deleted ones.

    A text without spaces is compared character by character.
    """
    if not reference:
        return join(output)
    separator = " " if " " in output.strip() or " " in reference.strip() else ""
    ours, theirs = (line.split() if separator else list(line) for line in (output, reference))
    parts: list[Markup] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(join(separator.join(ours[c:d])))
            continue
        changes = (("del", theirs[a:b]), ("ins", ours[c:d]))
        parts += [tag(name, separator.join(words)) for name, words in changes if words]
    return Markup(separator.join(parts))


def example(item: Mapping[str, Any], colors: Mapping[str, str]) -> Markup:
    """One instance: its source, its reference and what the arms made of it.

    Args:
        item: With ``id``, ``source``, ``reference``, ``outputs`` and, for hulls, ``points`` and ``reference_polygon``.
        colors: Name of an arm to the class that gives its colour.
    """
    seed = f", seed {item['seed']}" if "seed" in item else ""
    shown = _hulls(item, colors) if item.get("points") else _texts(item, colors)
    maps = [_attention(output) for output in item["outputs"] if output.get("attention")]
    return tag("article", tag("h4", f"Instance {item['id']}{seed}"), shown, *maps)


def _texts(item: Mapping[str, Any], colors: Mapping[str, str]) -> Markup:
    parts = []
    for name in ("source", "reference"):
        parts += [tag("dt", name), tag("dd", item[name])] if item[name] else []
    for output in item["outputs"]:
        mark = tag("i", class_=colors.get(output["name"]))
        parts.append(tag("dt", mark, output["name"], _reward(output)))
        parts.append(tag("dd", marked_text(output["output"], item["reference"])))
    return tag("dl", *parts)


def _hulls(item: Mapping[str, Any], colors: Mapping[str, str]) -> Markup:
    points, reference = item["points"], item.get("reference_polygon") or []
    shown: list[tuple[str, Mapping[str, Any] | None, Sequence[int], str]] = []
    shown += [("reference", None, [], item["reference"])] if reference else []
    shown += [(each["name"], each, each.get("polygon") or [], each["output"]) for each in item["outputs"]]
    panels = []
    for name, output, corners, said in shown:
        drawn = hull_drawing(points, reference, corners, f"instance {item['id']}, {name}: {said}")
        caption = tag("figcaption", tag("b", name), None if output is None else _reward(output))
        panels.append(tag("figure", drawn, caption, class_=colors.get(name)))
    return tag("div", *panels, class_="panels")


def _attention(output: Mapping[str, Any]) -> Markup:
    drawn = attention_drawing(output["attention"], output.get("input_labels", ()), output.get("output_labels", ()))
    return folded(f"attention of {output['name']}", tag("div", drawn, class_="wide"))


def _reward(output: Mapping[str, Any]) -> Markup:
    return tag("small", f" reward {output['reward']:.3f}")
