"""A sweep tries what it drew, chooses on validation, and goes on after being stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import rlseq
from rlseq.config.distributions import draw_points, split_distributions
from rlseq.config.errors import UserError
from rlseq.config.load import load_config
from rlseq.training.run_directory import RunDirectory, RunError
from rlseq.training.sweep import Sweep, is_trained, validations
from tests.cli.test_commands import TINY, assert_same_weights, done
from tests.pages import PYTHON, blocks

SMALL = [*TINY, "task.train_size=64", "evaluation.samples_shown=0"]
RATE = "rl.optimizer.learning_rate=loguniform(1e-4, 1e-2)"


@pytest.fixture(scope="module")
def sweep(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweeps") / "sweep"
    done("sweep", "hull", *SMALL, RATE, "rl.samples=choice(2, 3)", "--trials", 3, "--jobs", 2, "--run", path)
    return path


def test_every_trial_is_a_run_and_the_best_on_validation_is_compared(sweep: Path) -> None:
    made = Sweep.open(sweep)
    results = made.results()
    assert results.keys() == {0, 1, 2} and (sweep / "mle" / "checkpoints" / "mle" / "best").exists()
    for trial, point in enumerate(made.points):
        run = rlseq.Run(made.run(trial))
        assert f"{run.config.rl.optimizer.learning_rate!r}" == point[0].split("=")[1]
        assert run.comparison is None  # held-out instances are not looked at
    mle, rl = json.loads((sweep / "study.json").read_text())["arms"]
    assert mle["runs"] == ["mle"] and mle["tried"] == 1 and rl["tried"] == 3
    best = int(Path(rl["runs"][0]).name)
    assert results[best] == max(results.values()) and rl["selected"] == dict(p.split("=") for p in made.points[best])
    report = json.loads((sweep / "report" / "comparison.json").read_text())
    assert "chosen on validation among 3 settings" in report["arms"][1]["selection"][0]
    assert not (sweep / "tune").exists()


def test_a_trial_is_what_its_settings_give_by_themselves(sweep: Path, tmp_path: Path) -> None:
    made = Sweep.open(sweep)
    trial = next(trial for trial in range(3) if is_trained(made.run(trial)))
    keys = [*SMALL, *made.points[trial]]
    alone = rlseq.train("hull", keys, source=sweep / "mle", run=tmp_path / "alone", console=False)
    assert_same_weights(alone.best, rlseq.Run(made.run(trial)).best)


def test_a_sweep_goes_on_with_what_is_missing(sweep: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(sweep, again, symlinks=True)
    shutil.rmtree(again / "trials" / "2")
    (again / "study.json").unlink()
    found = rlseq.sweep(resume=again, console=False)
    assert found.results().keys() == {0, 1, 2} and (again / "study.json").exists()
    for trial in range(3):  # which of them ASHA stops depends on who comes first; what a trial does does not
        runs = (directory / "trials" / str(trial) for directory in (sweep, again))
        first, second = (validations(run, "accuracy", "rl") for run in runs)
        shorter = min(len(first), len(second))
        assert first[:shorter] == second[:shorter] and (trial == 2 or len(second) >= len(first))


def test_trials_have_an_mle_of_their_own_if_it_is_swept_and_one_that_fails_ends_no_sweep(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ["mle.optimizer.learning_rate=choice(1e-3, 1e38)", "mle.max_recoveries=0", "seed=3"]
    made = rlseq.sweep("hull", [*SMALL, *keys], run=tmp_path / "sweep", trials=3)
    values = [point[0].split("=")[1] for point in made.points]
    assert {*values} == {"1e-3", "1e38"}  # by the seed
    assert made.results().keys() == {trial for trial, value in enumerate(values) if value == "1e-3"}
    told = capsys.readouterr().out
    assert f"trial {values.index('1e38')}, mle.optimizer.learning_rate=1e38: failed: " in told
    best = f"{json.loads((made.path / 'study.json').read_text())['arms'][1]['validation'][0]:.2f}"
    assert f"mle.optimizer.learning_rate=1e-3: accuracy {best} at best after" in told
    mle, rl = json.loads((tmp_path / "sweep" / "study.json").read_text())["arms"]
    assert mle["runs"] == [f"{rl['runs'][0]}/checkpoints/mle"] and mle["tried"] == rl["tried"] == 3


def test_a_signal_ends_trials_and_the_sweep_goes_on_with_them(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their processes are gone, too, even if Ray stays: else the runs would be held when the sweep goes on."""
    path = tmp_path / "the sweep"
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.1):
            if len({saved.parts[-5] for saved in path.glob("trials/*/checkpoints/rl/*/manifest.json")}) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=send, daemon=True).start()
    begun = [*SMALL, "rl.samples=choice(2, 3)", "rl.updates=100000", "rl.patience=null"]
    try:
        with pytest.raises(rlseq.Stopped) as caught:
            rlseq.sweep("hull", begun, run=path, trials=2, jobs=2)
    finally:
        ended.set()
    assert str(caught.value) == f"stopped by SIGTERM; go on with: rlseq sweep --resume '{path}'"
    assert "at best after" not in capsys.readouterr().out  # no trial has come to its end
    deadline, held = time.monotonic() + 60, {0, 1}
    while held:
        assert time.monotonic() < deadline
        for trial in [*held]:
            with suppress(RunError):
                RunDirectory.open(path / "trials" / str(trial)).close()
                held.remove(trial)
        time.sleep(0.1)


