"""The results table of the README, made from recorded runs: nothing in it is typed by hand.

    python scripts/results.py record RUN --title hull [--evaluation FILE] [--command TEXT]
    python scripts/results.py            # rewrite the table in README.md
    python scripts/results.py --check    # fail where README.md is stale

``record`` puts a finished run's comparison into docs/results/, with what it takes to make it again: command, commit,
hardware, wall time, seed. Runs of one title are seeds of one experiment: mean ± standard deviation is shown.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from blocks import replace_block, spread, table

ROOT = Path(__file__).resolve().parents[1]
MAIN_METRICS = ("accuracy", "BLEU", "chrF", "TER")  # shown where an experiment has them; otherwise its first metric

Result = dict[str, Any]


# ------------------------------------------------------------------------------------------------------- recording
def record(run: Path, title: str, evaluation: Path | None, command: str | None) -> Result:
    """What the README needs of a finished run.

    Args:
        run: The run directory, with report/comparison.json.
        title: Name of the experiment.
        evaluation: JSON of ``rlseq evaluate``, for sacreBLEU's signatures.
        command: The command that made the run; default: the one it noted.

    Raises:
        ValueError: The run's checkpoints come from a working tree that differs from its commit.
    """
    comparison = _read(run / "report" / "comparison.json")
    environment = _read(run / "environment.json")
    if not environment["commit"] or environment["commit"].endswith("+"):
        raise ValueError(
            f"{run}: made from files that are in no commit ({environment['commit']}): commit, then train anew"
        )
    meta = _read(run / "checkpoints" / "rl" / "best" / "meta.json")
    host = environment["host"]
    return {
        "title": title,
        "command": command or environment["command"],
        "commit": environment["commit"],
        "hardware": ", ".join(
            [f"{host['cores']} core{'s' * (host['cores'] > 1)} of {host['processor']}", *host["gpus"]]
        ),
        "wall_time": wall_time((run / "train.log").read_text(encoding="utf-8").splitlines()),
        "seed": meta["config"]["seed"],
        "signatures": _read(evaluation)["signatures"] if evaluation else {"task": meta["signature"]},
        "arms": [arm | {"checkpoint": _inside_run(arm["checkpoint"], run)} for arm in comparison["arms"]],
        "differences": comparison["differences"],
        "examples": [],  # they quote the corpus, which need not be free to pass on
    }


def wall_time(log: Sequence[str]) -> float:
    """Seconds of training by the log's dates; the time between an end and a resumption does not count."""
    total, begun, last = 0.0, None, None
    for line in log:
        stamp, _, rest = line.partition(" ")
        now = datetime.fromisoformat(stamp)
        if rest.startswith("INFO run "):
            total += (last - begun).total_seconds() if begun and last else 0.0
            begun = now
        last = now
    return total + ((last - begun).total_seconds() if begun and last else 0.0)


def _inside_run(checkpoint: str, run: Path) -> str:
    """The checkpoint's place from the run's name on: where the run lay on the machine is nobody's business."""
    place = Path(checkpoint)
    return str(Path(run.name, *place.parts[place.parts.index("checkpoints") :])) if "checkpoints" in place.parts else ""


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ----------------------------------------------------------------------------------------------------------- table
def make_block(results: Sequence[Result]) -> list[str]:
    """The lines of the README's block: a table of figures, and below it how each was made."""
    if not results:
        return ["No run is recorded yet."]
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result["title"], []).append(result)
    arms = list(dict.fromkeys(arm["name"] for result in results for arm in result["arms"]))
    header = ["experiment", "metric", "seeds", *arms, "difference [95 % interval]", "p", "time"]
    rows = [row for title, group in groups.items() for row in _rows(title, group, arms)]
    notes = [note for title, group in groups.items() for note in _notes(title, group)]
    return [*table(header, rows), "", *notes]


def _rows(title: str, group: Sequence[Result], arms: Sequence[str]) -> list[list[str]]:
    first = group[0]
    known = list(first["arms"][0]["metrics"])
    shown = [name for name in MAIN_METRICS if name in known] or known[:1]
    return [
        [
            title if metric == shown[0] else "",
            metric,
            str(len(group)),
            *(spread(_values(group, arm, metric)) for arm in arms),
            *_differences(group, metric),
            _duration(statistics.mean(result["wall_time"] for result in group)) if metric == shown[0] else "",
        ]
        for metric in shown
    ]


def _differences(group: Sequence[Result], metric: str) -> tuple[str, str]:
    """Every later arm minus the first one; of several seeds the spread, and the largest p-value."""
    first = group[0]["arms"][0]["name"]
    found: dict[str, list[dict[str, Any]]] = {}
    for result in group:
        for item in result["differences"]:
            if item["metric"] == metric and item["a"] == first:
                found.setdefault(item["b"], []).append(item)
    deltas, chances = [], []
    for items in found.values():
        size = spread([item["delta"] for item in items], sign="+")
        low, high = items[0]["ci95"]
        deltas.append(size if len(items) > 1 else f"{size} [{low:.2f}, {high:.2f}]")
        chances.append(_chance(max(item["p_value"] for item in items)))
    return "<br>".join(deltas), "<br>".join(chances)


def _values(group: Sequence[Result], arm: str, metric: str) -> list[float]:
    """Of the runs that have the arm, and where the metric is defined there."""
    entries = [entry for result in group for entry in result["arms"] if entry["name"] == arm]
    found = [entry["metrics"].get(metric) for entry in entries]
    return [value for value in found if value is not None and math.isfinite(value)]


def _chance(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _notes(title: str, group: Sequence[Result]) -> list[str]:
    """How each result was made."""
    notes = []
    for result in group:
        signatures = [f"{name} `{text}`" for name, text in result["signatures"].items() if name != "task"]
        parts = [
            f"`{result['command']}`",
            f"seed {result['seed']}",
            f"commit {result['commit'][:12]}",
            result["hardware"],
        ]
        notes.append(f"- {title}: {', '.join([*parts, *signatures])}")
    return notes


# ---------------------------------------------------------------------------------------------------------- README
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where README.md is stale")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results")
    recording = parser.add_subparsers(dest="action").add_parser("record", help="put a finished run into docs/results")
    recording.add_argument("run", type=Path)
    recording.add_argument("--title", required=True)
    recording.add_argument("--evaluation", type=Path, help="JSON of rlseq evaluate, for sacreBLEU's signatures")
    recording.add_argument("--command", help="default: the one the run noted")
    options = parser.parse_args(arguments)
    try:
        if options.action == "record":
            _record(options)
            return 0
        return _rewrite(options)
    except (OSError, ValueError, KeyError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


def _record(options: argparse.Namespace) -> None:
    result = record(options.run, options.title, options.evaluation, options.command)
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{options.title}-seed{result['seed']}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path)


def _rewrite(options: argparse.Namespace) -> int:
    results = [_read(path) for path in sorted(options.results.glob("*.json"))]
    before = options.readme.read_text(encoding="utf-8")
    after = replace_block(before, "results", make_block(results))
    if options.check and before != after:
        print(f"{options.readme.name} is stale: run python scripts/results.py", file=sys.stderr)
        return 1
    if before != after:
        options.readme.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
