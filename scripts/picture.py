"""The picture at the top of the README, made from a finished study.

    rlseq study hull-long --seeds 3 --run runs/hull-long
    python scripts/picture.py runs/hull-long docs/curves.png

It shows the validation metric of every seed over the CPU time that led to it: cross-entropy, rl from there, and
cross-entropy given the time of both.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

STYLES = {  # of the arms that are shown, in the order of drawing
    "equal_time": ("#d4812a", "cross-entropy, as long as both"),
    "mle": ("#777777", "cross-entropy"),
    "rl": ("#1f5fa8", "then rl on the reward"),
}

Result = dict[str, Any]


def draw(comparison: Result) -> Figure:
    """Draw a line a seed for each arm.

    Args:
        comparison: The study's report/comparison.json.
    """
    figure = Figure(figsize=(8.0, 3.6), dpi=130, layout="constrained")
    axes, best = figure.subplots(), []
    for arm, (color, label) in STYLES.items():
        curves = comparison["training_curves"][arm]
        for curve in curves:
            minutes = [passed(comparison, arm, curve[0]["update"], point["update"]) for point in curve]
            values = [point["value"] for point in curve]
            axes.plot(minutes, values, color=color, label=label, marker="o", markersize=2.5, linewidth=1.2)
            label = "_nolegend_"
        best.append(max(point["value"] for curve in curves for point in curve))
    span = max(best) - min(best)
    axes.set_ylim(min(best) - 1.2 * span, max(best) + 0.12 * span)  # the beginning is cut off
    axes.set_xlim(left=0)
    axes.set_xlabel("CPU minutes of training, one core")
    axes.set_ylabel(f"validation {comparison['primary']}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, fontsize="small")
    return figure


def passed(comparison: Result, arm: str, begun: int, update: int) -> float:
    """CPU minutes up to an update of a curve that began at another: linear within a phase, mean over seeds."""
    costs = {found["name"]: found["cost"] for found in comparison["arms"]}
    if arm != "rl":
        return costs[arm]["cpu_seconds"] / 60 * update / costs[arm]["updates"]
    curves = comparison["training_curves"]["rl"]
    updates = statistics.mean(curve[-1]["update"] - curve[0]["update"] for curve in curves)
    before = [passed(comparison, "mle", 0, curve[0]["update"]) for curve in curves]
    each = (costs["rl"]["cpu_seconds"] / 60 - statistics.mean(before)) / updates
    return passed(comparison, "mle", 0, begun) + (update - begun) * each


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    comparison = json.loads((options.study / "report" / "comparison.json").read_text(encoding="utf-8"))
    draw(comparison).savefig(options.picture)


if __name__ == "__main__":
    main()
