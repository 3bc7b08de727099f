"""Data files that are gone or lie elsewhere: who needs them, and how their new places are given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rlseq.api import training
from tests.cli.test_commands import SMALL_TEXT, assert_same_weights, done, rlseq, text_files
from tests.test_readme import plain_engine

HULL = [
    *("policy.hidden_size=8", "mle.updates=2", "mle.batch_size=4", "rl.updates=2", "rl.batch_size=4", "log_every=1"),
    *("evaluation.samples_shown=0", "compute.threads=1", "task.train_size=null"),
]
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_engine", plain_engine)
        yield


def write_points(directory: Path) -> list[str]:
    """Files of points, and the keys that name them."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, split in enumerate(SPLITS):
        np.save(directory / f"{split}.npy", np.random.default_rng(number).random((12, 5 + number, 2)))
    return [f"task.{split}_file={directory / f'{split}.npy'}" for split in SPLITS]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each task, whose data were moved away since."""
    place = tmp_path_factory.mktemp("moved")
    done("train", "hull", *HULL, *write_points(place / "points"), "--run", place / "hull")
    (place / "texts").mkdir()
    done("train", "translation", *text_files(place / "texts"), *SMALL_TEXT, "--run", place / "text")
    for name in ("points", "texts"):
        (place / name).rename(place / f"{name}-moved")
    return {"hull": place / "hull", "text": place / "text", "place": place}


SOURCES = {"hull": "0.1 0.2 0.9 0.8 0.3 0.7\n", "text": "one two\n"}
GIVEN = {
    "hull": ["task.test_file=points-moved/test.npy"],
    "text": ["task.test_source=texts-moved/test_source", "task.test_target=[texts-moved/test_target]"],
}
MISSING = {"hull": "test.npy: no such file", "text": "test_source"}


@pytest.mark.parametrize("task", SOURCES)
def test_generating_needs_no_data(task: str, trained: dict[str, Path]) -> None:
    assert done("generate", trained[task], input=SOURCES[task]).count("\n") == 1


@pytest.mark.parametrize("task", SOURCES)
def test_evaluating_needs_the_files_of_its_split_alone(
    task: str, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(trained["place"])
    gone = rlseq("evaluate", trained[task])
    assert gone.exit_code == 2 and MISSING[task] in gone.stderr, gone.output
    done("evaluate", trained[task], *GIVEN[task], "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    recorded = next((trained[task] / "report").glob("[ce]*a*on.json"))
    before = json.loads(recorded.read_text())
    before = before["arms"][-1] if "arms" in before else before
    assert found["metrics"] == before["metrics"] and found["instances"] in (5, 12)


def test_arms_are_compared_on_data_given_anew(
    trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(trained["place"])
    arms = [trained["hull"] / "checkpoints" / phase for phase in ("mle", "rl")]
    assert rlseq("compare", *arms, "--resamples", 5).exit_code == 2
    done("compare", *arms, *GIVEN["hull"], "--resamples", 5, "--json", tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["instances"] == 12


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["task.test_file=nowhere.npy"], "task.test_file: no such file"),
        (["task.reward={valid: 2}"], "task.reward={valid: 2}: only data files can be given anew: task.train"),
        (["task.test_source=points-moved/test.npy"], "task.test_source: a task of type convex_hull has no such file"),
        (["task.test_fil=x"], "task.test_fil=x: only data files"),
        (["test.npy"], "'test.npy' is not an override"),
        (["task.test_file={a: 1}"], "task.test_file"),
        (["task.test_file=[points-moved/test.npy]"], "task.test_file"),
    ],
)
def test_what_is_no_data_file_is_refused(
    given: list[str], message: str, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained["place"])
    result = rlseq("evaluate", trained["hull"], *given)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split()), result.output


def test_positions_that_were_not_trained_are_refused_in_the_data_given_anew(tmp_path: Path) -> None:
    keys = [*write_points(tmp_path), *HULL, "policy.decoder.type=fixed_output_lstm"]
    done("train", "hull", *keys, "rl.updates=0", "--run", tmp_path / "run")
    np.save(tmp_path / "larger.npy", np.random.default_rng(0).random((3, 12, 2)))
    large = " ".join(["0.1", "0.2"] * 12)
    for command in (["evaluate", f"task.test_file={tmp_path / 'larger.npy'}"], ["generate"]):
        result = rlseq(command[0], tmp_path / "run", *command[1:], input=large)
        assert result.exit_code == 2, result.output
        assert "has 12 positions, but policy.decoder.type 'fixed_output_lstm' knows the 10 of" in result.stderr


def test_a_run_whose_data_were_moved_goes_on_as_if_they_were_not(tmp_path: Path) -> None:
    keys = [*HULL, "checkpoint.every=1", "checkpoint.keep=10"]
    done("train", "hull", *keys, *write_points(tmp_path / "points"), "--run", tmp_path / "whole")
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "whole", stopped, symlinks=True)
    shutil.rmtree(stopped / "report")
    for phase, update in (("mle", 2), ("rl", 3), ("rl", 4)):  # it was stopped after the first update
        shutil.rmtree(stopped / "checkpoints" / phase / str(update), ignore_errors=True)
    shutil.rmtree(stopped / "checkpoints" / "rl")
    (stopped / "checkpoints" / "mle" / "index.json").unlink()
    (tmp_path / "points").rename(tmp_path / "elsewhere")
    gone = rlseq("train", "--resume", stopped)
    assert gone.exit_code == 2 and all(f"{split}.npy: no such file" in gone.stderr for split in SPLITS), gone.output
    moved = [f"task.{split}_file={tmp_path / 'elsewhere' / f'{split}.npy'}" for split in SPLITS]
    done("train", "--resume", stopped, *moved)
    for phase in ("mle", "rl"):
        assert_same_weights(*(run / "checkpoints" / phase / "latest" for run in (tmp_path / "whole", stopped)))
    reports = (run / "report" / "comparison.json" for run in (tmp_path / "whole", stopped))
    ours, theirs = (json.loads(report.read_text()) for report in reports)
    assert ours["differences"] == theirs["differences"]
