"""Checkpoints made to have something executed, read or written that is not theirs."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlseq
from rlseq.config.errors import UserError
from rlseq.evaluation.loading import load_policy
from rlseq.training.run_directory import RunDirectory
from tests.reliability.test_damaged import CONFIG, changed_meta, sign, use
from tests.reliability.test_damaged import whole as whole
from tests.support import SLOTS

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


# ---------------------------------------------------------------------------------------------- names that are imported
EVIL = "import pathlib\npathlib.Path('../outside/executed').touch()\nNet = Task = worth = object\n"


def own(path: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "own", "class": path, "arguments": arguments}


def custom(path: str, **arguments: Any) -> Callable[[Path], None]:
    return changed_meta("config", "task", value={"type": "custom", "id": path, "arguments": arguments})


def reward(path: str) -> Callable[[Path], None]:
    return changed_meta("config", "task", "reward", value={"valid": 1.0, path: 0.0})


NAMES: dict[str, Callable[[Path], None]] = {
    **{f"{slot} of its own": changed_meta("config", "policy", slot, value=own("evil:Net")) for slot in SLOTS},
    "network in a package": changed_meta("config", "policy", "encoder", value=own("pack.within.net:Net")),
    "network in a package of no module": changed_meta("config", "policy", "encoder", value=own("pack.nothing:Net")),
    "network with an import path as argument": changed_meta(
        "config", "policy", "encoder", value=own("evil:Net", helper="evil:worth")
    ),
    **{
        f"network {path}": changed_meta("config", "policy", "decoder", value=own(path))
        for path in ("antigravity:x", "os:system", "builtins:exec", "__main__:x", "tests.models.toys:MeanEncoder")
    },
    "network that a library tries to import": changed_meta("config", "policy", "output", value=own("cupy:Net")),
    "task of its own": custom("evil:evil/Task-v0"),
    "task in a package": custom("pack.within.net:evil/Task-v0"),
    "task whose name would end the line": custom("evil:evil/Task-v0\n  fine: trust me"),
    "our task with another class": custom("rlseq_envs:rlseq/ConvexHull-v0", task="evil:Task"),
    "a registered task with another class": custom("rlseq/ConvexHull-v0", task="evil:Task"),
    "our task with another reward": custom("rlseq_envs:rlseq/ConvexHull-v0", reward={"evil:worth": 1.0}),
    **{f"reward {path}": reward(path) for path in ("evil:worth", "pack.within.net:worth", "os:system", "this:s")},
    "reward in a package of no module": reward("pack.nothing:worth"),
    "a path that reads the environment": changed_meta("config", "policy", "encoder", value=own("${oc.env:CODE}:Net")),
    "a file that reads the environment": changed_meta("config", "task", "test_file", value="${oc.env:SECRET}"),
    "a name that reads the environment": changed_meta("config", "name", value="${oc.env:SECRET}"),
}
OF_TRAINING: dict[str, Callable[[Path], None]] = {
    "logger of its own": changed_meta("config", "report", value={"loggers": ["csv", "evil:Net"]}),
    "a cluster of somebody else's": changed_meta("config", "compute", "address", value="203.0.113.1:6379"),
}


@pytest.mark.cases(NAMES | OF_TRAINING, sample=8)
def test_no_name_is_imported_without_trust(
    case: Callable[[Path], None], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for directory in ("outside", "here/pack/within"):
        (tmp_path / directory).mkdir(parents=True)
    for name in ("evil.py", "cupy.py", "pack/__init__.py", "pack/within/__init__.py", "pack/within/net.py"):
        (tmp_path / "here" / name).write_text(EVIL)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("CODE", "evil")
    monkeypatch.setenv("SECRET", "secret")
    place = Path(shutil.copytree(whole, tmp_path / "run" / "3"))
    case(place)
    sign(place)
    before = {*sys.modules}
    rlseq.inspect(place)
    readers: list[Callable[[], object]] = [lambda: rlseq.train(source=place, run="new", console=False)]
    if case not in OF_TRAINING.values():
        readers += [lambda: load_policy(place), lambda: rlseq.evaluate(place)]
    for read in readers:
        with pytest.raises(UserError) as caught:
            read()
        assert "--trust" in str(caught.value) or "stands for another value" in str(caught.value), caught.value
        assert "secret" not in str(caught.value) and "\n  fine" not in str(caught.value)
    assert not {"evil", "pack", "antigravity", "this", "cupy"} & ({*sys.modules} - before)
    assert not list((tmp_path / "outside").iterdir()) and not Path("new").exists()


YAML = {
    "a tag that calls": "x: !!python/object/apply:os.mkdir [OUTSIDE/executed]",
    "a tag that makes an object": "x: !!python/object:pathlib.Path {}",
    "a tag that imports": "x: !!python/name:evil.worth ''",
    "a tag of no kind": "x: !evil 1",
    "the environment": "x: ${oc.env:SECRET}",
    "another file": "x: ${oc.select:SECRET}",
}


@pytest.mark.cases(YAML, sample=2)
def test_nothing_in_the_configuration_of_a_run_is_executed(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "secret")
    (tmp_path / "evil.py").write_text(EVIL)
    RunDirectory.create(CONFIG, path=tmp_path / "run").close()
    with (tmp_path / "run" / "config.yaml").open("a") as file:
        file.write(case.replace("OUTSIDE", str(tmp_path / "outside")) + "\n")
    for read in (rlseq.resume, rlseq.Run):
        with pytest.raises(UserError) as caught:
            read("run")
        assert caught.value.exit_code == 2 and "'secret'" not in str(caught.value)
    assert not list((tmp_path / "outside").iterdir())


def test_the_names_would_be_executed_if_they_were_trusted(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite can fail."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    place = Path(shutil.copytree(whole, tmp_path / "run" / "3"))
    NAMES["encoder of its own"](place)
    sign(place)
    with pytest.raises(UserError, match="is no subclass of"):
        rlseq.load(place, trust=True)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    assert (tmp_path / "outside" / "executed").exists()


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
