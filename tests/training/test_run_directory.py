"""A run directory is never overwritten, has one writer, and says what made it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq.config.load import load_config
from rlseq.training import provenance
from rlseq.training.checkpoint import CheckpointError, load_checkpoint
from rlseq.training.finding import resolve_checkpoint
from rlseq.training.run_directory import RunDirectory, RunError
from tests.support import checkpoint_meta

CONFIG = load_config("hull", ["checkpoint.keep=2"])


def save(run: RunDirectory, phase: Any, update: int, best: bool = False) -> Path:
    return run.save(phase, update, {"policy/a": np.array([update])}, checkpoint_meta(phase, update), best=best)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(CONFIG, tmp_path)


def checkpoints(run: RunDirectory, phase: str) -> list[int]:
    return sorted(int(path.name) for path in (run.path / "checkpoints" / phase).iterdir() if path.name.isdigit())


def test_runs_made_in_the_same_second_get_directories_of_their_own(tmp_path: Path) -> None:
    runs = [RunDirectory.create(CONFIG, tmp_path) for _ in range(4)]
    assert len({run.path for run in runs}) == 4
    assert all(run.path.name.startswith("hull-2") for run in runs)


def test_a_directory_that_exists_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(RunError, match=r"mine exists and is not overwritten: resume it"):
        RunDirectory.create(CONFIG, path=tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/hull-.* cannot be made"):
        RunDirectory.create(CONFIG, tmp_path / "file")


def test_opening_gives_back_the_configuration(run: RunDirectory) -> None:
    run.close()
    assert RunDirectory.open(run.path).config == CONFIG


def test_opening_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run directory: it has no config\.yaml"):
        RunDirectory.open(tmp_path)


def test_the_environment_is_recorded_at_the_start_and_at_each_resume(run: RunDirectory) -> None:
    run.close()
    RunDirectory.open(run.path).close()
    record = json.loads((run.path / "environment.json").read_text())
    assert record["versions"]["torch"].startswith("2.") and record["versions"]["rlseq"] and record["host"]["cores"] >= 1
    assert len(record["resumed"]) == 1 and record["resumed"][0]["versions"] == record["versions"]


def test_a_package_that_is_not_installed_is_recorded_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package"))
    recorded = provenance.versions.__wrapped__()
    assert recorded["torch"].startswith("2.") and recorded["no-such-package"] == "not installed"


def test_a_second_writer_in_another_process_is_refused_until_the_first_is_done(run: RunDirectory) -> None:
    code = "import sys, pathlib; from rlseq.training.run_directory import *\n"
    code += "try: RunDirectory.open(pathlib.Path(sys.argv[1]))\nexcept RunError as error: sys.exit(str(error))"
    second = [sys.executable, "-c", code, str(run.path)]
    refused = subprocess.run(second, capture_output=True, text=True)
    assert refused.returncode == 1 and "is being written by another process (pid " in refused.stderr
    run.close()
    assert subprocess.run(second).returncode == 0


def test_latest_and_best_follow_and_the_rest_is_pruned(run: RunDirectory) -> None:
    for update in range(1, 8):
        save(run, "mle", update * 100, best=update == 2)
    assert checkpoints(run, "mle") == [200, 600, 700]
    assert run.checkpoint("mle", "best").name == "200" and run.checkpoint("mle", "latest").name == "700"
    links = {name: (run.path / "checkpoints" / "mle" / name).readlink() for name in ("best", "latest")}
    assert links == {"best": Path("200"), "latest": Path("700")}  # relative: the run can be moved
    save(run, "mle", 800, best=True)
    assert checkpoints(run, "mle") == [700, 800]


def test_a_moved_run_still_finds_its_checkpoints(run: RunDirectory, tmp_path: Path) -> None:
    save(run, "mle", 5, best=True)
    run.close()
    moved = run.path.rename(tmp_path / "moved")
    assert load_checkpoint(moved / "checkpoints" / "mle" / "best").meta["update"] == 5


def test_checkpoints_that_are_not_there_are_named(run: RunDirectory) -> None:
    for which in ("best", "latest", 7):
        with pytest.raises(CheckpointError, match=f"has no {which} checkpoint of phase rl"):
            run.checkpoint("rl", which)
    assert run.latest() is None


def test_a_checkpoint_carries_the_artifacts(run: RunDirectory) -> None:
    (run.artifacts / "vocabulary.txt").write_text("a b c")
    assert (load_checkpoint(save(run, "mle", 1)).artifacts / "vocabulary.txt").read_text() == "a b c"


def test_the_newest_checkpoint_is_rls_once_there_is_one(run: RunDirectory) -> None:
    save(run, "mle", 900)
    assert run.latest() == run.path / "checkpoints" / "mle" / "900"
    save(run, "rl", 1000)
    assert run.latest() == run.path / "checkpoints" / "rl" / "1000"


def test_a_path_means_the_best_checkpoint_it_holds_rl_first(run: RunDirectory) -> None:
    best, _ = save(run, "mle", 100, best=True), save(run, "mle", 200)
    for path in (run.path, run.path / "checkpoints", run.path / "checkpoints" / "mle", best):
        assert resolve_checkpoint(path) == best
    assert resolve_checkpoint(run.path / "checkpoints" / "mle" / "latest").name == "200"
    save(run, "rl", 300)
    assert resolve_checkpoint(run.path).name == "100"  # rl has no best yet
    save(run, "rl", 400, best=True)
    assert resolve_checkpoint(run.path).name == "400"
    assert resolve_checkpoint(run.path / "checkpoints" / "mle").name == "100"


def test_a_path_without_checkpoints_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        resolve_checkpoint(run.path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        resolve_checkpoint(tmp_path / "nowhere")


def test_links_a_kill_left_behind_are_mended_on_opening(run: RunDirectory) -> None:
    save(run, "mle", 100, best=True)
    save(run, "mle", 200, best=True)
    place = run.path / "checkpoints" / "mle"
    save(run, "mle", 300, best=True)
    for name in ("latest", "best"):
        (place / name).unlink()
        (place / name).symlink_to("200")
    run.close()
    opened = RunDirectory.open(run.path)
    assert (place / "latest").readlink() == (place / "best").readlink() == Path("300")
    assert opened.latest() == place / "300"


def test_going_on_passes_over_a_damaged_checkpoint_says_why_and_keeps_it(run: RunDirectory) -> None:
    save(run, "mle", 100, best=True)
    damaged = save(run, "mle", 200, best=True)
    (damaged / "state.safetensors").write_bytes(b"")
    run.close()
    opened = RunDirectory.open(run.path)
    assert opened.latest() == opened.checkpoint("mle", "best") == damaged.with_name("100")
    (told,) = opened.passed_over
    assert "kept as 200.damaged" in told and "state.safetensors: has 0 bytes" in told
    assert (damaged.with_name("200.damaged") / "policy.safetensors").is_file()


def test_a_run_without_a_sound_checkpoint_is_refused_and_left_as_it_is(run: RunDirectory) -> None:
    damaged = save(run, "mle", 200)
    (damaged / "meta.json").write_bytes(b"{")
    run.close()
    with pytest.raises(CheckpointError, match=r"meta\.json: has 1 bytes"):
        RunDirectory.open(run.path)
    assert checkpoints(run, "mle") == [200]


def test_rewinding_drops_what_was_logged_beyond_and_a_line_a_kill_cut_short(run: RunDirectory) -> None:
    for update in (10, 20, 30):
        run.append_metrics({"update": update, "phase": "mle", "train/loss": update / 10})
        (run.path / "samples" / f"{update}.txt").write_text("")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"update": 40, "pha')
    assert [record["update"] for record in run.read_metrics()] == [10, 20, 30]
    run.rewind(20)
    run.append_metrics({"update": 25, "phase": "mle"})
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [10, 20, 25]
    assert sorted(path.name for path in (run.path / "samples").iterdir()) == ["10.txt", "20.txt"]
