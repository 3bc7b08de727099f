"""What is said of a checkpoint, sound or not, without importing what it names."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlseq as api
from rlseq.training.finding import resolve_checkpoint
from tests.cli.test_trust import done, here, rlseq, runs

__all__ = ["here", "runs"]  # fixtures


def change_meta(place: Path, *path: str, value: Any) -> None:
    """Change a value of meta.json, and the manifest with it."""
    meta, manifest = (json.loads((place / name).read_text()) for name in ("meta.json", "manifest.json"))
    *above, key = path
    within = meta
    for name in above:
        within = within[name]
    within[key] = value
    data = json.dumps(meta).encode()
    (place / "meta.json").write_bytes(data)
    manifest["files"]["meta.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (place / "manifest.json").write_text(json.dumps(manifest))


def test_a_sound_one_is_described(here: Path, tmp_path: Path) -> None:
    printed = done("inspect", "network", "--json", tmp_path / "found.json").stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == api.inspect("network")
    checkpoint = resolve_checkpoint(here / "network")
    loaded = api.load("network", trust=True).loaded
    assert found["checkpoint"] == str(checkpoint) and found["error"] is None and found["resume_error"] is None
    assert (found["phase"], found["update"]) == (loaded.meta["phase"], loaded.meta["update"])
    assert found["network"]["weights"] == sum(weight.numel() for weight in loaded.policy.state_dict().values())
    assert found["network"]["decoder"] == "trusted_gru:GRUDecoder" and found["network"]["hidden_size"] == 8
    assert found["task"]["type"] == "convex_hull" and found["task"]["test_size"] == 8
    assert "seed" not in found["task"]  # as it is by default
    assert found["signature"]["now"] == found["signature"]["recorded"] and found["signature"]["differences"] is None
    assert found["files"]["meta.json"] == (checkpoint / "meta.json").stat().st_size
    assert found["made_with"]["versions"]["python"] and found["made_with"]["command"]
    (code,) = found["code"]
    assert code == {
        "key": "policy.decoder.class",
        "path": "trusted_gru:GRUDecoder",
        "use": "decode",
        "file": str(here / "trusted_gru.py"),
        "trusted": False,
    }
    assert "asks for --trust" in printed and "yes, it can be decoded with; it can be resumed" in printed
    assert done("inspect", checkpoint.parent / "latest").stdout == done("inspect", checkpoint).stdout


def test_what_changed_about_the_reward_is_said_without_executing_it(here: Path) -> None:
    (here / "worthy.py").write_text("raise SystemExit('executed')\n")
    found = api.inspect("reward")
    assert "worthy:worth@" in found["signature"]["differences"] and found["error"] is None
    (here / "worthy.py").unlink()
    found = api.inspect("reward")
    assert "no module 'worthy'" in found["signature"]["differences"]
    assert found["code"][0]["file"] is None and found["code"][0]["use"] == "score"


def test_nothing_that_it_names_and_no_torch_is_imported(here: Path) -> None:
    (here / "trusted_sorting.py").write_text("raise SystemExit('executed')\n")
    code = "import sys, rlseq; rlseq.inspect('task'); print('torch' in sys.modules, 'trusted_sorting' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == ("False False\n", 0), ended.stderr


def cut(name: str) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes((place / name).read_bytes()[:-9])


def linked(place: Path) -> None:
    (place / "meta.json").unlink()
    (place / "meta.json").symlink_to("/dev/zero")


def piped(place: Path) -> None:
    (place / "meta.json").unlink()
    os.mkfifo(place / "meta.json")


DAMAGES: dict[str, tuple[Callable[[Path], object], bool]] = {  # and whether its meta.json can be read
    "weights cut": (cut("policy.safetensors"), True),
    "meta cut": (cut("meta.json"), False),
    "manifest cut": (cut("manifest.json"), True),
    "no manifest": (lambda place: (place / "manifest.json").unlink(), True),
    "no weights": (lambda place: (place / "policy.safetensors").unlink(), True),
    "another format": (lambda place: (place / "manifest.json").write_text('{"format": 99, "files": {}}'), True),
    "meta is endless": (linked, False),
    "meta is a pipe": (piped, False),
    "meta is a list": (lambda place: (place / "meta.json").write_text("[1]"), False),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_one_it_is_said_what_can_be_said(damage: str, here: Path) -> None:
    change, readable = DAMAGES[damage]
    place = Path(shutil.copytree(resolve_checkpoint(here / "reward"), here / "damaged"))
    change(place)
    result = rlseq("inspect", place)
    assert result.exit_code == 2 and result.stderr.startswith("error: "), result.output
    assert str(place) in result.stderr and result.stderr.count("error:") == 1
    assert ("update" in result.stdout and "worthy:worth" in result.stdout) == readable
    assert "sound        no" in result.stdout


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("config", "task"), "x"),
        (("config", "policy"), None),
        (("config", "report"), {"loggers": 3}),
        (("config", "task", "reward"), [1]),
        (("trainer",), 1),
        (("versions",), {"x": [1]}),
        (("metrics",), "x"),
    ],
)
def test_wrong_contents_end_in_one_message(path: tuple[str, ...], value: Any, here: Path) -> None:
    place = Path(shutil.copytree(resolve_checkpoint(here / "reward"), here / "wrong"))
    change_meta(place, *path, value=value)
    result = rlseq("inspect", place)
    assert result.exit_code == (0 if path == ("versions",) else 2), result.output


def test_one_without_state_cannot_be_resumed_and_a_foreign_directory_is_told(here: Path) -> None:
    place = Path(shutil.copytree(resolve_checkpoint(here / "reward"), here / "copy"))
    (place / "state.safetensors").unlink()
    assert "it cannot be resumed" in done("inspect", place).stdout
    (here / "foreign").mkdir()
    (here / "foreign" / "pytorch_model.bin").write_bytes(b"x")
    result = rlseq("inspect", "foreign")
    assert result.exit_code == 2 and "foreign holds no checkpoint" in result.stderr and result.stdout == ""


def test_what_a_terminal_would_obey_is_escaped(here: Path) -> None:
    place = Path(shutil.copytree(resolve_checkpoint(here / "reward"), here / "escapes"))
    change_meta(place, "config", "task", "reward", value={"valid": 1.0, "evil\x1b[2J\n:name": 1.0})
    change_meta(place, "versions", value={"\x1b]0;title\x07": "1"})
    result = rlseq("inspect", place)
    assert "\x1b" not in result.output and "evil" in result.stdout
