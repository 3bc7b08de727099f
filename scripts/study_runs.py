"""The runs behind the tables of docs/: each is made once, and goes on if it was interrupted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlseq.training.run_directory import read_metrics
from rlseq.training.study import finished

Result = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One line of a table: what it is called, and the settings that make it.

    ``control`` is None of rl, and says which cross-entropy takes its time otherwise.
    """

    name: str
    settings: tuple[str, ...]
    control: Literal["going on", "from the start"] | None = None

    @property
    def slug(self) -> str:
        """A name for its run."""
        return "-".join("".join(sign if sign.isalnum() else " " for sign in self.name).split())


def trained(run: Path, arguments: Sequence[str]) -> Path:
    """A finished run of ``rlseq train`` with these arguments; one that was interrupted goes on."""
    if (run / "train.log").is_file() and not finished(run):
        rlseq("train", "--resume", str(run))
    elif not finished(run):
        rlseq("train", *arguments, "--run", str(run))
    return run


def evaluated(checkpoint: Path, made: Path, *options: str) -> Result:
    """What ``rlseq evaluate`` says of a checkpoint on the test set."""
    if not made.is_file():
        rlseq("evaluate", str(checkpoint), *options, "--json", str(made))
    found: Result = json.loads(made.read_text(encoding="utf-8"))
    return found


def rlseq(*arguments: str) -> None:
    """The program, as a user runs it; its output goes to this one's standard error."""
    print("rlseq", *arguments, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "rlseq", *arguments], check=True, stdout=subprocess.DEVNULL)


def test_metric(run: Path, metric: str) -> float:
    """A metric of what a run trained last, on the test set."""
    compared, alone = (run / "report" / name for name in ("comparison.json", "evaluation.json"))
    if not compared.is_file():
        return float(json.loads(alone.read_text(encoding="utf-8"))["metrics"][metric])
    return float(json.loads(compared.read_text(encoding="utf-8"))["arms"][-1]["metrics"][metric])


def logged(run: Path, phase: str, tag: str) -> list[float]:
    """All values of a tag in a phase of a run."""
    records = read_metrics(run / "metrics.jsonl")
    return [record[tag] for record in records if record["phase"] == phase and tag in record]
