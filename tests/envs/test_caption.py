"""Captions of made pictures: they are true, no split shows what another does, and all of them are compared with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq_envs.drawing import Picture
from rlseq_envs.media.scenes import COLORS, RELATIONS, SHAPES, SIZES, Scenes, draw_scenes, make_scenes
from rlseq_envs.settings import CaptionSettings
from rlseq_envs.settings.caption import PICTURE
from rlseq_envs.task import Ints, SplitName
from rlseq_envs.tasks.caption import CaptionTask

SMALL: dict[str, Any] = {"sizes": (300, 30, 30)}
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
OBJECT = r"a (?:(\w+) )?(red|green|blue|yellow|white|purple) (\w+)"


@pytest.fixture(scope="module")
def task() -> CaptionTask:
    return CaptionTask(**SMALL)


def captions(task: CaptionTask, ids: Ints) -> list[tuple[str, ...]]:
    """All captions of each picture."""
    return list(zip(*task.text_pairs(*task.references(ids), ids).references, strict=True))


def index(word: str, groups: Any) -> int:
    return next(number for number, names in enumerate(groups) if word in names)


def understood(caption: str) -> tuple[list[tuple[int, int, int | None]], list[int]]:
    """Objects (colour, shape, size) in the order of the scene, and their relations, by a second reading of the text."""
    objects = [
        (list(COLORS).index(color), index(shape, SHAPES), index(size, SIZES) if size else None)
        for size, color, shape in re.findall(OBJECT, caption)
    ]
    between = [part.strip() for part in re.split(OBJECT.replace("(", "(?:").replace("(?:?:", "(?:"), caption)[1:-1]]
    said = [re.sub(r"^(is|sits|that is|and) ?", "", part) for part in between]
    ways = [[index(text, pair) for pair in RELATIONS if any(text in names for names in pair)] for text in said]
    axes = [next(axis for axis, pair in enumerate(RELATIONS) if any(text in names for names in pair)) for text in said]
    if ways[0] == [1]:
        objects[:2] = objects[1::-1]
    return objects, axes


def test_what_is_said_is_what_the_scene_holds(task: CaptionTask) -> None:
    ids = task.instances("train").ids()
    scenes = make_scenes(0, ids, "train", (2, 3))
    for row, told in enumerate(captions(task, ids)):
        count = int(scenes.count[row])
        for caption in told:
            objects, axes = understood(caption)
            assert [each[:2] for each in objects] == list(
                zip(scenes.color[row, :count].tolist(), scenes.shape[row, :count].tolist(), strict=True)
            ), caption
            for size, wanted in zip((each[2] for each in objects), scenes.size[row].tolist(), strict=False):
                assert size in (None, wanted)
            assert axes == scenes.relation[row, : count - 1].tolist(), caption


def places(picture: Any, color: str) -> Any:
    """The mean place (line, column) of the pixels nearest to a colour, relative to its brightness."""
    pixels = picture.astype(np.float64)
    bright = pixels.max(axis=2) > 110
    directions = np.array([np.array(value) / np.linalg.norm(value) for value in COLORS.values()])
    nearest = (pixels @ directions.T / np.linalg.norm(pixels, axis=2, keepdims=True)).argmax(axis=2)
    return np.argwhere(bright & (nearest == list(COLORS).index(color))).mean(axis=0)


def test_pictures_show_what_captions_say() -> None:
    """Of two objects of different colours, the pixels of the first are left of, or above, those of the second."""
    scenes = make_scenes(3, np.arange(400), "train", (2, 2))
    scenes = scenes.take(np.flatnonzero(scenes.color[:, 0] != scenes.color[:, 1]))
    names = list(COLORS)
    for row, picture in enumerate(draw_scenes(scenes, 48)):
        first, second = (places(picture, names[scenes.color[row, place]]) for place in (0, 1))
        axis = 1 - int(scenes.relation[row, 0])  # left of: columns differ
        assert second[axis] - first[axis] > 8 and abs(second[1 - axis] - first[1 - axis]) < 14, row


def test_shapes_and_sizes_look_different() -> None:
    zeros = np.zeros((10, 3), np.int64)
    shape, size = zeros + np.repeat(np.arange(5), 2)[:, None], zeros + np.tile([0, 1], 5)[:, None]
    scenes = Scenes(0, np.zeros(10, np.int64), zeros[:, 0] + 2, zeros, shape, size, zeros[:, :2])
    areas = (draw_scenes(scenes, 64)[..., 0] > 110).sum(axis=(1, 2))
    assert (areas[1::2] > 2 * areas[::2]).all() and len(set(areas.tolist())) == 10


def test_no_split_shows_what_another_shows() -> None:
    contents = [
        set(make_scenes(0, CaptionTask(**SMALL).instances(split).ids(), split, (2, 2)).content.tolist())
        for split in SPLITS
    ]
    assert all(len(content) > 25 for content in contents)
    assert not contents[0] & contents[1] and not contents[0] & contents[2] and not contents[1] & contents[2]


def test_an_instance_is_the_same_whatever_it_is_made_with(task: CaptionTask) -> None:
    ids = np.array([7, 3, 7, 250])
    larger = CaptionTask(sizes=(400, 30, 30))
    pictures = task.source(ids).fields[PICTURE].values
    assert pictures.shape == (4, 32, 32, 3) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(larger.source(ids[1:2]).fields[PICTURE].values, pictures[1:2])
    assert captions(larger, ids) == captions(task, ids)
    other = CaptionTask(**SMALL, seed=1)
    assert (other.source(ids).fields[PICTURE].values != pictures).any() and captions(other, ids) != captions(task, ids)


def test_every_caption_is_trained_on_and_a_seed_chooses_it(task: CaptionTask) -> None:
    ids = task.instances("train").ids()
    drawn = [task.format_outputs(*task.training_pairs(ids, seed)[1:]) for seed in range(40)]
    assert task.format_outputs(*task.training_pairs(ids, 7)[1:]) == drawn[7]
    for row, told in enumerate(captions(task, ids)):
        found = {texts[row] for texts in drawn}
        assert found <= set(told)
    assert (
        sum(len({texts[row] for texts in drawn}) == len(set(told)) for row, told in enumerate(captions(task, ids)))
        > 290
    )


def test_captions_of_the_picture_are_worth_more_than_others(task: CaptionTask) -> None:
    ids = task.instances("validation").ids()
    sequences, lengths = task.references(ids)
    own = task.reward(sequences, lengths, ids)
    other = task.reward(np.roll(sequences, 1, axis=0), np.roll(lengths, 1), ids)
    assert own.components.keys() == {"sentence_cider"} and (own.total > other.total).mean() > 0.95
    metrics = task.corpus_metrics(sequences, lengths, ids)
    assert metrics.keys() == {"BLEU", "BLEU-1", "CIDEr-D"} and metrics["BLEU"] == pytest.approx(100)
    texts = task.format_outputs(sequences, lengths)
    np.testing.assert_array_equal(task.text_reward(texts, ids).total, own.total)


def test_checkpoints_hold_all_that_decoding_and_reward_need(task: CaptionTask, tmp_path: Path) -> None:
    task.save_artifacts(tmp_path)
    again = CaptionTask(artifacts=tmp_path, **SMALL)
    assert again.signature == task.signature and again.choices == task.choices
    ids = task.instances("test").ids()
    np.testing.assert_array_equal(
        again.reward(*again.references(ids), ids).total, task.reward(*task.references(ids), ids).total
    )
    shared = CaptionTask(artifacts=tmp_path, **SMALL)
    shared.use_shared_data(task.shared_data() or {})
    np.testing.assert_array_equal(shared.references(ids)[0], task.references(ids)[0])


def test_the_picture_is_drawn_and_words_are_labels(task: CaptionTask) -> None:
    sequences, lengths = task.references(np.array([5]))
    drawn = task.render(5, sequences[0, : lengths[0]])
    assert isinstance(drawn.drawing, Picture) and drawn.drawing.pixels.shape == (32, 32, 3)
    assert drawn.output == drawn.reference == " ".join(drawn.output_labels[:-1]) and drawn.output_labels[-1] == "END"


def test_ids_of_no_split_are_refused(task: CaptionTask) -> None:
    for ids in ([-1], [300], [0, 1 << 40], [(1 << 41) + 30]):
        with pytest.raises(ValueError, match="not all in split"):
            task.source(np.array(ids))
    with pytest.raises(ValueError, match="no data for split 'rl'"):
        task.instances("rl")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objects": (3, 2)}, "objects is (3, 2): give the smaller number first"),
        ({"objects": (1, 2)}, "objects is (1, 2); give"),
        ({"captions": 0}, "captions is 0; give"),
        ({"picture_size": 4}, "picture_size is 4; give"),
        ({"reward": {"cidr": 1.0}}, "did you mean 'cider'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        CaptionSettings(**settings)
    assert message in str(caught.value)
