"""A reward of the user's own from the command line: what is told, what is kept, how it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlseq.cli import app

MODULE = """
import numpy as np

__version__ = "1"
calls = 0


def worth(points, counts, sequences, lengths, ids):
    global calls
    calls += 1
    worth = (sequences > 0).sum(axis=1) / counts
    return {result}
"""
TINY = [
    *("task.min_points=5", "task.max_points=5", "task.validation_size=8", "task.test_size=8", "policy.hidden_size=8"),
    *("mle.updates=2", "mle.batch_size=4", "mle.average=0", "rl.updates=6", "rl.batch_size=2", "rl.average=0"),
    *("rl.validate_every=100", "evaluation.samples_shown=0", "log_every=1", "compute.threads=1"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def rlseq(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_run_whose_reward_fails_is_saved_and_goes_on_once_it_is_mended(here: Path) -> None:
    # Calls: 2 at the start, 3 validations, then one an update of rl.
    (here / "mine_cli.py").write_text(MODULE.format(result="np.full(len(ids), np.nan) if calls > 7 else worth"))
    mixture = "task.reward={valid: 1.0, mine_cli:worth: 0.5}"
    failed = rlseq("train", "hull", mixture, *TINY, "--run", "run")
    assert failed.exit_code == 1, failed.output
    assert "error: RewardError: task.reward: mine_cli:worth gave nan for sequence 0 of" in failed.stderr
    assert "saved at update 4" in Path("run/train.log").read_text()

    (here / "mine_cli.py").write_text(MODULE.format(result="worth"))
    resumed = rlseq("train", "--resume", "run")
    assert resumed.exit_code == 0, resumed.output
    assert "worth" in resumed.stdout

    (here / "mine_cli.py").write_text(MODULE.format(result="2 * worth").replace('"1"', '"2"'))
    refused = rlseq("evaluate", "run", "--split", "test")
    assert refused.exit_code == 2 and "mine_cli:worth@version:1" in refused.stderr, refused.output
    assert "mine_cli:worth@version:2" in refused.stderr


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("{valid: 1.0, nowhere_cli:worth: 1.0}", "cannot be imported: no module 'nowhere_cli'"),
        ("{mine_cli:wroth: 1.0}", "task.reward: mine_cli:wroth does not exist: module 'mine_cli' has no 'wroth'"),
        ("{mine_cli:calls: 1.0}", "task.reward: mine_cli:calls is no function but int"),
        ("{mine_cli: 1.0}", "task.reward.mine_cli: unknown key; the keys here are valid, edge_f1, coverage, package"),
        ("{vlid: 1.0}", "task.reward.vlid: unknown key; did you mean 'valid'?"),
        ("{valid: -1.0}", "task.reward.valid: -1.0 is not a number at least 0"),
        ("{mine_cli:worth: 0}", "task: reward: give at least one component a weight above 0"),
    ],
)
def test_a_mixture_that_cannot_be_is_wrong_input(here: Path, reward: str, message: str) -> None:
    (here / "mine_cli.py").write_text(MODULE.format(result="worth"))
    result = rlseq("train", "hull", f"task.reward={reward}", *TINY)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert {path.name for path in here.iterdir()} <= {"mine_cli.py", "__pycache__"}
