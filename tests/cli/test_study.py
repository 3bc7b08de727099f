"""A study trains what its directory lacks, chooses on validation, and goes on after being stopped anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import rlseq as rlseq_package
from rlseq.api import training
from rlseq.api.studying import TrainingsFailed
from rlseq.cli import app, study
from rlseq.config.controls import CONTROLS
from rlseq.training import jobs
from rlseq.training.checkpoint import MANIFEST, META, save_checkpoint
from rlseq.training.files import link
from rlseq.training.finding import resolve_checkpoint
from rlseq.training.study import Job, Study, StudyError, finished, split_grid
from tests.cli.test_commands import TINY, plain_engine
from tests.support import checkpoint_meta

SETTINGS = [*TINY, "task.train_size=64", "task.rl_generated=true", "evaluation.samples_shown=0"]  # nothing is drawn
CPU_SECONDS = {"mle": 3.0, "rl": 4.5}
LocalProcess, report = jobs.LocalProcess, study.report  # before they are replaced


class Pretended:
    """A training that is over once it was begun: it leaves the files that a study reads.

    Its validation score is the number of samples that it was given. A run named in ``fails`` is begun and not finished.
    """

    begun: ClassVar[list[list[str]]] = []
    fails: ClassVar[set[str]] = set()

    def __init__(self, arguments: list[str], log: Path, trusted: str = "") -> None:
        self.begun.append(arguments)
        place = Path(arguments[-1])
        self.code = int(log.stem in self.fails)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("error: it was not to be\n" if self.code else "done\n")
        phase = "rl" if "--from" in arguments else "mle"
        self._save(place / "checkpoints" / phase, phase, arguments)
        if not self.code:
            (place / "report").mkdir()
            (place / "report" / "evaluation.json").write_text("{}")

    @staticmethod
    def _save(phase_place: Path, phase: str, arguments: list[str]) -> None:
        (phase_place / "6").mkdir(parents=True, exist_ok=True)
        samples = [each.split("=")[1] for each in arguments if each.startswith("rl.samples=")]
        spent = {name: CPU_SECONDS[name] if name == phase else 0.0 for name in ("mle", "rl")}
        meta = {"phase_update": 6, "trainer": {"best": float((samples or ["1"])[0]), "cpu_seconds": spent}}
        (phase_place / "6" / META).write_text(json.dumps(meta))
        (phase_place / "6" / MANIFEST).write_text("{}")
        link(phase_place / "best", "6")

    def poll(self) -> int:
        return self.code

    def stop(self) -> None:
        raise AssertionError("it is over already")


class InThisProcess(Pretended):
    """A real training by the plain engine."""

    def __init__(self, arguments: list[str], log: Path, trusted: str = "") -> None:
        result = CliRunner().invoke(app, arguments)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(result.output)
        self.code = result.exit_code


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Pretended]]:
    monkeypatch.setattr(training, "make_engine", plain_engine)
    monkeypatch.setattr(study, "report", lambda made: None)
    monkeypatch.setattr(jobs, "LocalProcess", Pretended)
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(Pretended, "begun", [])
    monkeypatch.setattr(Pretended, "fails", set())
    yield Pretended


def rlseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    result = rlseq(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def record(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "study.json").read_text())
    return found


def trained(directory: Path) -> list[str]:
    return sorted(str(run.relative_to(directory)) for run in directory.glob("seed*/*") if finished(run))


def test_every_control_is_trained_from_the_mle_checkpoint_of_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End to end, with real trainings and the real report."""
    monkeypatch.setattr(jobs, "LocalProcess", InThisProcess)
    monkeypatch.setattr(study, "report", report)
    path = tmp_path / "study"
    output = done("study", "hull", *SETTINGS, "--seeds", 1, "--controls", ",".join(CONTROLS), "--run", path)
    arms = ["mle", "rl", *CONTROLS]
    assert trained(path) == sorted(f"seed0/{arm}" for arm in arms)
    start = str(resolve_checkpoint(path / "seed0" / "mle"))
    for arm in arms[1:]:
        made = json.loads((path / "seed0" / arm / "environment.json").read_text())
        assert made["forked_from"] == (None if CONTROLS.get(arm) and CONTROLS[arm].phase == "mle" else start)
    found = record(path)
    assert [arm["name"] for arm in found["arms"]] == arms
    assert [arm["role"] for arm in found["arms"]] == ["mle", "reward", *["control"] * len(CONTROLS)]
    assert all((path / run).is_dir() for arm in found["arms"] for run in arm["runs"])
    assert found["equal_time_updates"] > 6
    assert "gain attributable to the reward" in output
    result = json.loads((path / "report" / "comparison.json").read_text())
    assert [(arm["name"], arm["role"]) for arm in result["arms"]] == [(a["name"], a["role"]) for a in found["arms"]]
    assert result["attributable"][0]["metric"] == result["primary"] == "accuracy"
    assert "Gain attributable to the reward" in (path / "report" / "comparison.html").read_text()


