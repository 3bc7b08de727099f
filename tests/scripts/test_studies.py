"""The program behind the tables that compare settings: settings, resumption, and documents in step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import blocks
import objectives_study
import studies
import study_runs
from rlseq.cli import app
from rlseq.config.load import load_config
from rlseq.training.forcing import reference_probability
from rlseq.training.study import last_meta

OBJECTIVES: dict[str, Any] = {
    "command": "python scripts/studies.py objectives",
    "commit": "c0ffee" * 7,
    "hardware": "2 × Some CPU",
    "start": 76.26,
    "arms": [
        {"name": objectives_study.UNIT, "accuracy": [80.0, 81.0], "at_the_end": [80.5, 80.5], "grad_variance": [2],
         "cost": 0.2, "updates": 1000, "cpu_seconds": [201, 203]},
        {"name": "other", "accuracy": [76.0], "at_the_end": [70.0], "grad_variance": [], "cost": 0.3,
         "updates": 667, "cpu_seconds": [200]},
    ],
}  # fmt: skip


def test_every_arm_has_settings_that_are_accepted_and_a_run_of_its_own() -> None:
    of_rl = [arm for arm in objectives_study.OBJECTIVES if arm.control is None]
    configs = [load_config("hull", [*objectives_study.BUDGET, *arm.settings]) for arm in of_rl]
    assert not any(arm.settings for arm in objectives_study.OBJECTIVES if arm.control)
    assert {config.rl.samples for config in configs} == {8}
    assert len({config.rl.model_dump_json() for config in configs}) == len(configs)
    slugs = [arm.slug for arm in objectives_study.OBJECTIVES]
    assert len(set(slugs)) == len(slugs) and all(slug.replace("-", "").replace("_", "").isalnum() for slug in slugs)


@pytest.mark.parametrize("task", studies.MLE_UPDATES)
def test_schedules_fall_from_one_to_four_fifths(task: str) -> None:
    updates = studies.MLE_UPDATES[task]
    schedules = [load_config(task, arm.settings).mle.scheduled_sampling for arm in studies.exposure_arms(task)]
    falling = [schedule for schedule in schedules if schedule.schedule != "none"]
    assert [schedule.schedule for schedule in falling] == ["linear", "exponential", "inverse_sigmoid"]
    for schedule in falling:
        assert reference_probability(schedule, 0) == pytest.approx(1.0, abs=0.005)
        assert reference_probability(schedule, updates) == pytest.approx(0.8, abs=0.005)


def test_tables_show_what_was_measured() -> None:
    lines = objectives_study.objectives_table(OBJECTIVES)
    assert lines[2] == "| the mle checkpoint | 76.26 |  |  |  |  |  |"
    assert lines[3] == f"| {objectives_study.UNIT} | 80.50 ± 0.71 | 80.50 ± 0.00 | 2.000 | 1.00 | 1,000 | 202 ± 1 |"
    assert lines[4] == "| other | 76.00 | 70.00 | – | 1.50 | 667 | 200 |"
    metrics = {"BLEU": 36.5, "reward": 0.36, "length": 13.125}
    beams = studies.beams_table({"phases": ["mle"], "arms": [{"name": "greedy", "mle": metrics}]})
    assert beams[2:] == ["| greedy | 36.50 | 0.3600 | 13.12 |"]
    arm = {
        "name": "rl",
        "teacher_forced": 90.04,
        "free_running": 70.0,
        "difference": 20.04,
        "metrics": {"accuracy": 50.0},
    }
    exposure = studies.exposure_table({"tasks": [{"name": "hull", "arms": [arm, arm]}]})
    assert exposure[2:] == ["| hull | rl | 90.0 | 70.0 | 20.0 | 50.0 |", "|  | rl | 90.0 | 70.0 | 20.0 | 50.0 |"]


def test_a_stale_document_is_noticed_and_rewritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, made = tmp_path / "docs" / "objectives.md", tmp_path / "studies"
    made.mkdir()
    document.parent.mkdir()
    document.write_text("before\n<!-- objectives:begin -->\nold\n<!-- objectives:end -->\nafter\n")
    assert studies.rewrite(tmp_path, made, check=True) == 0  # nothing was studied
    (made / "objectives.json").write_text(json.dumps(OBJECTIVES))
    assert studies.rewrite(tmp_path, made, check=True) == 1 and "old" in document.read_text()
    assert studies.rewrite(tmp_path, made, check=False) == 0
    text = document.read_text()
    assert "| other | 76.00 |" in text and "commit c0ffeec0ffee, 2 × Some CPU" in text and "old" not in text
    assert text.startswith("before\n") and text.endswith("after\n")
    assert studies.rewrite(tmp_path, made, check=True) == 0
    assert capsys.readouterr().err.splitlines() == [
        "docs/objectives.md is stale: run python scripts/studies.py tables", "docs/objectives.md is rewritten"
    ]  # fmt: skip


def test_the_documents_are_in_step_with_the_studies() -> None:
    assert studies.rewrite(blocks.ROOT, studies.STUDIES, check=True) == 0


def test_a_document_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="must have <!-- beams:begin --> and <!-- beams:end --> once each"):
        blocks.replace_block("no markers", "beams", ["line"])


def test_a_run_is_made_once_and_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[tuple[str, ...]] = []
    monkeypatch.setattr(study_runs, "rlseq", lambda *arguments: called.append(arguments))
    run = tmp_path / "run"
    assert study_runs.trained(run, ["hull", "seed=1"]) == run
    run.mkdir()
    (run / "train.log").write_text("INFO run\n")
    study_runs.trained(run, ["hull", "seed=1"])
    (run / "report").mkdir()
    (run / "report" / "curves.png").write_bytes(b"")  # drawn whenever the run is left, and so no sign of its end
    study_runs.trained(run, ["hull", "seed=1"])
    (run / "report" / "comparison.json").write_text("{}")
    study_runs.trained(run, ["hull", "seed=1"])
    resumed = ("train", "--resume", str(run))
    assert called == [("train", "hull", "seed=1", "--run", str(run)), resumed, resumed]


def test_an_evaluation_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = tmp_path / "made.json"

    def rlseq(*arguments: str) -> None:
        assert arguments == ("evaluate", "CKPT", "--beam", "4", "--json", str(made)) and not made.exists()
        made.write_text(json.dumps({"metrics": {"BLEU": 36.5}}))

    monkeypatch.setattr(study_runs, "rlseq", rlseq)
    for _ in range(2):
        assert study_runs.evaluated(Path("CKPT"), made, "--beam", "4") == {"metrics": {"BLEU": 36.5}}


def test_arms_take_the_time_of_the_unit_in_as_many_updates_as_their_costs_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rlseq(*arguments: str) -> None:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, (arguments, result.output)

    monkeypatch.setattr(study_runs, "rlseq", rlseq)
    monkeypatch.setattr(objectives_study, "COST_TURNS", 1)
    monkeypatch.setattr(objectives_study, "BUDGET", ("rl.samples=8", "rl.variance_every=1"))
    monkeypatch.chdir(tmp_path)
    small = ["policy.hidden_size=8", "mle.updates=20", "mle.batch_size=2", "rl.updates=0", "rl.batch_size=4"]
    small += [
        "evaluation.samples_shown=0",
        "evaluation.max_instances=4",
        "evaluation.batch_size=4",
        "task.validation_size=4",
        "task.test_size=4",
    ]
    start = study_runs.trained(tmp_path / "start", ["hull", *small, "log_every=1", "mle.validate_every=20"])
    measured = objectives_study.measured_costs(start, tmp_path / "runs" / "costs.json")
    assert set(measured) == {arm.name for arm in objectives_study.OBJECTIVES} and all(
        cost > 0 for cost in measured.values()
    )
    fixed = dict.fromkeys(measured, 0.5) | {"cross-entropy, going on": 0.1}
    (tmp_path / "runs" / "costs.json").write_text(json.dumps(fixed))
    chosen = [
        "cross-entropy, going on",
        "cross-entropy, one schedule from the start",
        objectives_study.UNIT,
        "ppo, token, as DAPO",
    ]
    result = objectives_study.objectives(start, tmp_path / "runs", [3], 2, chosen)
    arms = {arm["name"]: arm for arm in result["arms"]}
    assert list(arms) == chosen and {name: arm["updates"] for name, arm in arms.items()} == dict(
        zip(chosen, (10, 2, 2, 2), strict=True)
    )
    for arm in arms.values():
        assert len(arm["accuracy"]) == len(arm["at_the_end"]) == 1
        assert len(arm["grad_variance"]) == (0 if "cross-entropy" in arm["name"] else 1)
    for name, length in zip(chosen, (30, 22, 22, 22), strict=True):
        (run,) = (path for path in (tmp_path / "runs").iterdir() if path.name.startswith(slug(name)))
        assert last_meta(run)["update"] == length and run.name.endswith("-seed3")
    assert all(arms[name]["cpu_seconds"][0] > 0 for name in chosen[2:])
    assert objectives_study.objectives_table(result)[2].startswith("| the mle checkpoint | ")
    monkeypatch.setattr(study_runs, "rlseq", lambda *arguments: pytest.fail("trained again"))
    assert objectives_study.objectives(start, tmp_path / "runs", [3], 2, chosen) == result


def slug(name: str) -> str:
    return next(arm.slug for arm in objectives_study.OBJECTIVES if arm.name == name)


def test_arms_that_are_not_there_and_a_table_without_its_unit_are_refused() -> None:
    for names in (["ppo"], ["reinforce, none"]):
        with pytest.raises(SystemExit, match="--arms: give"):
            studies.main(["objectives", "--from", "start", "--runs", "runs", "--arms", *names])
