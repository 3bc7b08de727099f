"""Figures: curves of a run, attention maps, drawings of tasks. Figure objects throughout, never pyplot's state."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rlseq.report.named_points import named_points
from rlseq.report.samples import SampleRow
from rlseq.report.veils import veils
from rlseq_envs.drawing import Picture, Polygon, Strip
from rlseq_envs.settings.metrics import larger_is_better

_ACROSS = 6  # pictures side by side
_METRIC, _GREEDY, _SAMPLED, _MUTED = "#1f5fa8", "#1f5fa8", "#d9822b", "#8a8f98"


# --------------------------------------------------------------------------------------------------------- curves
Series = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]  # updates and values, both (points,)


@dataclass(frozen=True)
class Curves:
    """What a run's metrics.jsonl says over its updates.

    Attributes:
        series: Tag to phase to points; values that are no numbers are left out.
        spans: Phase to its first and last update, in order.
    """

    series: dict[str, dict[str, Series]]
    spans: dict[str, tuple[int, int]]


def read_curves(metrics_path: Path) -> Curves:
    """Read a metrics.jsonl; a line that a kill cut short is left out, a missing file has none."""
    points: dict[str, dict[str, list[tuple[int, float]]]] = {}
    spans: dict[str, tuple[int, int]] = {}
    for record in _records(metrics_path):
        update, phase = record.pop("update"), record.pop("phase")
        spans[phase] = (spans.get(phase, (update, update))[0], update)
        for tag, value in record.items():
            if isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(tag, {}).setdefault(phase, []).append((update, value))
    series = {tag: {phase: _arrays(pairs) for phase, pairs in phases.items()} for tag, phases in points.items()}
    return Curves(series, spans)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"update", "phase"} <= record.keys():
            yield record


def _arrays(pairs: list[tuple[int, float]]) -> Series:
    updates, values = zip(*pairs, strict=True)
    return np.array(updates, np.int64), np.array(values, np.float64)


def draw_curves(metrics_path: Path, out_png: Path, metric: str, titles: Mapping[str, str]) -> Figure:
    """Draw the validation metric and the reward from mle into rl, the phases told apart, and save them as a picture.

    Args:
        metrics_path: The run's metrics.jsonl.
        out_png: The picture.
        metric: Name of the validation metric, without its prefix.
        titles: Phase to what is trained in it, as people call it.
    """
    curves = read_curves(metrics_path)
    figure = Figure(figsize=(8.0, 5.2), dpi=130, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_series(upper, curves, f"eval/{metric}", _METRIC, f"validation {metric} (greedy)", marker="o")
    _mark_best(upper, curves, metric)
    _draw_series(lower, curves, "rollout/reward_mean", _SAMPLED, "training reward (sampled)", linewidth=0.9)
    _draw_series(lower, curves, "eval/reward", _GREEDY, "validation reward (greedy)", marker="o")
    upper.set_ylabel(metric)
    lower.set_ylabel("reward")
    lower.set_xlabel("update")
    for axes in (upper, lower):
        _mark_phases(axes, curves, titles if axes is upper else {})
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(loc="lower right", facecolor="white", edgecolor="none", framealpha=0.8, fontsize="small")
    _save(figure, out_png)
    return figure


def _draw_series(axes: Axes, curves: Curves, tag: str, color: str, label: str, **style: Any) -> None:
    """One line a phase, so that none crosses the boundary: rl starts from the best mle checkpoint, not the last."""
    for updates, values in curves.series.get(tag, {}).values():
        axes.plot(updates, values, color=color, label=label, markersize=3, **style)
        label = "_nolegend_"


def _mark_best(axes: Axes, curves: Curves, metric: str) -> None:
    """Write the best value of each phase at its point."""
    for updates, values in curves.series.get(f"eval/{metric}", {}).values():
        best = int(np.argmax(values if larger_is_better(metric) else -values))
        place = (float(updates[best]), float(values[best]))
        axes.plot(*place, "o", color=_METRIC, markersize=6, markerfacecolor="white", label="_nolegend_")
        text = f"{place[1]:.1f}" if place[1] >= 10 else f"{place[1]:.3f}"
        axes.annotate(
            text, place, xytext=(0, 7), textcoords="offset points", ha="center", fontsize="small", color=_METRIC
        )
    axes.margins(y=0.14)


def _mark_phases(axes: Axes, curves: Curves, titles: Mapping[str, str]) -> None:
    """A dashed line between phases, and above them their titles."""
    for (_, ended), (begun, _) in pairwise(curves.spans.values()):
        axes.axvline((ended + begun) / 2, color=_MUTED, linestyle="--", linewidth=1)
    for name, title in titles.items():
        if name in curves.spans:
            axes.text(
                sum(curves.spans[name]) / 2, 1.02, title, transform=axes.get_xaxis_transform(),
                ha="center", va="bottom", color=_MUTED, fontsize="small",
            )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- samples
def attention_figure(row: SampleRow) -> Figure:
    """The attention of the greedy output: over the picture, or a heat map of its tokens and the source's positions."""
    assert row.attention is not None
    if row.grid is not None and isinstance(row.drawing, Picture):
        return _attention_on_picture(row, row.drawing, veils(row.attention, row.grid))
    weights = np.asarray(row.attention)[: len(row.output_labels) or None, : len(row.input_labels) or None]
    height, width = weights.shape
    sentences = 0.06 * max(0, max(map(len, row.input_labels), default=0) - 12)  # inches that long labels stand up
    figure = Figure(figsize=(1.6 + 0.26 * width, 1.4 + 0.22 * height + sentences), dpi=80, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    # Labels are the user's text: a dollar sign in them is no formula.
    axes.set_xticks(range(width), _labels(row.input_labels, width), rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(height), _labels(row.output_labels, height), fontsize=7, parse_math=False)
    axes.xaxis.tick_top()
    axes.set_title(f"instance {row.id}, reward {row.drawn_reward:.3f}", fontsize=8)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).ax.tick_params(labelsize=6)
    return figure


