"""Runs under URIs: trained, killed, read, gone on with elsewhere, while the storage fails or somebody else writes."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner, Result

from rlseq.api.checks import Stopped
from rlseq.api.run import Run
from rlseq.api.train import train
from rlseq.cli import app
from rlseq.config.load import load_config
from rlseq.report.sink import Sink, Updates
from rlseq.training import attempts
from rlseq.training.checkpoint import load_checkpoint
from rlseq.training.finding import last_checkpoint, read_checkpoint
from rlseq.training.remote import TakenError, fetched, local, uri_of
from rlseq.training.run_directory import RunDirectory
from tests.small_runs import digest
from tests.support import checkpoint_meta

TINY = [
    *("task.min_points=5", "task.max_points=5", "task.validation_size=8", "task.test_size=8", "policy.hidden_size=8"),
    *("mle.updates=4", "mle.batch_size=4", "rl.updates=4", "rl.batch_size=2", "rl.samples=2", "log_every=2"),
    *("mle.validate_every=2", "rl.validate_every=2", "evaluation.samples_shown=0", "compute.threads=1"),
]


def rlseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def storage() -> dict[str, Any]:
    """That of memory://, empty."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    return MemoryFileSystem.store


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Work on from another machine, which has copies of its own."""
    monkeypatch.chdir(tmp_path)

    def use(name: str) -> None:
        monkeypatch.setenv("RLSEQ_COPIES", str(tmp_path / name))

    use("first")
    return use


def breaks(monkeypatch: pytest.MonkeyPatch, name: str, fails: Callable[[str], BaseException | None]) -> None:
    """A function of the storage that may fail, by the path it is called with."""
    function = getattr(MemoryFileSystem, name)

    def call(self: MemoryFileSystem, *args: Any, **keys: Any) -> Any:
        if error := fails(str(args[-1])):
            raise error
        return function(self, *args, **keys)

    monkeypatch.setattr(MemoryFileSystem, name, call)


# ------------------------------------------------------------------------------------------- a run and its readers
@pytest.mark.parametrize("scheme", ["memory://runs", "file://PLACE/runs"])
def test_a_run_under_a_uri_is_the_run_of_a_directory(
    scheme: str, tmp_path: Path, machine: Callable[[str], None]
) -> None:
    uri = scheme.replace("PLACE", str(tmp_path)) + "/hull"
    assert rlseq("train", "hull", *TINY, "--run", "plain").exit_code == 0
    trained = rlseq("train", "hull", *TINY, "--run", uri)
    assert trained.exit_code == 0 and f"run directory: {uri}" in trained.output, trained.output
    machine("second")
    copy = Run(uri).path
    assert copy.is_relative_to(tmp_path / "second") and uri_of(copy) == uri
    assert digest(copy) == digest(Path("plain"))
    left = {path.relative_to("plain") for path in Path("plain").rglob("*") if path.is_file()}
    there = {path.relative_to(copy) for path in copy.rglob("*") if path.is_file()}
    names = {str(path) for path in left ^ there if not path.name.startswith((".", "events.out"))}
    assert not {name for name in names if "/latest/" not in name and "/best/" not in name}
    for place in (uri, f"{uri}/checkpoints/rl", f"{uri}/checkpoints/mle/best", f"{uri}/checkpoints/rl/8"):
        for command in ("evaluate", "inspect"):
            found = rlseq(command, place)
            assert found.exit_code == 0, found.output
    assert rlseq("compare", f"{uri}/checkpoints/mle", uri).exit_code == 0
    forked = rlseq("train", "--from", f"{uri}/checkpoints/mle", "rl.updates=1", "--run", f"{uri}-fork")
    assert forked.exit_code == 0, forked.output
    machine("third")
    again = rlseq("train", "--resume", f"{uri}-fork")  # its comparison has the checkpoint that it started from
    assert again.exit_code == 0 and "is gone" not in again.output, again.output
    assert Run(f"{uri}-fork").comparison


class Dies(Sink):
    """Ends a training after an update."""

    def __init__(self, update: int) -> None:
        self.at = update

    def updates(self, event: Updates) -> None:
        """See the base class."""
        if event.update >= self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("update", [2, 4, 6, 8])
def test_another_machine_goes_on_bit_by_bit(update: int, machine: Callable[[str], None]) -> None:
    assert rlseq("train", "hull", *TINY, "--run", "plain").exit_code == 0
    with pytest.raises(Stopped, match="rlseq train --resume memory://runs/hull"):
        train("hull", TINY, run="memory://runs/hull", callbacks=[Dies(update)], console=False)
    machine("second")
    resumed = rlseq("train", "--resume", "memory://runs/hull")
    assert resumed.exit_code == 0, resumed.output
    assert digest(local("memory://runs/hull")) == digest(Path("plain"))
    machine("first")  # whose copy is older now, and is brought up to date
    assert rlseq("train", "--resume", "memory://runs/hull").exit_code == 0
    assert digest(local("memory://runs/hull")) == digest(Path("plain"))


def test_a_job_that_is_tried_again_finds_the_run(machine: Callable[[str], None]) -> None:
    place = Path(f"file://{Path.cwd() / 'runs'}")
    assert attempts.attempt(["hull", *TINY], place, 1) == 0
    machine("second")
    before = digest(fetched(place))
    machine("third")
    assert attempts.attempt(["hull", *TINY], place, 1) == 0  # resumed, with nothing left to do
    assert digest(local(place)) == before
    assert len(json.loads((local(place) / "environment.json").read_text())["resumed"]) == 1


# ----------------------------------------------------------------------------------------------- storage that fails
def save(run: RunDirectory, update: int, best: bool = False) -> None:
    values = np.full((50, 50), update, np.float32)
    run.save("mle", update, {"policy/a": values, "optimizer/a": values}, checkpoint_meta("mle", update), best=best)


def number_of(place: Path) -> int:
    """The save that a checkpoint holds, which has parts of no other."""
    found = load_checkpoint(place, resume=True)
    assert found.state is not None and (found.state["policy/a"] == found.state["optimizer/a"]).all()
    return int(found.state["policy/a"][0, 0])


@pytest.fixture
def run(machine: Callable[[str], None]) -> RunDirectory:
    return RunDirectory.create(load_config("hull", ["checkpoint.keep=2"]), path=Path("memory://runs/hull"))


class Death(BaseException):
    """Of the machine: nothing is done any more."""


@pytest.mark.parametrize("at", range(14))
def test_a_machine_that_dies_while_it_brings_a_checkpoint_loses_that_one_alone(
    at: int, run: RunDirectory, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for update in (1, 2, 3):
        save(run, update, best=update == 2)
    calls = 0

    def dies(path: str) -> BaseException | None:
        nonlocal calls
        calls += 1
        return Death() if calls > at else None

    with monkeypatch.context() as patch:
        for name in ("put_file", "rm_file"):
            breaks(patch, name, dies)
        try:
            save(run, 4)
        except Death:
            pass
    run.close()
    machine("second")
    again = RunDirectory.open(Path("memory://runs/hull"))
    newest = again.latest()
    assert newest is not None and number_of(newest) == int(newest.name) in (3, 4)
    assert number_of(again.checkpoint("mle", "best")) == 2
    save(again, 5)
    again.close()
    machine("third")
    assert number_of(last_checkpoint(fetched("memory://runs/hull")) or Path()) == 5


def test_a_storage_that_does_not_answer_costs_nothing(
    run: RunDirectory, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(run, 1)
    with monkeypatch.context() as patch:
        breaks(patch, "put_file", lambda path: OSError(5, "Input/output error", path))
        save(run, 2)
        assert "memory://runs/hull: cannot be written (OSError: " in caplog.text
        assert "the next one brings it along" in caplog.text
        machine("second")
        assert number_of(last_checkpoint(fetched("memory://runs/hull")) or Path()) == 1
    machine("first")
    save(run, 3)
    run.close()
    machine("second")
    place = fetched("memory://runs/hull")
    assert [number_of(path) for path in sorted((place / "checkpoints" / "mle").glob("[0-9]*"))] == [2, 3]


def test_a_run_that_cannot_be_brought_in_the_end_is_whole_here_and_says_how(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = False

    def fails(path: str) -> BaseException | None:
        nonlocal begun
        begun = begun or path.endswith("comparison.json")
        return ConnectionError("the storage is gone") if begun else None

    with monkeypatch.context() as patch:
        breaks(patch, "put_file", fails)
        ended = rlseq("train", "hull", *TINY, "--run", "memory://runs/hull")
    assert ended.exit_code == 1 and "the storage is gone" in ended.stderr
    assert "bring it there with: rlseq train --resume memory://runs/hull" in ended.stderr
    again = rlseq("train", "--resume", "memory://runs/hull")
    assert again.exit_code == 0, again.output
    machine("second")
    assert Run("memory://runs/hull").comparison


def test_who_goes_on_with_a_run_is_its_only_writer(run: RunDirectory, machine: Callable[[str], None]) -> None:
    save(run, 1)
    machine("second")
    second = RunDirectory.open(Path("memory://runs/hull"))
    save(second, 2)
    with pytest.raises(TakenError, match=r"memory://runs/hull is gone on with by another process \(pid \d+ on .*first"):
        save(run, 2)
    save(second, 3)
    for each in (run, second):
        each.close()
    machine("third")
    assert number_of(last_checkpoint(fetched("memory://runs/hull")) or Path()) == 3


def test_a_run_is_read_while_it_is_written(run: RunDirectory, machine: Callable[[str], None]) -> None:
    save(run, 1, best=True)
    writer = threading.Thread(target=lambda: [save(run, update, best=update % 3 == 0) for update in range(2, 60)])
    writer.start()  # its copy has been told its place
    machine("second")
    seen = []
    while writer.is_alive():
        seen.append(read_checkpoint(Path("memory://runs/hull"), number_of))
    writer.join()
    assert seen == sorted(seen) and len(set(seen)) > 3
    assert read_checkpoint(Path("memory://runs/hull"), number_of) == 57


# ------------------------------------------------------------------------------------------------------------- refusals
def test_what_cannot_be_a_run_is_refused_and_nothing_is_made(
    tmp_path: Path, machine: Callable[[str], None], storage: dict[str, Any]
) -> None:
    save(RunDirectory.create(load_config("hull"), path=Path("memory://runs/hull")), 1)
    before = dict(storage)
    machine("second")
    for arguments, words in {
        ("train", "hull", "--run", "memory://runs/hull"): "--run memory://runs/hull: exists and is not overwritten",
        ("train", "hull", "--run", "memory://runs/../../hull"): "is no URI of a run; give one such as s3://bucket",
        ("train", "hull", "--run", "memory://"): "is no URI of a run; give one such as s3://bucket",
        ("train", "hull", "--run", "nosuch://runs/hull"): "there is no such storage (ValueError: Protocol not known",
        ("train", "--resume", "memory://runs/other"): "memory://runs/other: there is no run or checkpoint",
        ("evaluate", "memory://runs/other"): "memory://runs/other: there is no run or checkpoint",
        ("evaluate", "memory://runs/hull/checkpoints/rl/4"): "hull/checkpoints/rl/4: no such checkpoint",
        ("study", "hull", "--run", "memory://runs/study"): "memory://runs/study: a study is kept in a directory",
        ("sweep", "hull", "rl.samples=choice(2, 4)", "--run", "memory://runs/s"): "a sweep is kept in a directory",
    }.items():
        found = rlseq(*arguments)
        assert found.exit_code == 2 and words in found.stderr.replace("memory:/runs", "memory://runs"), found.output
    assert storage == before


def test_a_storage_whose_package_is_missing_names_it(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    found = rlseq("train", "hull", "--run", "s3://bucket/runs/hull")
    assert found.exit_code == 2 and "pip install 'rlseq[s3]'" in found.stderr


def test_names_that_lead_elsewhere_are_not_followed(
    tmp_path: Path, machine: Callable[[str], None], storage: dict[str, Any]
) -> None:
    save(RunDirectory.create(load_config("hull"), path=Path("memory://runs/hull")), 1)
    memory = fsspec.filesystem("memory")
    for name in ("../../../../outside", ".lock", ".remote.json", "samples/../../outside"):
        memory.store[f"/runs/hull/{name}"] = memory.store["/runs/hull/config.yaml"]
    machine("second")
    place = fetched("memory://runs/hull")
    assert not list(tmp_path.rglob("outside")) and not (place / ".lock").exists()
    assert number_of(last_checkpoint(place) or Path()) == 1
