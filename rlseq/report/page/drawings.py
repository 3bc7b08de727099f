"""What one instance looks like: what its task draws, attention, and texts with their differences to the reference."""

from __future__ import annotations

import base64
import difflib
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.image import imsave

from rlseq.report.named_points import named_points
from rlseq.report.page.layout import folded
from rlseq.report.page.markup import Markup, join, tag
from rlseq.report.page.svg import Axis, dot, drawing, fixed_drawing, line, percent, polygon, polyline, stretched, text
from rlseq.report.veils import veils
from rlseq_envs.drawing import Drawing, Picture, Polygon, Strip, drawing_from_json

PANEL, CELL = 100.0, 20.0  # sizes in units of the drawings
ACROSS, GAP = 6, 6.0  # pictures side by side, and between them
STRIP, LINE = 72.0, 800  # the height of a strip in pixels; most corners of a line


def drawn(what: Drawing, title: str) -> Markup:
    """What a task draws, in the way of its type.

    Args:
        what: The drawing of an output, of a reference alone, or of a source.
        title: What it shows, in words.
    """
    return _LOOKS[type(what)].draw(what, title)


def _polygon(hull: Polygon, title: str) -> Markup:
    """Points, the reference's polygon dashed, the output's drawn through; its first corner has a ring."""
    places = _scaled(hull.points.tolist())
    parts: list[Markup] = []
    if hull.reference:
        parts.append(polygon([places[i] for i in hull.reference], "reference"))
    if hull.polygon:
        parts.append(polygon([places[i] for i in hull.polygon], "output"))
        parts.append(dot(*places[hull.polygon[0]], 3.2, "first"))
    parts += [dot(x, y, 1.5, "corner") for x, y in places]
    for i in named_points(hull):
        x, y = places[i]
        anchor, gap = ("end", -2.2) if x > PANEL - 14 else ("start", 2.2)  # a name beyond the right edge would be cut
        parts.append(text(x + gap, y - 2.2, str(i + 1), "name", text_anchor=anchor))
    return fixed_drawing(PANEL, PANEL, title, *parts, class_="hull")


