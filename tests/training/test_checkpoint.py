"""A checkpoint is whole or not there, and is used only after every byte was verified."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq.training import checkpoint as module
from rlseq.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from tests.support import checkpoint_meta

RANDOM = np.random.default_rng(0)
TENSORS: dict[str, Any] = {
    "policy/embedding.weight": RANDOM.normal(size=(5, 3)).astype(np.float32),
    "policy/first": RANDOM.normal(size=(4,)).astype(np.float32),
    "optimizer/0/step": np.array(7, dtype=np.int64),
    "optimizer/0/exp_avg": RANDOM.normal(size=(5, 3)),
    "reference/first": np.zeros((0, 2), dtype=np.float32),
}
META = checkpoint_meta(metrics={"accuracy": 12.5, "area": float("nan")}, versions={"names": ["ä", "b"]})


def write_vocabulary(directory: Path) -> None:
    (directory / "text").mkdir()
    (directory / "text" / "vocabulary.txt").write_text("a\nb\n")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "3", tensors=TENSORS, meta=META, artifacts=write_vocabulary)
    return tmp_path / "3"


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array)


def test_resuming_gets_back_exactly_what_was_saved(saved: Path) -> None:
    loaded = load_checkpoint(saved, resume=True)
    assert loaded.state is not None
    assert_equal(loaded.state, TENSORS)
    assert json.dumps(loaded.meta) == json.dumps(META)  # as text, where NaN equals NaN
    assert (loaded.artifacts / "text" / "vocabulary.txt").read_text() == "a\nb\n"


def test_decoding_gets_the_weights_without_prefix_and_no_state(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.state is None
    assert_equal(loaded.weights, {name[7:]: array for name, array in TENSORS.items() if name.startswith("policy/")})


def test_the_average_is_what_is_decoded_with_and_both_are_resumed(tmp_path: Path) -> None:
    tensors = TENSORS | {
        f"average/{name[7:]}": array + 1 for name, array in TENSORS.items() if name.startswith("policy/")
    }
    save_checkpoint(tmp_path / "3", tensors=tensors, meta=META, artifacts=write_vocabulary)
    loaded = load_checkpoint(tmp_path / "3", resume=True)
    np.testing.assert_array_equal(loaded.weights["first"], TENSORS["policy/first"] + 1)
    assert_equal(loaded.state or {}, tensors)


@pytest.mark.parametrize("view", [lambda a: a.T, lambda a: a[::2], lambda a: np.asfortranarray(a), lambda a: a[:, 1:]])
def test_arrays_that_are_no_plain_buffer_keep_their_values(tmp_path: Path, view: object) -> None:
    array = view(np.arange(12, dtype=np.float32).reshape(4, 3))  # type: ignore[operator]
    save_checkpoint(tmp_path / "1", tensors={"policy/a": array}, meta=META, artifacts=lambda directory: None)
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "1").weights["a"], array)


def test_saving_again_replaces_it(saved: Path) -> None:
    save_checkpoint(saved, tensors=TENSORS, meta=checkpoint_meta(update=4), artifacts=write_vocabulary)
    assert load_checkpoint(saved).meta["update"] == 4
    assert [path.name for path in saved.parent.iterdir()] == ["3"]


def test_a_failure_while_saving_leaves_nothing_new_and_nothing_broken(saved: Path) -> None:
    def fail(directory: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save_checkpoint(saved, tensors=TENSORS, meta=checkpoint_meta(update=4), artifacts=fail)
    assert load_checkpoint(saved).meta["update"] == 3
    assert [path.name for path in saved.parent.iterdir()] == ["3"]


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_a_flipped_bit_in_any_file_is_found_and_the_file_named(saved: Path) -> None:
    generator = random.Random(0)
    for path in files(saved):
        whole = path.read_bytes()
        for _ in range(6):
            broken = bytearray(whole)
            broken[generator.randrange(len(whole))] ^= 1 << generator.randrange(7)
            path.write_bytes(bytes(broken))
            try:
                loaded = load_checkpoint(saved, resume=True)
            except CheckpointError as error:
                name = path.relative_to(saved).as_posix()
                assert name in str(error) or name == "manifest.json"
            else:  # the manifest's white space is the one place where a flip means nothing
                assert path.name == "manifest.json"
                assert_equal(loaded.state or {}, TENSORS)
        path.write_bytes(whole)
    load_checkpoint(saved)


@pytest.mark.parametrize(
    "name", ["meta.json", "policy.safetensors", "state.safetensors", "artifacts/text/vocabulary.txt"]
)
def test_a_truncated_or_missing_file_is_named(saved: Path, name: str) -> None:
    path = saved / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=f"{name}: has {len(whole) - 1} bytes, had {len(whole)}"):
        load_checkpoint(saved, resume=True)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{name}: missing"):
        load_checkpoint(saved, resume=True)


def test_what_decoding_does_not_read_may_be_gone_or_too_much(saved: Path) -> None:
    (saved / "state.safetensors").unlink()
    (saved / ".DS_Store").write_bytes(b"x")
    (saved / "artifacts" / "Thumbs.db").write_bytes(b"x")
    assert load_checkpoint(saved).meta["update"] == 3
    with pytest.raises(CheckpointError, match=r"state\.safetensors: missing"):
        load_checkpoint(saved, resume=True)


def test_its_files_have_the_mode_of_any_file(saved: Path) -> None:
    (saved / "other").write_text("")
    assert {path.stat().st_mode for path in files(saved)} == {(saved / "other").stat().st_mode}


def test_every_damaged_file_is_listed_at_once(saved: Path) -> None:
    (saved / "meta.json").unlink()
    (saved / "policy.safetensors").write_bytes(b"x")
    (saved / "state.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved, resume=True)
    for line in ("meta.json: missing", "policy.safetensors: has 1 bytes", "state.safetensors: missing"):
        assert line in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": 1}', '{"format": "x", "files": {}}', '{"format": 1, "files": 3}']
)
def test_a_manifest_that_cannot_be_read_is_no_crash(saved: Path, text: str) -> None:
    (saved / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json: cannot be read"):
        load_checkpoint(saved)


def test_another_format_and_no_checkpoint_at_all_are_refused(saved: Path, tmp_path: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | {"format": module.FORMAT + 1}))
    with pytest.raises(CheckpointError, match="format 4, this version of rlseq reads 1, 2, 3"):
        load_checkpoint(saved)
    with pytest.raises(CheckpointError, match=r"no checkpoint: it has no manifest\.json"):
        load_checkpoint(tmp_path)


def test_nothing_in_a_checkpoint_is_unpickled(saved: Path) -> None:
    code = "import pickle, sys; pickle.Unpickler = pickle.load = pickle.loads = None; import pathlib; "
    code += (
        "from rlseq.training.checkpoint import load_checkpoint as load; load(pathlib.Path(sys.argv[1]), resume=True)"
    )
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True)
