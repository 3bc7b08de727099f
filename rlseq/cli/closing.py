"""What trainings and studies end with on the screen: figures on held-out instances, and how to look at the curves."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from rlseq.api.run import Run
from rlseq.cli.common import console
from rlseq.report.comparison import comparison_tables
from rlseq.report.tables import evaluation_table
from rlseq.training.checkpoint import load_meta
from rlseq.training.remote import display_path


def print_result(run: Run) -> None:
    """Print what a run achieved on held-out instances, and how to look at its curves."""
    screen = console()
    if run.comparison:
        screen.print(*comparison_tables(run.comparison), sep="\n")
        meta = load_meta(run.best)
        if meta["phase"] == "rl" and meta["phase_update"] == 0:
            screen.print("no update of rl was better than what it started from: its best checkpoint is that one")
    elif run.evaluation:
        screen.print(evaluation_table(run.evaluation))
    screen.print(f"run directory: {display_path(run.path)}", soft_wrap=True)
    screen.print(curves_command(run.path / "tensorboard"), soft_wrap=True)


def curves_command(directory: Path) -> str:
    """The TensorBoard command for the curves in a directory, with its path if the shell would not find it."""
    beside = Path(sys.executable).parent / "tensorboard"
    program = "tensorboard" if shutil.which("tensorboard") or not beside.exists() else display_path(beside)
    return f"curves: {program} --logdir {shlex.quote(display_path(directory))}"
