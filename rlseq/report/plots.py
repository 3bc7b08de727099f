"""Figures: the curves of a run, attention maps, hulls. Figure objects throughout, never pyplot's global state."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rlseq.report.samples import SampleRow

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
        best = int(np.argmax(values))
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
    """Heat map of the attention of the greedy output: its tokens downwards, the source's positions across."""
    assert row.attention is not None
    weights = np.asarray(row.attention)[: len(row.output_labels) or None, : len(row.input_labels) or None]
    height, width = weights.shape
    figure = Figure(figsize=(1.6 + 0.26 * width, 1.4 + 0.22 * height), dpi=80, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    # Labels are the user's text: a dollar sign in them is no formula.
    axes.set_xticks(range(width), _labels(row.input_labels, width), rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(height), _labels(row.output_labels, height), fontsize=7, parse_math=False)
    axes.xaxis.tick_top()
    axes.set_title(f"instance {row.id}, reward {row.greedy_reward:.3f}", fontsize=8)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).ax.tick_params(labelsize=6)
    return figure


def hull_figure(row: SampleRow) -> Figure:
    """The points with their labels, the reference polygon dashed, the greedy output drawn through."""
    assert row.points is not None
    figure = Figure(figsize=(3.6, 3.8), dpi=80, layout="constrained")
    axes = figure.subplots()
    if row.reference_polygon:
        _draw_polygon(
            axes, row.points, row.reference_polygon, color=_MUTED, linestyle="--", linewidth=3, label="reference"
        )
    if row.polygon:
        _draw_polygon(axes, row.points, row.polygon, color=_SAMPLED, linestyle="-", linewidth=1.5, label="output")
    axes.plot(row.points[:, 0], row.points[:, 1], "o", color=_METRIC, markersize=4, label="points")
    # A pointer's attention may have END in front of the points.
    names = _labels(row.input_labels[-len(row.points) :], len(row.points))
    for name, (x, y) in zip(names, row.points, strict=True):
        axes.annotate(name, (x, y), xytext=(3, 3), textcoords="offset points", fontsize=7, parse_math=False)
    axes.set_aspect("equal")
    axes.margins(0.08)
    axes.tick_params(labelsize=6)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=7)
    axes.set_title(f"instance {row.id}, reward {row.greedy_reward:.3f}", fontsize=8)
    return figure


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
    FigureCanvasAgg(figure).print_png(path)