def test_the_pages_trial_of_ray_tune_runs(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of Ray's, off the main thread, in which nothing else starts Ray."""
    (example,) = (block for block in blocks(PYTHON, "python") if "from ray import tune" in block)
    (tmp_path / "tiny.yaml").write_text(json.dumps(load_config("hull", SMALL).model_dump(mode="json")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    code = example.replace('"hull"', f'"{tmp_path / "tiny.yaml"}"').replace(
        "tune.Tuner(trial,", f"tune.Tuner(trial, run_config=tune.RunConfig(verbose=0, storage_path={str(tmp_path)!r}),"
    )
    found: dict[str, Any] = {}
    exec(code, found)
    assert len(found["results"]) == 2 and not found["results"].errors
    assert 1e-4 <= found["results"].get_best_result("score", "max").config["rl.optimizer.learning_rate"] <= 1e-2
    assert len(list(tmp_path.glob("runs/*/report/comparison.json"))) == 2


# -------------------------------------------------------------------------------------------------------- distributions
def test_points_lie_within_and_do_not_depend_on_how_many_there_are() -> None:
    texts = ["rl.a=uniform(-1, 2)", "rl.b=loguniform(1e-5, 1e-3)", "mle.c=randint(2, 5)", "policy.d=choice([1, 2], x)"]
    plain, found = split_distributions(["seed=1", "rl.e={type: ppo}", *texts])
    points = draw_points(found, 200, seed=0)
    assert plain == ["seed=1", "rl.e={type: ppo}"] and points[:3] == draw_points(found, 3, seed=0)
    assert points != draw_points(found, 200, seed=1)
    columns = [[each.split("=")[1] for each in column] for column in zip(*points, strict=True)]
    assert all(-1 <= float(value) <= 2 for value in columns[0])
    assert all(1e-5 <= float(value) <= 1e-3 for value in columns[1])
    assert 70 < sum(float(value) < 1e-4 for value in columns[1]) < 130
    assert {*columns[2]} == {"2", "3", "4"} and {*columns[3]} == {"[1, 2]", "x"}


WRONG = {
    "lognormal(0, 1)": "no distribution 'lognormal'",
    "unifrom(0, 1)": "did you mean 'uniform'?",
    "uniform(0)": "give two numbers, uniform(low, high)",
    "uniform(a, b)": "give two numbers",
    "uniform(1, nan)": "give finite numbers",
    "uniform(2, 1)": "the lower one first",
    "loguniform(0, 1)": "give numbers above 0",
    "randint(0.5, 2)": "give two whole numbers",
    "choice(1)": "give two values or more",
    "__import__(os)": "no distribution '__import__'",
}


def test_all_that_is_wrong_with_distributions_is_told_at_once(tmp_path: Path) -> None:
    keys = [f"rl.temperature={text}" for text in WRONG]
    with pytest.raises(UserError) as caught:
        rlseq.sweep("hull", [*keys, "task.max_points=randint(5, 9)"], run=tmp_path / "sweep")
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == len(WRONG) + 1
    assert all(text in line and why in line for line, (text, why) in zip(lines, WRONG.items(), strict=False))
    assert "keys of mle, rl, policy can be swept" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, []), "give a CONFIG"),
        (("hull", ["seed=1"]), "no key has a distribution"),
        (("hull", ["rl.temperature=uniform(-2, -1)"]), "rl.temperature"),
        (("hull", ["rl.temprature=uniform(1, 2)"]), "did you mean 'temperature'?"),
        (("hull", [RATE, "rl.updates=0"]), "give both phases updates"),
        (("hull", [RATE, "compute.runners=2"]), "set compute.runners and compute.learners to 0"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_made(
    arguments: tuple[str | None, list[str]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message.replace("?", ".")):
        rlseq.sweep(*arguments, run=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_arguments_that_do_not_go_together_are_named(sweep: Path) -> None:
    with pytest.raises(UserError, match="exists and is not overwritten: go on with rlseq sweep --resume"):
        rlseq.sweep("hull", [*SMALL, RATE], run=sweep)
    with pytest.raises(UserError, match="resume takes the configuration from the sweep"):
        rlseq.sweep("hull", resume=sweep)
    with pytest.raises(UserError, match="is no sweep"):
        rlseq.sweep(resume=sweep / "mle")