def test_equal_time_is_that_of_both_phases_by_what_the_arms_recorded(
    tmp_path: Path, pretended: type[Pretended]
) -> None:
    path = tmp_path / "study"
    done("study", "hull", *SETTINGS, "--seeds", 2, "--controls", "equal_time", "--run", path)
    assert record(path)["equal_time_updates"] == round(6 * (3.0 + 4.5) / 3.0)
    assert all("mle.updates=15" in arguments for arguments in pretended.begun[-2:])


def test_equal_time_can_be_given_and_waits_for_nobody_then(tmp_path: Path) -> None:
    made = Study.create(tmp_path / "study", "hull", SETTINGS, seeds=1, controls=["equal_time"], equal_time_updates=9)
    (job,) = [job for job in made.jobs() if job.arm == "equal_time"]
    assert job.after == [] and "mle.updates=9" in job.arguments()


@pytest.mark.parametrize("stopped", ["seed0-mle", "seed1-rl", "seed1-constant_reward", "seed0-equal_time"])
def test_a_stopped_study_does_only_what_is_missing_and_ends_as_if_it_had_not_been(
    tmp_path: Path, pretended: type[Pretended], stopped: str
) -> None:
    path, whole = tmp_path / "study", tmp_path / "whole"
    options = ["--seeds", 2, "--controls", "constant_reward,equal_time"]
    pretended.fails = {stopped}
    result = rlseq("study", "hull", *SETTINGS, *options, "--run", path)
    assert result.exit_code == 1
    assert f"{stopped}: error: it was not to be" in result.output
    assert f"rlseq study --resume {path}" in result.output
    before = trained(path)
    assert len(before) < 8
    pretended.fails = set()
    pretended.begun.clear()
    done("study", "--resume", path)
    assert len(pretended.begun) == 8 - len(before)
    assert ["train", "--resume", str(path / stopped.replace("-", "/"))] in pretended.begun
    done("study", "hull", *SETTINGS, *options, "--run", whole)
    ours, theirs = record(path), record(whole)
    assert ours["arms"] == theirs["arms"] and ours["equal_time_updates"] == theirs["equal_time_updates"]


def test_a_run_that_was_begun_goes_on_and_one_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    job = Job("mle", 0, tmp_path / "run", lambda: ["hull", *SETTINGS], [])
    assert job.command() == ["train", "hull", *SETTINGS, "--run", str(job.run)]
    job.run.mkdir()
    (job.run / "train.log").write_text("killed before it saved anything")
    assert job.command()[1] == "hull" and not job.run.exists()
    place, tensors = job.run / "checkpoints" / "mle" / "3", {"policy/a": np.zeros(1)}
    save_checkpoint(place, tensors=tensors, meta=checkpoint_meta(), artifacts=lambda _: None)
    assert job.command() == ["train", "--resume", str(job.run)]
    (place / MANIFEST).unlink()
    with pytest.raises(StudyError, match="none of its checkpoints can be read"):
        job.command()
    assert place.exists()


def test_a_grid_is_chosen_from_on_validation_and_controls_have_the_choice(
    tmp_path: Path, pretended: type[Pretended]
) -> None:
    path = tmp_path / "study"
    grid = ["rl.samples=2,8,4", "rl.optimizer.betas=[0.9, 0.99]", "mle.batch_size=8,4"]
    done("study", "hull", *SETTINGS, *grid, "--seeds", 2, "--controls", "shuffled_reward,equal_time", "--run", path)
    arms = {arm["name"]: arm for arm in record(path)["arms"]}
    assert {name: arm["tried"] for name, arm in arms.items()} == {
        **{"mle": 2, "rl": 3},
        **{"shuffled_reward": 1, "equal_time": 2},
    }
    assert arms["rl"]["selected"] == {"rl.samples": "8"}
    assert arms["rl"]["runs"] == ["seed0/rl@rl.samples=8", "seed1/rl@rl.samples=8"]
    controls = [arguments for arguments in pretended.begun if "shuffled_reward" in arguments]
    assert len(controls) == 2 and all("rl.samples=8" in arguments for arguments in controls)


