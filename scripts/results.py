"""The tables of results, made from recorded studies: nothing in them is typed by hand.

    rlseq study hull --seeds 5 --run runs/hull
    python scripts/results.py record runs/hull --title hull
    python scripts/results.py            # rewrite the tables in README.md and docs/results.md
    python scripts/results.py --check    # fail if one is stale

``record`` puts what a finished study found into docs/results/, with what it takes to make it again: command, commit,
hardware, seeds, updates. Its examples stay behind: they quote the corpus, which need not be free to pass on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from blocks import parser_of_pages, replace_block, spread, table, write_pages

MAIN_METRICS = ("accuracy", "BLEU", "chrF", "TER")  # shown beside the primary one
LEFT_BEHIND = ("examples", "regressions", "training_curves")
HEADER = [
    "experiment",
    "metric",
    "seeds",
    "mle",
    "rl",
    "best control",
    "rl − best control [95 % interval]",
    "p",
    "CPU time",
]

Result = dict[str, Any]


# ------------------------------------------------------------------------------------------------------- recording
def record(study: Path, title: str, command: str | None = None) -> Result:
    """What the tables need of a finished study.

    Args:
        study: Its directory, with report/comparison.json.
        title: Name of the experiment.
        command: The command that makes it again; default: the one it noted.

    Raises:
        ValueError: Its code was in no commit.
    """
    made, comparison = _read(study / "study.json"), _read(study / "report" / "comparison.json")
    commit, host = made["made_with"]["commit"], made["made_with"]["host"]
    if not commit or commit.endswith("+"):
        raise ValueError(f"{study}: made from files that are in no commit ({commit}): commit, then study anew")
    tried = {arm["name"]: {key: arm[key] for key in ("tried", "selected")} for arm in made["arms"]}
    kept = {key: value for key, value in comparison.items() if key not in LEFT_BEHIND}
    arms = [
        arm | tried.get(arm["name"], {}) | {"checkpoints": [_inside(each) for each in arm["checkpoints"]]}
        for arm in comparison["arms"]
    ]
    return {
        "title": title,
        "command": command or made["made_with"]["command"],
        "commit": commit,
        "hardware": ", ".join([f"1 core of {host['processor']}", *host["gpus"]]),
        "seeds": made["seeds"],
        "equal_time_updates": made["equal_time_updates"],
        **kept,
        "arms": arms,
    }


def _inside(checkpoint: str) -> str:
    """A checkpoint's place from its seed on: where the study lay on the machine is nobody's business."""
    parts = Path(checkpoint).parts
    return str(Path(*parts[parts.index("checkpoints") - 2 :])) if "checkpoints" in parts else ""


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------- the table of the README
def gains(results: Sequence[Result]) -> list[str]:
    """What the reward brought in each experiment, and below it how each was made."""
    if not results:
        return ["No study is recorded yet."]
    rows = [row for result in results for row in _gain_rows(result)]
    return [*table(HEADER, rows), "", *(_note(result) for result in results)]


def _gain_rows(result: Result) -> list[list[str]]:
    known, primary = result["arms"][0]["metrics"], result["primary"]
    shown = [primary, *(name for name in MAIN_METRICS if name in known and name != primary)]
    attributable = {item["metric"]: item for item in result["attributable"]}
    return [
        [
            result["title"] if metric == primary else "",
            metric,
            str(len(result["seeds"])),
            *(points(result, arm, metric) for arm in ("mle", "rl")),
            *gain(result, attributable.get(metric), metric),
            duration(result) if metric == primary else "",
        ]
        for metric in shown
    ]


def gain(result: Result, item: dict[str, Any] | None, metric: str) -> list[str]:
    if item is None:
        return ["–", "not defined", ""]
    control = f"{points(result, item['best_control'], metric)} ({item['best_control']})"
    return [control, _interval(item), _chance(item["p_value"])]


def points(result: Result, arm: str, metric: str) -> str:
    """Mean ± standard deviation over the seeds that the metric is defined for."""
    values = next(entry["per_seed"].get(metric, []) for entry in result["arms"] if entry["name"] == arm)
    return spread([value for value in values if value is not None and math.isfinite(value)])


def _interval(item: dict[str, Any]) -> str:
    low, high = item["ci95"]
    return f"{item['delta']:+.2f} [{low:.2f}, {high:.2f}]"


def _chance(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def duration(result: Result) -> str:
    """CPU time of mle and rl, on average over the seeds."""
    minutes = round(statistics.mean(arm["seconds"] for arm in result["arms"] if arm["name"] == "rl") / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _note(result: Result) -> str:
    """How a study was made."""
    signatures = result["arms"][0]["signatures"]
    parts = [
        f"`{result['command']}`",
        f"seeds {', '.join(map(str, result['seeds']))}",
        f"commit {result['commit'][:12]}",
        result["hardware"],
        *([f"equal_time: {result['equal_time_updates']:,} updates"] if result["equal_time_updates"] else []),
        *(f"{name} `{text}`" for name, text in signatures.items() if name != "task"),
    ]
    return f"- {result['title']}: {', '.join(parts)}"


# ---------------------------------------------------------------------------------------------------- every arm of each
def arms(results: Sequence[Result]) -> list[str]:
    """Every arm of every study by its primary metric: a point a seed, the interval, and what it took."""
    lines: list[str] = []
    for result in results:
        metric = result["primary"]
        header = ["arm", f"{metric}, a seed each", "mean [95 % interval]", "IQM", "rl − arm [95 % interval]", "p"]
        lines += [f"### {result['title']}", ""]
        lines += table([*header, "updates", "CPU s"], [_arm_row(result, arm, metric) for arm in result["arms"]])
        lines += ["", f"{result['method']}.", "", _note(result), ""]
    return lines or ["No study is recorded yet."]


def _arm_row(result: Result, arm: Result, metric: str) -> list[str]:
    low, high = arm["ci95"][metric]
    item = next(
        (d for d in result["differences"] if d["metric"] == metric and {d["a"], d["b"]} == {arm["name"], "rl"}), None
    )
    if item and item["a"] == "rl":
        item = item | {"delta": -item["delta"], "ci95": [-item["ci95"][1], -item["ci95"][0]]}
    return [
        arm["name"],
        ", ".join(f"{value:.2f}" for value in arm["per_seed"][metric]),
        f"{arm['metrics'][metric]:.2f} [{low:.2f}, {high:.2f}]",
        f"{arm['iqm'][metric]:.2f}",
        *([_interval(item), _chance(item["p_value"])] if item else ["", ""]),
        f"{arm['cost']['updates']:,.0f}",
        f"{arm['seconds']:,.0f}",
    ]


# ------------------------------------------------------------------------------------------------------------ documents
BLOCKS: dict[str, tuple[str, Callable[[Sequence[Result]], list[str]]]] = {
    "README.md": ("results", gains),
    "docs/results.md": ("arms", arms),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of_pages(__doc__)
    recording = parser.add_subparsers(dest="action").add_parser("record", help="put a finished study into docs/results")
    recording.add_argument("study", type=Path)
    recording.add_argument("--title", required=True)
    recording.add_argument("--command", help="default: the one the study noted")
    options = parser.parse_args(arguments)
    try:
        if options.action == "record":
            _record(options)
            return 0
        return _rewrite(options.root, options.check)
    except (OSError, ValueError, KeyError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


def _record(options: argparse.Namespace) -> None:
    path = options.root / "docs" / "results" / f"{options.title}.json"
    result = record(options.study, options.title, options.command)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path)


def systems_of(docs: Path) -> list[dict[str, Any]]:
    """The rows of docs/systems.yaml."""
    systems: list[dict[str, Any]] = yaml.safe_load((docs / "systems.yaml").read_text(encoding="utf-8"))
    return systems


def _in_order(docs: Path) -> list[Result]:
    """The recorded studies as docs/systems.yaml orders them, those that it does not name behind the others."""
    systems = systems_of(docs)
    place = {system["result"]: number for number, system in enumerate(systems) if "result" in system}
    paths = sorted((docs / "results").glob("*.json"))
    return [_read(path) for path in sorted(paths, key=lambda path: place.get(path.stem, len(systems)))]


def _rewrite(root: Path, check: bool) -> int:
    results = _in_order(root / "docs")
    pages = {
        name: replace_block((root / name).read_text(encoding="utf-8"), block, made(results))
        for name, (block, made) in BLOCKS.items()
    }
    return write_pages(root, pages, "results.py", check)


if __name__ == "__main__":
    sys.exit(main())
