"""Checkpoints whose files are damaged, and files that are whole but hold what no training wrote."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rlseq.config.errors import UserError
from rlseq.data.tasks import make_task
from rlseq.evaluation.loading import load_policy
from rlseq.models.build import build_policy
from rlseq.models.spaces import TaskSpaces
from rlseq.training.checkpoint import load_checkpoint, save_checkpoint
from rlseq.training.engine import to_numpy
from rlseq.training.fitting import check_fit
from tests.support import checkpoint_meta, tiny_config

SUITE = "Damaged and foreign contents"
HOLDS_WHEN = "the checkpoint is refused with one message and exit code 2, or what was changed means nothing"
CONFIG = tiny_config()
TASK = make_task(CONFIG.task)
POLICY = build_policy(CONFIG.policy, TaskSpaces.of(TASK))
FILES = ("manifest.json", "meta.json", "policy.safetensors", "state.safetensors", "artifacts/words/list.txt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = to_numpy(POLICY.state_dict(), "policy") | to_numpy(POLICY.state_dict(), "average")
    for name, tensor in POLICY.named_parameters():
        moments = {key: np.zeros(tuple(tensor.shape), np.float32) for key in ("exp_avg", "exp_avg_sq")}
        state |= {f"optimizer/{name}/{key}": value for key, value in moments.items()}
        state[f"optimizer/{name}/step"] = np.array(1.0, np.float32)
    meta = checkpoint_meta(
        config=CONFIG.model_dump(mode="json"), spaces=TaskSpaces.of(TASK).to_dict(), signature=TASK.signature
    )

    def artifacts(directory: Path) -> None:
        (directory / "words").mkdir()
        (directory / "words" / "list.txt").write_text("a\nb\n" * 20)

    place = tmp_path_factory.mktemp("whole") / "3"
    save_checkpoint(place, tensors=state, meta=meta, artifacts=artifacts)
    return place


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "3"))


def use(checkpoint: Path) -> None:
    """All that evaluating and resuming read of it."""
    load_policy(checkpoint)
    check_fit(load_checkpoint(checkpoint, resume=True), POLICY)


def refused(checkpoint: Path) -> str:
    with pytest.raises(UserError) as caught:
        use(checkpoint)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_what_is_whole_is_used(copy: Path) -> None:
    use(copy)


@pytest.mark.cases({f"truncated {number}": number for number in range(200)}, sample=10)
def test_a_truncated_file_is_refused(case: int, copy: Path) -> None:
    path = copy / FILES[case % len(FILES)]
    data = path.read_bytes()
    path.write_bytes(data[: random.Random(case).randrange(len(data))])
    assert path.name in refused(copy)


@pytest.mark.cases({f"flipped {number}": number for number in range(200)}, sample=10)
def test_a_flipped_bit_is_refused_or_means_nothing(case: int, copy: Path, whole: Path) -> None:
    path, generator = copy / FILES[case % len(FILES)], random.Random(case)
    data = bytearray(path.read_bytes())
    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    path.write_bytes(bytes(data))
    if path.name == "manifest.json":  # white space, the name of a key that nothing reads
        try:
            use(copy)
        except UserError:
            return
        assert load_checkpoint(copy).meta == load_checkpoint(whole).meta
    else:
        refused(copy)


# ------------------------------------------------------------------------------------- wrong contents, right manifest
def sign(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (checkpoint / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def changed_meta(*path: str, value: Any = None, drop: bool = False) -> Callable[[Path], None]:
    def change(checkpoint: Path) -> None:
        meta = json.loads((checkpoint / "meta.json").read_text())
        *above, key = path
        place = meta
        for name in above:
            place = place[name]
        if drop:
            del place[key]
        else:
            place[key] = value
        (checkpoint / "meta.json").write_text(json.dumps(meta))

    return change


def changed_arrays(name: str, change: Callable[[dict[str, Any], str], None], which: int) -> Callable[[Path], None]:
    def apply(checkpoint: Path) -> None:
        arrays = load_file(checkpoint / name)
        change(arrays, sorted(arrays)[which * len(arrays) // 5])
        save_file(arrays, checkpoint / name)

    return apply


def put(value: Callable[[Any], Any]) -> Callable[[dict[str, Any], str], None]:
    return lambda arrays, key: arrays.__setitem__(key, value(arrays[key]))


def one_not_finite(value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array.reshape(-1)[-1] = value
        return array

    return change


META_KEYS = [(key,) for key in checkpoint_meta()] + [("trainer", key) for key in checkpoint_meta()["trainer"]]
WRONG_VALUES: dict[str, Any] = {
    "a list": [1],
    "a text": "x" * 3,
    "an object": {"x": []},
    "minus two": -2,
    "huge": 1 << 70,
}
TYPES: dict[str, tuple[str, ...]] = {"a text": ("signature",), "an object": ("config", "spaces", "versions")}
ARRAYS = {
    "missing": lambda arrays, key: arrays.pop(key),
    "renamed": lambda arrays, key: arrays.__setitem__(key + "x", arrays.pop(key)),
    "one more": lambda arrays, key: arrays.__setitem__("more", arrays[key]),
    "int32": put(lambda a: a.astype(np.int32)),
    "float64": put(lambda a: a.astype(np.float64)),
    "float16": put(lambda a: a.astype(np.float16)),
    "longer": put(lambda a: np.zeros((*a.shape, 2), a.dtype)),
    "empty": put(lambda a: np.zeros(0, a.dtype)),
    "NaN": put(one_not_finite(np.nan)),
    "infinite": put(one_not_finite(np.inf)),
}
RAW = {
    "empty": b"",
    "no header": b"\xff" * 64,
    "header of 2^60 bytes": (1 << 60).to_bytes(8, "little") + b"{}",
    "array of 2^60 numbers": (76).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}'.ljust(76)
    + b"\0" * 4,
    "a pickle": b"\x80\x04cposix\nsystem\n.",
}
WRONG: dict[str, Callable[[Path], None]] = {}
for path in META_KEYS:
    WRONG[f"{'.'.join(path)} missing"] = changed_meta(*path, drop=True)
    for kind, wrong in WRONG_VALUES.items():
        if path[-1] not in TYPES.get(kind, ()) and (path[-1] != "best" or kind not in ("minus two", "huge")):
            WRONG[f"{'.'.join(path)} {kind}"] = changed_meta(*path, value=wrong)
for part in ("policy.safetensors", "state.safetensors"):
    for kind, change in ARRAYS.items():
        if not (part.startswith("state") and kind in ("float64", "float16")):  # of an optimiser any float may be
            WRONG |= {f"{part} {kind} {which}": changed_arrays(part, change, which) for which in range(5)}
    for kind, data in RAW.items():
        WRONG[f"{part} {kind}"] = lambda place, part=part, data=data: (place / part).write_bytes(data) and None  # type: ignore[misc]
for kind, text in {"no object": "[1]", "deep": "[" * 100_000, "a number": "1", "not UTF-8": "\udc80"}.items():
    WRONG[f"meta.json {kind}"] = lambda place, text=text: (  # type: ignore[misc]
        (place / "meta.json").write_bytes(text.encode("utf-8", "surrogateescape")) and None
    )
for key in ("task", "policy", "mle", "rl", "seed"):
    WRONG[f"config.{key} a text"] = changed_meta("config", key, value="x")
for size in (10**4, 10**7, 10**12):
    WRONG[f"hidden_size {size}"] = changed_meta("config", "policy", "hidden_size", value=size)


@pytest.mark.cases(WRONG, sample=25)
def test_wrong_contents_behind_a_right_manifest_are_refused(case: Callable[[Path], None], copy: Path) -> None:
    case(copy)
    sign(copy)
    refused(copy)
