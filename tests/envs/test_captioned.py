"""Captions of pictures in files: what is read is what stands there, and every fault is named with its place."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlseq_envs.drawing import Picture
from rlseq_envs.media.pixels import read_pixels
from rlseq_envs.settings import CaptionSettings
from rlseq_envs.tasks.caption import CaptionTask
from rlseq_envs.text.corpus import CorpusError
from tests.captioned import SPLITS, write_captioned


def task_in(folder: Path, **settings: Any) -> CaptionTask:
    return CaptionTask(**write_captioned(folder, pictures="picture_directory" in settings) | settings)


def test_splits_are_those_of_the_list_and_captions_those_of_the_picture(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    assert {split: task.instances(split).size for split in ("train", "validation", "test")} == {
        "train": 3, "validation": 1, "test": 1,
    }  # fmt: skip
    ids = task.instances("train").ids()
    assert task.text_pairs(*task.references(ids), ids).references == [
        ["A red thing 0 .", "A blue thing 0 .", "A green thing 0 ."],
        ["A red thing 1 .", "A blue thing 1 .", "A green thing 1 ."],
    ]
    assert task.render(int(ids[1]), np.array([0])).source == "2.png"
    with pytest.raises(ValueError, match="not all in split"):
        task.source(ids + 1)


def test_features_are_those_of_the_picture_s_line(tmp_path: Path) -> None:
    task = task_in(tmp_path, features=("regions", "pooled"))
    assert {name: space.axes for name, space in task.sources.items()} == {"regions": (2, 3, 4), "pooled": (4,)}
    outline = CaptionSettings(**write_captioned(tmp_path), features=("regions", "pooled")).outline()[0]
    assert {name: len(space.axes) for name, space in outline.items()} == {"regions": 3, "pooled": 1}
    for split, rows in (("train", [0, 2, 4]), ("validation", [1]), ("test", [3])):
        fields = task.source(task.instances(split).ids()).fields  # type: ignore[arg-type]
        told = np.eye(3, 4, dtype=np.float32)[np.array(rows) % 3]
        np.testing.assert_array_equal(fields["pooled"].values, told)
        np.testing.assert_array_equal(
            fields["regions"].values, np.broadcast_to(told[:, None, None], (len(rows), 2, 3, 4))
        )
        assert all(field.values.dtype == np.float32 for field in fields.values())
    assert task.sizes(np.array([0, 1])).tolist() == [2, 2]


def test_pictures_are_read_and_drawn(tmp_path: Path) -> None:
    keys = {"feature_file": None, "picture_directory": str(tmp_path), "picture_size": 12}
    task = task_in(tmp_path, **keys)
    (values, lengths) = task.source(np.array([0, 1])).fields["picture"]
    assert lengths is None and values.shape == (2, 12, 12, 3) and values.dtype == np.uint8
    assert (values[0] == [200, 0, 0]).all() and (values[1] == [0, 0, 200]).all()
    for made in (task, task_in(tmp_path, picture_directory=str(tmp_path))):  # as a source, and beside features
        drawn = made.render(0, np.array([0])).drawing
        assert isinstance(drawn, Picture) and (drawn.pixels == [200, 0, 0]).all()
    (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes()[:45])
    assert made.render(0, np.array([0])).drawing is None


def test_the_longer_side_is_cropped(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 100
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert (read_pixels(tmp_path / "wide.png", 4) == 100).all()


def test_captions_of_unlisted_training_pictures_teach_words_alone(tmp_path: Path) -> None:
    keys = write_captioned(tmp_path)
    more = ["far.png\t0\ttrain\tA zebra .", "far.png\t1\ttrain\tA zebra runs .", "off.png\t0\ttest\tA quagga ."]
    with Path(keys["caption_file"]).open("a") as file:
        file.write("\n".join(more) + "\n")
    reward: dict[str, Any] = {"reward": {"cider": 1.0}, "skip_unlisted": True}
    task, without = CaptionTask(**keys, **reward), task_in(tmp_path / "without")
    pieces = task.output.vocabulary.pieces
    assert "zebra" in pieces and "quagga" not in pieces and "zebra" not in without.output.vocabulary.pieces
    assert task.instances("train").size == 3
    assert [list(document) for document in task._documents()][-1] == ["A zebra .", "A zebra runs ."]
    assert task.data_report()[-1] == "captions of unlisted pictures: 2"


def test_numbers_say_which_captions_are_read_and_files_may_be_packed(tmp_path: Path) -> None:
    keys = write_captioned(tmp_path)
    lines = Path(keys["caption_file"]).read_text().splitlines()
    packed = gzip.compress("\n".join(lines[::-1]).encode())
    Path(keys["caption_file"]).write_bytes(packed)
    task = CaptionTask(**keys | {"captions": 1})
    ids = task.instances("validation").ids()
    assert task.text_pairs(*task.references(ids), ids).references == [["A green thing 0 ."]]


def test_artifacts_and_shared_data_are_all_that_a_worker_needs(tmp_path: Path) -> None:
    keys = write_captioned(tmp_path)
    task = CaptionTask(**keys)
    task.prepare()
    (tmp_path / "made").mkdir()
    task.save_artifacts(tmp_path / "made")
    for key in ("picture_file", "caption_file", "feature_file"):
        Path(keys[key]).unlink()
    again = CaptionTask(artifacts=tmp_path / "made", **keys)
    again.use_shared_data(task.shared_data() or {})
    ids = task.instances("train").ids()
    assert again.sources == task.sources and again.choices == task.choices and again.signature == task.signature
    np.testing.assert_array_equal(
        again.reward(*again.references(ids), ids).total, task.reward(*task.references(ids), ids).total
    )


# ------------------------------------------------------------------------------------------------------------- faults
def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def stored(**arrays: Any) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / "features.npz", **arrays)


ROWS = len(SPLITS)
INFINITE = np.zeros((ROWS, 2, 3, 4))
INFINITE[4, 1, 0, 2] = np.inf
FAULTS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no list": (lambda folder: (folder / "pictures.tsv").unlink(), ["pictures.tsv: cannot be read (No such file"]),
    "no captions": (lambda folder: (folder / "captions.tsv").unlink(), ["captions.tsv: cannot be read (No such file"]),
    "no features": (
        lambda folder: (folder / "features.npz").unlink(),
        ["features.npz: cannot be read as .npz (No such"],
    ),
    "columns of the list": (
        replaced("pictures.tsv", "2.png\ttrain", "2.png train"),
        ["pictures.tsv:3: is not a name and"],
    ),
    "columns of captions": (
        replaced("captions.tsv", "\t1\ttrain", " 1\ttrain"),
        ["captions.tsv:2: is not a name, a num"],
    ),
    "split of the list": (
        replaced("pictures.tsv", "dev", "devel"),
        ["pictures.tsv:2: split 'devel' is unknown: give one"],
    ),
    "split of a caption": (replaced("captions.tsv", "dev", "devel"), ["captions.tsv:3: split 'devel' is unknown"]),
    "another split": (
        replaced("captions.tsv", "dev", "test"),
        ["captions.tsv:3: '1.png' is of split 'test' here, but not in"],
    ),
    "number": (replaced("captions.tsv", "\t1\t", "\tone\t"), ["captions.tsv:2: 'one' is no number of a caption"]),
    "number again": (replaced("captions.tsv", "\t1\t", "\t0\t"), ["captions.tsv:2: is caption 0 of '0.png' again"]),
    "empty caption": (replaced("captions.tsv", "A green thing 1 .", " "), ["captions.tsv:4: the caption is empty"]),
    "endless caption": (
        replaced("captions.tsv", "A red", "A" * 10_001),
        ["captions.tsv:1: the caption has 10011 characters, more than 10000: shorten it"],
    ),
    "listed twice": (replaced("pictures.tsv", "2.png", "0.png"), ["pictures.tsv:3: lists '0.png' again, after line 1"]),
    "unlisted": (
        replaced("pictures.tsv", "3.png\ttest\n", ""),
        ["captions.tsv:7: ", "does not list '3.png': list it, or set task.skip_unlisted to true"],
    ),
    "too few": (
        replaced("captions.tsv", "1.png\t1\tdev\tA green thing 1 .\n", ""),
        [
            "pictures.tsv:2: '1.png' has 1 captions in",
            "fewer than task.captions 2: add some, set task.captions to less",
        ],
    ),
    "no validation": (
        replaced("pictures.tsv", "dev", "none"),
        ["pictures.tsv: lists no picture of split 'validation'"],
    ),
    "no npz": (lambda folder: (folder / "features.npz").write_text("x"), ["features.npz: cannot be read as .npz"]),
    "no such array": (stored(pooled=np.zeros((ROWS, 4))), ["features.npz: has no array 'regions', only pooled"]),
    "shape": (stored(regions=np.zeros((ROWS, 4))), ["array 'regions' has shape (6, 4): give (pictures, rows, columns"]),
    "rows": (
        stored(regions=np.zeros((5, 2, 3, 4))),
        ["array 'regions' has 5 rows, but", "has 6 lines: give a row for each"],
    ),
    "type": (stored(regions=np.full((ROWS, 2, 3, 4), "a")), ["array 'regions' holds <U1: give real numbers"]),
    "infinite": (stored(regions=INFINITE), ["numbers that are not finite in row 4 (from 0), of '4.png'"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_file_and_line(tmp_path: Path, fault: str) -> None:
    change, told = FAULTS[fault]
    task = task_in(tmp_path)
    change(tmp_path)
    with pytest.raises(CorpusError) as caught:
        task.prepare()
    for part in told:
        assert part in str(caught.value)
    if ":" in told[0].split()[0]:
        assert str(tmp_path / told[0].split(":")[0]) in str(caught.value)


@pytest.mark.parametrize("drawn_alone", [False, True])
def test_a_picture_that_is_none_is_named(tmp_path: Path, drawn_alone: bool) -> None:
    keys = write_captioned(tmp_path, pictures=True) | {"picture_directory": str(tmp_path)}
    (tmp_path / "2.png").write_text("no picture")
    (tmp_path / "4.png").unlink()
    with pytest.raises(CorpusError) as caught:
        CaptionTask(**keys if drawn_alone else keys | {"feature_file": None}).prepare()
    first, second = str(caught.value).splitlines()[1:]
    assert "pictures.tsv:3: " in first and "2.png is no picture that can be read" in first
    assert "pictures.tsv:5: the picture " in second and "4.png cannot be read (No such file or directory)" in second


def test_faults_of_several_lines_and_files_are_told_together(tmp_path: Path) -> None:
    keys = write_captioned(tmp_path)
    for name, old, new in (
        ("pictures.tsv", "dev", "devel"),
        ("captions.tsv", "A red", ""),
        ("captions.tsv", "\t1", "\tx"),
    ):
        replaced(name, old, new)(tmp_path)
    replaced("captions.tsv", " thing 0 .", "")(tmp_path)
    with pytest.raises(CorpusError) as caught:
        CaptionTask(**keys).prepare()
    places = [problem.line for problem in caught.value.problems]
    assert places == [2, 1, 2]
    Path(keys["caption_file"]).write_text("x\n" * 40)
    with pytest.raises(CorpusError, match="and 35 more lines at fault"):
        CaptionTask(**keys).prepare()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"corpus": "files"}, "corpus is 'files' and picture_file, caption_file is not given"),
        ({"picture_file": "a"}, "corpus is 'files' and caption_file is not given"),
        ({"picture_file": "a", "caption_file": "b"}, "give feature_file or picture_directory, or both"),
        (
            {"corpus": "scenes", "caption_file": "b"},
            "caption_file given, but corpus is 'scenes': set corpus to 'files'",
        ),
        (
            {"picture_file": "a", "caption_file": "b", "feature_file": "c", "features": ()},
            "features is []: give some of",
        ),
        ({"features": ("regionen",)}, "features is ('regionen',); give"),
    ],
)
def test_keys_that_do_not_go_together_are_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        CaptionSettings(**keys)
    assert message in str(caught.value)


def test_pictures_are_named_as_sources(tmp_path: Path) -> None:
    """New ones, too: of a list and features alone."""
    keys = write_captioned(tmp_path)
    task = CaptionTask(**keys)
    values = task.parse_sources(["3.png", "4.png", "3.png"]).fields["regions"].values
    assert values[:, 0, 0].argmax(axis=1).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match=r"(?s)line 2: '9.png' is not listed in .*pictures.tsv"):
        task.parse_sources(["3.png", "9.png"])
    task.save_artifacts(tmp_path)
    Path(keys["picture_file"]).write_text("new.png\tnone\n")
    np.savez(tmp_path / "features.npz", regions=np.ones((1, 2, 3, 4)))
    again = CaptionTask(artifacts=tmp_path, **keys)
    assert (again.parse_sources(["new.png"]).fields["regions"].values == 1).all()
    with pytest.raises(ValueError, match="made pictures have no names"):
        CaptionTask().parse_sources(["1"])