def test_a_study_can_be_given_more_seeds_and_controls(tmp_path: Path, pretended: type[Pretended]) -> None:
    path = tmp_path / "study"
    done("study", "hull", *SETTINGS, "--seeds", 1, "--controls", "equal_time", "--run", path)
    updates = record(path)["equal_time_updates"]
    pretended.begun.clear()
    pretended.fails = {"seed1-rl"}
    assert rlseq("study", "--resume", path, "--seeds", 2, "--controls", "shuffled_reward").exit_code == 1
    assert [arm["name"] for arm in record(path)["arms"]] == ["mle", "rl", "equal_time"]  # what is finished is kept
    pretended.fails = set()
    done("study", "--resume", path)  # it goes on with the seeds and controls it was given
    assert [arm["name"] for arm in record(path)["arms"]] == ["mle", "rl", "equal_time", "shuffled_reward"]
    assert all(len(arm["runs"]) == 2 for arm in record(path)["arms"])
    assert record(path)["equal_time_updates"] == updates


def test_seeds_are_not_taken_away(tmp_path: Path) -> None:
    done("study", "hull", *SETTINGS, "--seeds", 2, "--controls", "none", "--run", tmp_path / "study")
    result = rlseq("study", "--resume", tmp_path / "study", "--seeds", 1)
    assert result.exit_code == 2 and "has 2 seeds already" in result.output


def test_seeds_are_not_added_to_a_choice_that_they_could_change(tmp_path: Path) -> None:
    path = tmp_path / "study"
    done("study", "hull", *SETTINGS, "rl.samples=2,4", "--seeds", 1, "--controls", "none", "--run", path)
    result = rlseq("study", "--resume", path, "--seeds", 2)
    assert result.exit_code == 2 and "rl.samples" in result.output and "begin a new study" in result.output


def test_commas_inside_brackets_and_of_other_sections_are_part_of_the_value() -> None:
    overrides = [
        "rl.optimizer.betas=[0.9,0.99]",
        "name=a,b",
        "mle.batch_size=8,16",
        "rl.objective={type: ppo, clip: 0.1}",
    ]
    plain, grid = split_grid(overrides)
    assert plain == [overrides[0], overrides[1], overrides[3]]
    assert grid == {"mle.batch_size": ["8", "16"]}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["hull", "--controls", "equal_tim,constant_reward"], "did you mean 'equal_time'"),
        (["hull"], "--run DIR"),
        (["--resume", "somewhere", "hull"], "leave out CONFIG"),
        (["translation", "--controls", "same_instances", "--run", "new"], "nothing to control"),
        (["hull", "rl.updates=0", "--run", "new"], "give both phases updates"),
        (["hull", "rl.samples=4,none", "--run", "new"], "rl.samples"),
        (["--resume", "nowhere"], "is no study"),
        (["--resume", "nowhere", "--equal-time-updates", "9"], "begin a new study"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = rlseq("study", *arguments)
    assert result.exit_code == 2
    assert complaint in result.output
    assert not (tmp_path / "new").exists()


def test_a_study_is_not_overwritten(tmp_path: Path) -> None:
    Study.create(tmp_path / "study", "hull", SETTINGS, seeds=1, controls=[])
    with pytest.raises(StudyError, match="--resume"):
        Study.create(tmp_path / "study", "hull", SETTINGS, seeds=1, controls=[])


def test_a_process_of_its_own_prints_into_its_log_and_has_the_exit_code_of_the_command(tmp_path: Path) -> None:
    process = LocalProcess(["configs", "show", "no-such"], tmp_path / "logs" / "a.log")
    while process.poll() is None:
        pass
    assert process.poll() == 2
    assert "no config of this name" in (tmp_path / "logs" / "a.log").read_text()


def test_a_study_from_python_is_that_of_the_command(tmp_path: Path, pretended: type[Pretended]) -> None:
    options = {"seeds": 2, "controls": ["equal_time"]}
    made = rlseq_package.study("hull", SETTINGS, run=tmp_path / "api", console=False, **options)  # type: ignore[arg-type]
    done("study", "hull", *SETTINGS, "--seeds", 2, "--controls", "equal_time", "--run", tmp_path / "cli")
    assert made.arms == record(tmp_path / "cli")["arms"]
    pretended.fails = {"seed2-mle"}
    with pytest.raises(TrainingsFailed, match="seed2-mle: error: it was not to be"):
        rlseq_package.study(resume=tmp_path / "api", seeds=3, console=False)
