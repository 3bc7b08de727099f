"""Every shipped configuration is sound and trains: two updates of each phase, with small sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlseq.cli import app
from rlseq.config.load import shipped_config
from rlseq.training.run_directory import read_metrics
from tests.small_runs import SHIPPED, shipped, small_form


@pytest.mark.parametrize("name", SHIPPED)
def test_it_trains_through_both_phases(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", name, *small_form(name, tmp_path), "--run", "run"])
    assert result.exit_code == 0, result.output
    records = [record for record in read_metrics(Path("run/metrics.jsonl")) if "train/loss" in record]
    assert [(record["phase"], record["update"]) for record in records] == [("mle", 1), ("mle", 2), ("rl", 3), ("rl", 4)]
    comparison = json.loads(Path("run/report/comparison.json").read_text())
    drawn = shipped(name)["task"]["type"] == "pixels"  # what a picture of nothing should be, no single output says
    assert len(comparison["arms"]) == 2
    assert comparison["decoding"]["method"] == ("sample" if drawn else "greedy")


@pytest.mark.parametrize("name", SHIPPED)
def test_it_says_how_it_is_launched_and_what_it_is(name: str) -> None:
    config = shipped_config(name)
    assert config.text.startswith(f"# rlseq train {name}")
    assert len(config.description) > 40 and shipped(name)["name"] == name