def _attention_on_picture(row: SampleRow, drawn: Picture, veiled: npt.NDArray[np.uint8]) -> Figure:
    """The picture once for each token, under its veil."""
    height, width = drawn.pixels.shape[:2]
    lines = -(-len(veiled) // _ACROSS)
    figure = Figure(figsize=(1.4 * _ACROSS, 0.3 + lines * (0.25 + 1.4 * height / width)), dpi=80, layout="constrained")
    figure.suptitle(f"instance {row.id}, reward {row.drawn_reward:.3f}", fontsize=8)
    panels = figure.subplots(lines, _ACROSS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    names = _labels(row.output_labels, len(veiled))
    for axes, name, veil in zip(panels, names, veiled, strict=False):
        axes.imshow(drawn.pixels, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
        axes.imshow(veil, interpolation="bilinear", extent=(0, width, height, 0))
        axes.set_title(name, fontsize=7, parse_math=False, pad=2)
    return figure


def drawing_figure(row: SampleRow) -> Figure:
    """What the task draws of an output, in the way of its type."""
    assert row.drawing is not None
    figure = _FIGURES[type(row.drawing)](row, row.drawing)
    figure.axes[0].set_title(f"instance {row.id}, reward {row.drawn_reward:.3f}", fontsize=8)
    return figure


def _polygon_figure(row: SampleRow, drawn: Polygon) -> Figure:
    """The points and names of them, the reference dashed, the output drawn through."""
    figure = Figure(figsize=(3.6, 3.8), dpi=80, layout="constrained")
    axes = figure.subplots()
    if drawn.reference:
        _draw_polygon(axes, drawn.points, drawn.reference, color=_MUTED, linestyle="--", linewidth=3, label="reference")
    if drawn.polygon:
        _draw_polygon(axes, drawn.points, drawn.polygon, color=_SAMPLED, linestyle="-", linewidth=1.5, label="output")
    axes.plot(drawn.points[:, 0], drawn.points[:, 1], "o", color=_METRIC, markersize=4, label="points")
    count = len(drawn.points)
    of_points = len(row.input_labels) in (count, count + 1)  # a pointer's attention may have END in front
    names = _labels(row.input_labels[-count:] if of_points else (), count)
    for i in named_points(drawn):
        x, y = drawn.points[i]
        axes.annotate(names[i], (x, y), xytext=(3, 3), textcoords="offset points", fontsize=7, parse_math=False)
    axes.set_aspect("equal")
    axes.margins(0.08)
    axes.tick_params(labelsize=6)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=7)
    return figure


def _picture_figure(row: SampleRow, drawn: Picture) -> Figure:
    """The picture, and the reference to its right."""
    pictures = [drawn.pixels, *([] if drawn.reference is None else [drawn.reference])]
    figure = Figure(figsize=(3.0 * len(pictures), 3.4), dpi=80, layout="constrained")
    shown = figure.subplots(1, len(pictures), squeeze=False)[0]
    for axes, pixels, name in zip(shown, pictures, ("output", "reference"), strict=False):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(name if len(pictures) > 1 else "", fontsize=7)
    return figure


def _strip_figure(row: SampleRow, drawn: Strip) -> Figure:
    """A row as a line over the dashed reference; channels as a map of colours, that of the reference below it."""
    parts = [("output", drawn.values), *([] if drawn.reference is None else [("reference", drawn.reference)])]
    low, high = drawn.limits
    maps = len(parts) if drawn.values.ndim == 2 else 1
    figure = Figure(figsize=(6.4, 0.8 + 1.6 * maps), dpi=80, layout="constrained")
    shown = figure.subplots(maps, 1, sharex=True, squeeze=False)[:, 0]
    for axes in shown:
        axes.tick_params(labelsize=6)
    if drawn.values.ndim == 1:
        styles = {"output": (_SAMPLED, "-", 1.5), "reference": (_MUTED, "--", 2.5)}
        for name, values in reversed(parts):
            color, style, width = styles[name]
            shown[0].plot(values, color=color, linestyle=style, linewidth=width, label=name)
        if len(parts) > 1:
            figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)
        return figure
    longest = max(1, *(values.shape[1] for _, values in parts))
    for axes, (name, values) in zip(shown, parts, strict=True):
        if values.size:
            colors = {"cmap": "viridis", "vmin": low, "vmax": high}
            axes.imshow(values, origin="lower", aspect="auto", interpolation="nearest", **colors)
        axes.set_xlim(-0.5, longest - 0.5)
        axes.set_ylabel(name if len(parts) > 1 else "", fontsize=7)
    return figure


_FIGURES: dict[type, Callable[[SampleRow, Any], Figure]] = {
    Polygon: _polygon_figure,
    Picture: _picture_figure,
    Strip: _strip_figure,
}


def figure_image(figure: Figure) -> npt.NDArray[np.uint8]:
    """The figure as pixels, (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Scripts that the font lacks are drawn as boxes; a warning for each character would bury the log.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _draw_polygon(axes: Axes, points: npt.NDArray[np.float64], polygon: Sequence[int], **style: Any) -> None:
    corners = points[[*polygon, polygon[0]]]
    axes.plot(corners[:, 0], corners[:, 1], **style)


def _labels(labels: Sequence[str], count: int) -> list[str]:
    return list(labels) if labels else [str(i + 1) for i in range(count)]


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        # A run that was stopped early has nothing to lay out yet.
        warnings.filterwarnings("ignore", message="constrained_layout not applied", category=UserWarning)
        FigureCanvasAgg(figure).print_png(path)
