"""The program behind the tables that compare settings: settings, resumption, and documents in step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import blocks
import studies
from rlseq.config.load import load_config
from rlseq.training.forcing import reference_probability

OBJECTIVES: dict[str, Any] = {
    "command": "python scripts/studies.py objectives",
    "commit": "c0ffee" * 7,
    "hardware": "2 × Some CPU",
    "start": 76.26,
    "arms": [
        {"name": studies.UNIT, "accuracy": [80.0, 81.0], "at_the_end": [80.5, 80.5], "grad_variance": [2], "cost": 0.2},
        {"name": "other", "accuracy": [76.0], "at_the_end": [70.0], "grad_variance": [], "cost": 0.3},
    ],
}  # fmt: skip


def test_every_arm_has_settings_that_are_accepted_and_a_run_of_its_own() -> None:
    configs = [load_config("hull", [*studies.BUDGET, *arm.settings]) for arm in studies.OBJECTIVES]
    assert {config.rl.samples for config in configs} == {8}
    assert len({config.rl.model_dump_json() for config in configs}) == len(configs)
    slugs = [arm.slug for arm in studies.OBJECTIVES]
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
    lines = studies.objectives_table(OBJECTIVES)
    assert lines[2] == "| the mle checkpoint | 76.26 |  |  |  |"
    assert lines[3] == f"| {studies.UNIT} | 80.50 ± 0.71 | 80.50 ± 0.00 | 2.000 | 1.00 |"
    assert lines[4] == "| other | 76.00 | 70.00 | – | 1.50 |"
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
    assert capsys.readouterr().out.splitlines() == [
        "docs/objectives.md is stale: run python scripts/studies.py tables", "docs/objectives.md is rewritten"
    ]  # fmt: skip


def test_the_documents_are_in_step_with_the_studies() -> None:
    assert studies.rewrite(studies.ROOT, studies.STUDIES, check=True) == 0


def test_a_document_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="must have <!-- beams:begin --> and <!-- beams:end --> once each"):
        blocks.replace_block("no markers", "beams", ["line"])


def test_a_run_is_made_once_and_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[tuple[str, ...]] = []
    monkeypatch.setattr(studies, "rlseq", lambda *arguments: called.append(arguments))
    run = tmp_path / "run"
    assert studies.trained(run, ["hull", "seed=1"]) == run
    run.mkdir()
    (run / "train.log").write_text("INFO run\n")
    studies.trained(run, ["hull", "seed=1"])
    (run / "report").mkdir()
    (run / "report" / "curves.png").write_bytes(b"")  # drawn whenever the run is left, and so no sign of its end
    studies.trained(run, ["hull", "seed=1"])
    (run / "report" / "comparison.json").write_text("{}")
    studies.trained(run, ["hull", "seed=1"])
    resumed = ("train", "--resume", str(run))
    assert called == [("train", "hull", "seed=1", "--run", str(run)), resumed, resumed]


def test_an_evaluation_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = tmp_path / "made.json"

    def rlseq(*arguments: str) -> None:
        assert arguments == ("evaluate", "CKPT", "--beam", "4", "--json", str(made)) and not made.exists()
        made.write_text(json.dumps({"metrics": {"BLEU": 36.5}}))

    monkeypatch.setattr(studies, "rlseq", rlseq)
    for _ in range(2):
        assert studies.evaluated(Path("CKPT"), made, "--beam", "4") == {"metrics": {"BLEU": 36.5}}


def test_costs_are_those_of_each_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "COST_TURNS", 1)
    small = ["policy.hidden_size=8", "mle.updates=20", "mle.batch_size=2", "rl.updates=0"]
    small += ["evaluation.max_instances=4", "evaluation.batch_size=4", "task.validation_size=4", "task.test_size=4"]
    monkeypatch.chdir(tmp_path)
    run = studies.trained(tmp_path / "run", ["hull", *small])
    assert studies.finished(run)
    monkeypatch.setattr(studies, "BUDGET", (*studies.BUDGET, "policy.hidden_size=8", "rl.batch_size=4"))
    assert all(cost > 0 for cost in studies.costs(run, studies.OBJECTIVES))
    assert len(studies.logged(run, "mle", "train/loss")) == 1 and studies.logged(run, "rl", "train/loss") == []