def _scaled(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """The points in a panel, y upwards, both axes on one scale."""
    xs, ys = zip(*points, strict=True)
    left, bottom = min(xs), min(ys)
    size = max(max(xs) - left, max(ys) - bottom) or 1.0
    scale = (PANEL - 16) / size
    return [(round(8 + (x - left) * scale, 2), round(PANEL - 8 - (y - bottom) * scale, 2)) for x, y in points]


def _picture(picture: Picture, title: str) -> Markup:
    """The pixels; the reference has a panel of its own."""
    height, width = picture.pixels.shape[:2]
    shown = tag("image", href=_png(picture.pixels, cmap="gray", vmin=0, vmax=255), width=width, height=height)
    return fixed_drawing(width, height, title, shown, class_="picture")


def _strip(strip: Strip, title: str) -> Markup:
    """A row as a line over the dashed reference; channels as a map of colours, the first one at the bottom."""
    low, high = strip.limits
    rows = [("reference", strip.reference), ("curve", strip.values)]
    known = [(name, row) for name, row in rows if row is not None]
    longest = max(row.shape[-1] for _, row in known)
    shown: list[Markup] = []
    if strip.values.ndim == 1:
        x_axis, y_axis = Axis(0.0, max(1.0, longest - 1.0), 0.0, 100.0, ()), Axis(low, high, STRIP - 3.0, 3.0, ())
        shown.append(stretched(STRIP, *(_line(row, x_axis, y_axis, name) for name, row in known)))
    elif strip.values.size:
        png = _png(strip.values, cmap="viridis", vmin=low, vmax=high, origin="lower")
        width = percent(100 * strip.values.shape[1] / longest)
        shown.append(tag("image", href=png, width=width, height=STRIP, preserveAspectRatio="none"))
    return tag("div", drawing(STRIP, title, *shown), class_="strip")


def _line(values: npt.NDArray[np.float32], x_axis: Axis, y_axis: Axis, class_: str) -> Markup:
    """The finite values; of each stretch of a long row the smallest and the largest."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) > LINE:
        stretches = [part[[values[part].argmin(), values[part].argmax()]] for part in np.array_split(known, LINE // 2)]
        known = np.unique(stretches)
    return polyline([(x_axis.place(float(i)), y_axis.place(float(values[i]))) for i in known], class_)


def _png(values: npt.NDArray[Any], **colors: Any) -> str:
    """An array as a PNG in a data URI, a number a pixel; ``colors`` as matplotlib takes them."""
    file = io.BytesIO()
    imsave(file, values, format="png", **colors)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


class _Look(NamedTuple):
    """How a page shows drawings of a type.

    Attributes:
        draw: The drawing and its title to what is shown.
        note: What a reader has to know; None if nothing.
    """

    draw: Callable[[Any, str], Markup]
    note: str | None


_LOOKS: dict[type, _Look] = {
    Polygon: _Look(
        _polygon, "The reference is dashed, the output drawn through; a ring marks the corner it starts from."
    ),
    Picture: _Look(_picture, None),
    Strip: _Look(_strip, "Under a line, the reference is dashed."),
}


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


def attention_on_picture(
    picture: Picture, weights: Sequence[Sequence[float]], outputs: Sequence[str], grid: tuple[int, int]
) -> Markup:
    """The picture once for each token of the output, under a veil that is thinner the more the token reads there.

    Args:
        picture: What is read.
        weights: (output_length, rows · columns), from 0 to 1.
        outputs: A label for each token.
        grid: Rows and columns.
    """
    height, width = (PANEL * side / max(picture.pixels.shape[:2]) for side in picture.pixels.shape[:2])
    png = _png(picture.pixels, cmap="gray", vmin=0, vmax=255)
    name = f"seen-{zlib.crc32(repr((png, weights)).encode()):08x}"
    seen = tag("image", href=png, width=f"{width:g}", height=f"{height:g}", id=name)
    parts, said = [tag("defs", seen)], []
    for number, (label, veil, row) in enumerate(zip(outputs, veils(weights, grid), weights, strict=False)):
        x, y = (number % ACROSS) * (width + GAP), (number // ACROSS) * (height + CELL)
        place = {"x": f"{x:g}", "y": f"{y:g}"}
        parts.append(tag("use", href=f"#{name}", **place))
        parts.append(
            tag("image", href=_png(veil), width=f"{width:g}", height=f"{height:g}", preserveAspectRatio="none", **place)
        )
        parts.append(text(f"{x + width / 2:g}", y + height + 13, label, "name", text_anchor="middle"))
        line_read, column_read = divmod(_largest(row), grid[1])
        said.append(f"{label} reads row {line_read + 1}, column {column_read + 1}")
    right, bottom = min(len(weights), ACROSS) * (width + GAP), -(-len(weights) // ACROSS) * (height + CELL)
    return fixed_drawing(right, bottom, f"attention, most of it: {'; '.join(said)}", *parts, class_="veiled")


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
    """One instance: its source, its reference and what the arms made of it, drawn if the task draws it.

    Args:
        item: With ``id``, ``source``, ``reference``, ``outputs``, and ``drawing`` if something is drawn: of the
            reference, and in each of the outputs if theirs differ.
        colors: Name of an arm to the class that gives its colour.
    """
    seed = f", seed {item['seed']}" if "seed" in item else ""
    shown = _panels(item, colors) if _draws_outputs(item) else join(_source(item), _texts(item, colors))
    maps = [_attention(output, item) for output in item["outputs"] if output.get("attention")]
    return tag("article", tag("h4", f"Instance {item['id']}{seed}"), shown, *maps)


def how_to_read(items: Sequence[Mapping[str, Any]]) -> str | None:
    """What a reader of these examples has to know: of their drawings, or of the marks in their texts."""
    for item in items:
        if _draws_outputs(item):
            shown = next(output["drawing"] for output in item["outputs"] if "drawing" in output)
            return _LOOKS[type(drawing_from_json(shown))].note
    return join("Against the reference: ", tag("ins", "added"), " and ", tag("del", "left out"), ".")


def _draws_outputs(item: Mapping[str, Any]) -> bool:
    return any("drawing" in output for output in item["outputs"])


def _source(item: Mapping[str, Any]) -> Markup | None:
    """The drawing that all outputs share."""
    if "drawing" not in item:
        return None
    shown = drawn(drawing_from_json(item["drawing"]), f"instance {item['id']}: {item['source']}")
    return tag("div", tag("figure", shown), class_="panels")


def _texts(item: Mapping[str, Any], colors: Mapping[str, str]) -> Markup:
    parts = []
    for name in ("source", "reference"):
        parts += [tag("dt", name), tag("dd", item[name])] if item[name] else []
    for output in item["outputs"]:
        mark = tag("i", class_=colors.get(output["name"]))
        parts.append(tag("dt", mark, output["name"], _reward(output)))
        parts.append(tag("dd", marked_text(output["output"], item["reference"])))
    return tag("dl", *parts)


def _panels(item: Mapping[str, Any], colors: Mapping[str, str]) -> Markup:
    """A panel for the reference and for each output; an output that has no drawing stands there as text."""
    alone = drawing_from_json(item["drawing"]).reference_alone() if "drawing" in item else None
    shown: list[tuple[str, Markup | None, Drawing | None, str]] = []
    shown += [("reference", None, alone, item["reference"])] if alone else []
    for output in item["outputs"]:
        what = drawing_from_json(output["drawing"]) if "drawing" in output else None
        shown.append((output["name"], _reward(output), what, output["output"]))
    panels = []
    for name, reward, what, said in shown:
        content = tag("p", said) if what is None else drawn(what, f"instance {item['id']}, {name}: {said}")
        panels.append(tag("figure", content, tag("figcaption", tag("b", name), reward), class_=colors.get(name)))
    return tag("div", *panels, class_="panels")


def _attention(output: Mapping[str, Any], item: Mapping[str, Any]) -> Markup:
    weights, labels = output["attention"], output.get("output_labels", ())
    kept = output.get("drawing", item.get("drawing"))
    picture = drawing_from_json(kept) if kept and "grid" in output else None
    if isinstance(picture, Picture):
        shown = attention_on_picture(picture, weights, labels, tuple(output["grid"]))
    else:
        shown = attention_drawing(weights, output.get("input_labels", ()), labels)
    return folded(f"attention of {output['name']}", tag("div", shown, class_="wide"))


def _reward(output: Mapping[str, Any]) -> Markup:
    return tag("small", f" reward {output['reward']:.3f}")
