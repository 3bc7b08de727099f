"""Checkpoints made to have something executed, read or written that is not theirs."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlseq.config.errors import UserError
from rlseq.training.run_directory import RunDirectory
from tests.reliability.test_damaged import changed_meta, sign, use
from tests.reliability.test_damaged import whole as whole

SUITE = "Malicious"
HOLDS_WHEN = "the checkpoint is refused with exit code 2; nothing is executed, read or written outside it"


class Executed:
    """Writes a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def pickled(name: str) -> Callable[[Path, Path], object]:
    return lambda place, outside: (place / name).write_bytes(pickle.dumps(Executed(outside / "executed"))) and None


def link_to(name: str, target: str) -> Callable[[Path, Path], object]:
    def change(place: Path, outside: Path) -> None:
        path = place / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target.replace("OUTSIDE", str(outside)))

    return change


def listed(name: str) -> Callable[[Path, Path], object]:
    """A manifest that names a file elsewhere, as it is there."""

    def change(place: Path, outside: Path) -> None:
        import hashlib
        import json

        manifest = json.loads((place / "manifest.json").read_text())
        data = (outside / "secret").read_bytes()
        entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest["files"][name.replace("OUTSIDE", str(outside))] = entry
        (place / "manifest.json").write_text(json.dumps(manifest))

    return change


def meta(*path: str, value: Any) -> Callable[[Path, Path], object]:
    return lambda place, outside: changed_meta(*path, value=value)(place)


def fifo(name: str) -> Callable[[Path, Path], object]:
    def change(place: Path, outside: Path) -> None:
        (place / name).unlink()
        os.mkfifo(place / name)

    return change


def sparse(name: str) -> Callable[[Path, Path], object]:
    """A terabyte that takes no room."""
    return lambda place, outside: os.truncate(place / name, 1 << 40)


WORDS = "artifacts/words/list.txt"
SIGNED: dict[str, Callable[[Path, Path], object]] = {
    **{f"pickle as {name}": pickled(name) for name in ("meta.json", "policy.safetensors", "state.safetensors")},
    **{f"{size} units": meta("config", "policy", "hidden_size", value=size) for size in (10**5, 10**9)},
    "unit count in the decoder": meta("config", "policy", "embedding_size", value=10**6),
    "update that is a path": meta("update", value="../../x"),
    "phase that is a path": meta("phase", value="../../x"),
    "spaces of 2^50 points": meta("spaces", "sources", value={"points": {"axes": [None, 1 << 50]}}),
}
UNSIGNED: dict[str, Callable[[Path, Path], object]] = {
    **{f"pickle as {name}, unsigned": pickled(name) for name in ("manifest.json", "policy.safetensors")},
    **{
        f"{name} leads outside": link_to(name, "OUTSIDE/secret")
        for name in ("meta.json", "policy.safetensors", "state.safetensors", WORDS, "artifacts/more", "manifest.json")
    },
    "artifacts lead outside": link_to("artifacts", "OUTSIDE"),
    "a directory in artifacts leads outside": link_to("artifacts/words", "OUTSIDE"),
    "artifacts lead to the root": link_to("artifacts", "/"),
    "weights are endless": link_to("policy.safetensors", "/dev/zero"),
    "meta is endless": link_to("meta.json", "/dev/zero"),
    "a link to itself": link_to("policy.safetensors", "policy.safetensors"),
    **{f"{name} waits for ever": fifo(name) for name in ("policy.safetensors", "meta.json", WORDS)},
    **{f"{name} is a terabyte": sparse(name) for name in ("policy.safetensors", "meta.json", WORDS)},
    **{f"manifest names {name}": listed(name) for name in ("../../outside/secret", "OUTSIDE/secret", "a/../../x")},
}
CASES = {name: (change, True) for name, change in SIGNED.items()} | {
    name: (change, False) for name, change in UNSIGNED.items()
}


@pytest.mark.cases(CASES, sample=12)
def test_nothing_is_executed_read_or_written_outside(
    case: tuple[Callable[[Path, Path], object], bool], whole: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    place = Path(shutil.copytree(whole, tmp_path / "run" / "3"))
    change, signed = case
    change(place, outside)
    if signed:
        sign(place)
    with pytest.raises(UserError) as caught:
        use(place)
    assert caught.value.exit_code == 2 and "secret" not in str(caught.value).replace("outside/secret", "")
    assert [path.name for path in outside.iterdir()] == ["secret"]


@pytest.mark.cases({"a file": "secret", "a directory": ""}, sample=2)
def test_artifacts_of_a_run_that_lead_outside_are_not_copied(case: str, tmp_path: Path) -> None:
    from rlseq.config.load import load_config
    from tests.reliability.test_runs import save

    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    run = RunDirectory.create(load_config("hull"), path=tmp_path / "run")
    (run.artifacts / "words").symlink_to(outside / case)
    with pytest.raises(UserError, match="a link that leads out of the directory"):
        save(run, 1, best=True)
    run.close()
    assert not [path for path in (run.path / "checkpoints").rglob("*") if path.name == "secret"]
