"""What trainings and studies end with: figures on held-out instances, and how to look at the curves."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from rlseq.evaluation.evaluate import display_path
from rlseq_envs.task import SequenceTask, SplitName


def held_out(task: SequenceTask) -> tuple[SplitName, int | None]:
    """The test split, or validation if the task has no test data; the first 10,000 instances of an endless one."""
    try:
        name: SplitName = "test"
        split = task.instances(name)
    except ValueError:
        name = "validation"
        split = task.instances(name)
    return name, 10_000 if split.size is None else None


def curves_command(directory: Path) -> str:
    """The TensorBoard command for the curves in a directory, with its path if the shell would not find it."""
    beside = Path(sys.executable).parent / "tensorboard"
    program = "tensorboard" if shutil.which("tensorboard") or not beside.exists() else display_path(beside)
    return f"curves: {program} --logdir {shlex.quote(display_path(directory))}"
