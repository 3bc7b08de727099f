"""Modules that merely lie in the working directory: none is executed, whatever its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SUITE = "Foreign modules in the working directory"
HOLDS_WHEN = (
    "no file that merely lies in the working directory is executed, and the command does what it does elsewhere"
)

# Modules of the standard library, and those that torch, ray, numba, gymnasium and their like try to import.
NAMES = (
    *("json", "random", "secrets", "types", "copy", "tokenize", "statistics", "queue", "token", "calendar"),
    *("coverage", "cuda", "org", "dill", "cupy", "tensorflow", "jax", "sklearn", "scipy", "pandas", "IPython"),
    *("numpy", "torch", "ray", "yaml", "typer", "rich", "pydantic", "omegaconf", "triton", "tqdm", "six", "dotenv"),
)
TINY = [
    *("rlseq", "train", "hull", "mle.updates=1", "rl.updates=1", "mle.batch_size=4", "rl.batch_size=4"),
    *("mle.validate_every=1", "rl.validate_every=1", "evaluation.max_instances=4", "task.max_points=6"),
]
COMMANDS = {
    "version": ["rlseq", "--version"],
    "configs": ["rlseq", "configs", "show", "hull"],
    "train": TINY,
    "reward": ["reward"],
}
REWARD = """
from rlseq_envs.rewards.own import OwnReward
import pathlib, sys
pathlib.Path("mine.py").write_text("import helper\\ndef f(*columns):\\n    return [helper.ONE] * len(columns[-1])\\n")
pathlib.Path("helper.py").write_text("ONE = 1.0\\n")
assert OwnReward("mine:f", 60.0)([0, 1])[""].tolist() == [1.0, 1.0]
"""


def run(what: str, directory: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["-c", REWARD] if what == "reward" else ["-m", *COMMANDS[what]]
    return subprocess.run([sys.executable, "-P", *arguments], cwd=directory, capture_output=True, text=True)


@pytest.mark.cases({f"{what}-{name}": (what, name) for name in NAMES for what in ("version", "reward")}, sample=3)
def test_one_module_is_not_executed(case: tuple[str, str], tmp_path: Path) -> None:
    what, name = case
    check(what, [name], tmp_path)


@pytest.mark.cases({what: what for what in COMMANDS}, sample=1)
def test_no_module_is_executed(case: str, tmp_path: Path) -> None:
    check(case, NAMES, tmp_path)


def check(what: str, names: list[str] | tuple[str, ...], directory: Path) -> None:
    for name in names:
        (directory / f"{name}.py").write_text(f"open('executed-{name}', 'w').close()\n")
    done = run(what, directory)
    assert [path.name for path in directory.glob("executed-*")] == []
    assert done.returncode == 0, done.stderr
