"""``rlseq preflight``: exit codes, tables, JSON, and whose settings count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlseq.cli import app
from tests.evaluation.conftest import HULL, train


def rlseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy half-way through its training, and one before it."""
    directory = tmp_path_factory.mktemp("runs")
    train(directory / "sound", HULL, {"mle": 40}, 0.01)
    points = HULL["task"] | {"min_points": 10, "max_points": 10, "reward": {"valid": 1.0}}
    train(directory / "untrained", HULL | {"task": points}, {"mle": 0}, 0.0)
    return directory


def test_a_sound_start_ends_with_0_and_an_unsound_one_with_3(runs: Path) -> None:
    sound = rlseq("preflight", runs / "sound" / "checkpoints" / "mle", "rl.updates=10")
    assert sound.exit_code == 0, sound.output
    assert sound.stdout.endswith("rl from this checkpoint: sound\n") and "best of 16" in sound.stdout
    untrained = rlseq("preflight", runs / "untrained")
    assert untrained.exit_code == 3, untrained.output
    assert "against: hardly any sample is rewarded" in untrained.stdout
    assert untrained.stdout.endswith("rl from this checkpoint: not advisable\n")


def test_json_holds_figures_findings_and_verdict(runs: Path, tmp_path: Path) -> None:
    result = rlseq("preflight", runs / "untrained", "--json", tmp_path / "out.json", "--instances", 20)
    found = json.loads((tmp_path / "out.json").read_text())
    assert result.exit_code == 3 and found["verdict"] == "not advisable"
    assert found["figures"]["instances"] == 20
    (finding,) = (finding for finding in found["findings"] if finding["verdict"] == "against")
    assert finding["key"] == "untrained" and finding["text"] in " ".join(result.stdout.split())
    alone = rlseq("preflight", runs / "untrained", "--json", "-")
    assert alone.exit_code == 3 and json.loads(alone.stdout)["verdict"] == "not advisable"


def test_the_rl_section_is_the_runs_or_that_of_a_configuration_and_changed_by_keys(runs: Path) -> None:
    def settings(*arguments: str) -> tuple[object, object]:
        found = json.loads(rlseq("preflight", runs / "sound", *arguments, "--json", "-").stdout)
        projected = found["cost"]["projected_seconds"] / found["cost"]["update_seconds"]
        return max(map(int, found["best_of"])), round(projected)

    assert settings() == (16, 0)  # the run's, whose rl phase has no updates
    assert settings("rl.samples=12") == (24, 0)
    assert settings("hull-long", "rl.samples=10", "rl.batch_size=8") == (20, 4_000)
