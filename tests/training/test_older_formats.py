"""Runs whose checkpoints have an older format are read, resumed and forked.

``older_formats/<kind>-<format>`` is such a run, written by the last version that wrote this format: ``rl`` was saved at
update 302 and at its end, 304; ``latest`` names the former.
``output.txt`` is what that version generated from ``input.txt``, greedily and with a beam of 3.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rlseq.cli import app
from rlseq.config.load import parse_config
from rlseq.evaluation.loading import load_policy
from rlseq.training import checkpoint
from rlseq.training.checkpoint import load_checkpoint

RUNS = sorted((Path(__file__).parent / "older_formats").iterdir())


@pytest.fixture(params=RUNS, ids=lambda run: run.name)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(request.param, tmp_path / "run", symlinks=True))


def rlseq(*arguments: str | Path, given: str | None = None) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), input=given)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_generates_what_it_did(run: Path) -> None:
    lines = (run / "input.txt").read_text()
    found = [rlseq("generate", run, *search, given=lines) for search in ([], ["--beam", "3"])]
    assert "".join(found) == (run / "output.txt").read_text()


def test_it_is_resumed_to_where_it_ended(run: Path) -> None:
    end = load_checkpoint(run / "checkpoints" / "rl" / "304", resume=True)
    shutil.rmtree(end.directory)
    rlseq("train", "--resume", run)
    resumed = load_checkpoint(end.directory, resume=True)
    assert json.loads((end.directory / "manifest.json").read_text())["format"] == checkpoint.FORMAT == 3
    assert end.state is not None and resumed.state is not None and end.state.keys() == resumed.state.keys()
    for name, value in resumed.state.items():
        np.testing.assert_allclose(value, end.state[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_it_is_evaluated_and_forked(run: Path, tmp_path: Path) -> None:
    best = run / "checkpoints" / "mle"
    assert "test" in rlseq("evaluate", best)
    rlseq("train", "--from", best, "--phase", "rl", "rl.updates=2", "--run", tmp_path / "fork")
    assert (tmp_path / "fork" / "checkpoints" / "rl" / "latest").exists()


def test_its_configuration_is_one_of_today(run: Path) -> None:
    loaded = load_policy(run)
    assert parse_config(loaded.config.model_dump(mode="json")) == loaded.config
