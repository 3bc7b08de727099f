"""Pictures pixel by pixel: made digits, files of pictures, the classifier that rewards, and what is read from text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq_envs.drawing import Picture
from rlseq_envs.env import SequenceEnv, SequenceVectorEnv, score_sequences
from rlseq_envs.media.digits import digits_of, draw_digits
from rlseq_envs.media.picture_files import read_pictures
from rlseq_envs.rewards.recogniser import Recogniser
from rlseq_envs.task import END, SplitName
from rlseq_envs.tasks.pixels import PixelsTask

SMALL: dict[str, Any] = {"side": 10, "sizes": (900, 60, 60), "classifier_size": 24}
FREE: dict[str, Any] = {"conditional": False, "reward": {"match": 1.0}}
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
EMPTY, INK = 1, 2


@pytest.fixture(scope="module")
def task() -> PixelsTask:
    return PixelsTask(**SMALL)


# ---------------------------------------------------------------------------------------------------------- made digits
def test_a_digit_is_the_same_alone_and_among_others() -> None:
    ids = np.array([5, 1 << 40, 7, 900, (1 << 41) + 3])
    together = draw_digits(4, ids, 14)
    for place, each in enumerate(ids):
        np.testing.assert_array_equal(draw_digits(4, np.array([each]), 14)[0], together[place])
    np.testing.assert_array_equal(digits_of(4, ids), [digits_of(4, ids[place : place + 1])[0] for place in range(5)])
    assert (draw_digits(5, ids, 14) != together).any(axis=(1, 2)).all()


def test_more_pictures_than_are_drawn_together_are_drawn() -> None:
    ids = np.arange(300)
    np.testing.assert_array_equal(
        draw_digits(0, ids, 8)[[0, 255, 256, 299]], draw_digits(0, ids[[0, 255, 256, 299]], 8)
    )
    assert draw_digits(0, ids[:0], 8).shape == (0, 8, 8)


def test_all_ten_digits_are_made_equally_often_and_differ_from_picture_to_picture() -> None:
    ids = np.arange(4000)
    counts = np.bincount(digits_of(0, ids), minlength=10)
    assert counts.min() > 320 and counts.max() < 480
    pictures = draw_digits(0, ids[:500], 28)
    assert len(np.unique(pictures.reshape(500, -1), axis=0)) == 500
    ink = pictures.mean(axis=(1, 2))
    assert ink.min() > 0.03 and ink.max() < 0.4
    assert not pictures[:, 0].mean() > 0.02 and not pictures[:, :, 0].mean() > 0.02  # digits lie in the middle


def test_strokes_are_whole() -> None:
    """Nearly all ink of a picture touches other ink."""
    pictures = np.pad(draw_digits(0, np.arange(200), 28), ((0, 0), (1, 1), (1, 1)))
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
    touched = np.any([np.roll(pictures, move, (1, 2)) for move in moves], axis=0)
    assert (pictures & ~touched).sum() < 0.002 * pictures.sum()


# --------------------------------------------------------------------------------------------------------- the sequence
def test_a_sequence_is_a_picture_row_by_row_without_end(task: PixelsTask) -> None:
    ids = task.instances("validation").ids()[:5]
    tokens, lengths = task.references(ids)
    pictures = draw_digits(0, ids, 10)
    np.testing.assert_array_equal(tokens.reshape(5, 10, 10), np.where(pictures, INK, EMPTY))
    assert (lengths == 100).all() and task.choices.longest == 100
    assert task.choices.ends is False and task.choices.columns == 10


def test_splits_share_no_picture(task: PixelsTask) -> None:
    found = [task.references(task.instances(split).ids())[0] for split in SPLITS]
    assert [len(tokens) for tokens in found] == [900, 60, 60]
    assert len(np.unique(np.concatenate(found), axis=0)) > 1015


def test_the_source_is_the_digit_or_nothing(task: PixelsTask) -> None:
    ids = task.instances("train").ids()[:20]
    values, lengths = task.source(ids).fields["digit"]
    np.testing.assert_array_equal(values[:, 0], digits_of(0, ids) + 1)
    assert lengths is not None and (lengths == 1).all()
    free = PixelsTask(**SMALL | FREE)
    assert free.source(ids).fields == {} and free.source(ids).size == 20 and (free.sizes(ids) == 0).all()
    np.testing.assert_array_equal(free.references(ids)[0], task.references(ids)[0])


@pytest.mark.parametrize("ids", [[-1], [900], [0, 1 << 40], [(1 << 41) + 60]])
def test_ids_of_no_split_are_refused(task: PixelsTask, ids: list[int]) -> None:
    with pytest.raises(ValueError, match="are not all in split"):
        task.references(np.array(ids))


def test_an_episode_ends_at_the_last_pixel_and_not_by_truncation(task: PixelsTask) -> None:
    env = SequenceEnv(task)
    _, info = env.reset(seed=3)
    np.testing.assert_array_equal(info["action_mask"], [0, 1, 1])
    reference = task.references(np.array([info["instance_id"]]))[0][0]
    for number, token in enumerate(reference, 1):
        _, reward, terminated, truncated, info = env.step(token)
        assert (terminated, truncated) == (number == 100, False)
    assert reward == pytest.approx(task.reward(reference[None], np.array([100]), np.array([info["instance_id"]])).total)


def test_whole_sequences_are_never_truncated_and_those_with_end_are_short(task: PixelsTask) -> None:
    ids = np.array([3, 4])
    tokens = task.references(ids)[0]
    tokens[1, 40] = END
    scored = score_sequences(task, ids, tokens)
    assert scored.lengths.tolist() == [100, 41] and not scored.truncated.any()
    env = SequenceVectorEnv(task, 2, autoreset_mode="Disabled")
    env.reset(options={"ids": ids})
    for time in range(100):
        _, rewards, terminated, truncated, _ = env.step(tokens[:, time])
        assert not truncated.any() and terminated.tolist() == [time == 99, time >= 40]
    assert rewards[0] == scored.rewards[0]


# ------------------------------------------------------------------------------------------------------------ the worth
def test_the_classifier_knows_digits_it_has_not_seen() -> None:
    task = PixelsTask(side=16, sizes=(2000, 60, 300))
    ids = task.instances("test").ids()
    assert task.corpus_metrics(*task.references(ids), ids)["recognised"] > 95


def test_the_digit_that_is_asked_for_is_worth_more_than_another(task: PixelsTask) -> None:
    ids = task.instances("test").ids()
    tokens, lengths = task.references(ids)
    other = (np.arange(len(ids)) + 1 + np.argmax(np.diff(np.sort(digits_of(0, ids))))) % len(ids)
    right, wrong = task.reward(tokens, lengths, ids).total, task.reward(tokens[other], lengths, ids).total
    differs = digits_of(0, ids) != digits_of(0, ids[other])
    assert right.mean() > 0.7 and wrong[differs].mean() < 0.4
    assert ((right >= 0) & (right <= 1) & (wrong >= 0)).all()


def test_the_reward_is_the_log_probability_on_a_scale_from_0_to_1() -> None:
    task = PixelsTask(**SMALL)
    task.__dict__["_recogniser"] = FixedRecogniser(np.log([0.5, np.exp(-2.5), *[1e-9] * 8]))
    ids = np.arange(200)
    digits = digits_of(0, ids)
    found = task.reward(*task.references(ids), ids).total
    for digit, expected in ((0, 1 + np.log(0.5) / 5), (1, 0.5), (2, 0.0)):
        np.testing.assert_allclose(found[digits == digit], expected)


class FixedRecogniser(Recogniser):
    """It says the same of every picture."""

    def __init__(self, said: Any) -> None:
        self.said, self.digest = said, "0" * 64

    def log_probs(self, pictures: Any) -> Any:
        return np.tile(self.said, (len(pictures), 1))


def test_match_is_the_fraction_of_equal_pixels_and_what_is_cut_off_is_empty() -> None:
    task = PixelsTask(**SMALL | FREE)
    ids = np.array([0, 1, 2])
    tokens, lengths = task.references(ids)
    tokens[1, :7] = INK + EMPTY - tokens[1, :7]
    lengths[2] = 50
    cut = (tokens[2, 50:] == INK).sum()
    np.testing.assert_allclose(task.reward(tokens, lengths, ids).total, [1, 0.93, 1 - cut / 100])
    assert task.corpus_metrics(tokens, lengths, ids).keys() == {"match", "ink"}


def test_rewards_are_those_of_prefixes_in_increments(task: PixelsTask) -> None:
    ids = np.array([3, 4])
    tokens, lengths = task.references(ids)
    values = task.potentials(tokens, lengths, ids)
    np.testing.assert_allclose(values[:, -1], task.reward(tokens, lengths, ids).total)
    for time in (0, 30, 98):
        closed = np.pad(tokens[:, : time + 1], ((0, 0), (0, 1)))
        expected = task.reward(closed, np.full(2, time + 2), ids).total
        np.testing.assert_allclose(values[:, time], expected, atol=1e-12)


def test_the_classifier_travels_with_a_checkpoint(task: PixelsTask, tmp_path: Path) -> None:
    task.save_artifacts(tmp_path)
    other = PixelsTask(tmp_path, **SMALL | {"seed": 1})
    ids = task.instances("test").ids()
    assert other.signature == task.signature
    outputs = task.references(ids)
    task_said, other_said = (each._log_probs(*outputs) for each in (task, other))
    np.testing.assert_array_equal(task_said, other_said)
    assert PixelsTask(**SMALL | {"seed": 1}).signature != task.signature
    assert PixelsTask(**SMALL).signature == task.signature


@pytest.mark.parametrize(("side", "content"), [(10, b"no archive"), (9, None)])
def test_a_classifier_that_cannot_be_used_is_refused(
    task: PixelsTask, tmp_path: Path, side: int, content: bytes | None
) -> None:
    task.save_artifacts(tmp_path)
    if content is not None:
        (tmp_path / "classifier.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"classifier\.npz: cannot be read as a classifier of digits"):
        _ = PixelsTask(tmp_path, **SMALL | {"side": side}).signature


def test_a_reward_for_the_digit_needs_one_to_be_asked_for() -> None:
    with pytest.raises(ValueError, match="set conditional to true, or reward to"):
        PixelsTask(conditional=False)


# ---------------------------------------------------------------------------------------------------------------- files
def pictures(count: int, side: int = 10, seed: int = 0) -> Any:
    return draw_digits(seed, np.arange(count), side)


def write(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_packed_grey_and_binary_pictures_read_alike(tmp_path: Path) -> None:
    shown = {"train": pictures(40), "valid": pictures(12, seed=1), "test": pictures(11, seed=2)}
    packed = {name: np.packbits(each.reshape(len(each), -1), axis=1) for name, each in shown.items()}
    grey = {f"{name}_x": np.where(each, 200, 90).astype(np.uint8) for name, each in shown.items()}
    binary = {name: each.astype(np.uint8) for name, each in shown.items()}
    for number, arrays in enumerate((packed, grey, binary)):
        file = write(tmp_path / f"{number}.npz", **arrays)
        task = PixelsTask(file=file, side=10, **FREE)
        task.prepare()
        assert task.data_report() == ["pictures to train, validate and evaluate on: 40 / 12 / 11"]
        for split, name in zip(SPLITS, shown, strict=True):
            ids = task.instances(split).ids()
            expected = np.where(shown[name].reshape(len(ids), -1), INK, EMPTY)
            np.testing.assert_array_equal(task.references(ids)[0], expected)


def test_labels_are_the_source_and_without_valid_the_last_of_train_are_validated_on(tmp_path: Path) -> None:
    shown, labels = pictures(50).astype(np.uint8), digits_of(0, np.arange(50))
    file = write(tmp_path / "digits.npz", train_x=shown, train_y=labels, test_x=shown[:8], test_y=labels[:8])
    task = PixelsTask(file=file, side=10, classifier_size=8)
    task.prepare()
    assert [task.instances(split).size for split in SPLITS] == [42, 8, 8]
    ids = task.instances("validation").ids()
    np.testing.assert_array_equal(task.source(ids).fields["digit"].values[:, 0], labels[42:] + 1)
    np.testing.assert_array_equal(task.references(ids)[0], shown[42:].reshape(8, -1) + 1)
    assert "the classifier knows" in task.data_report()[1]
    again = PixelsTask(file=str(tmp_path / "gone.npz"), side=10, classifier_size=8)
    again.use_shared_data(task.shared_data() or {})
    np.testing.assert_array_equal(again.references(ids)[0], task.references(ids)[0])


def good() -> dict[str, Any]:
    shown = pictures(20).astype(np.uint8)
    return {"train": shown, "valid": shown[:5], "test": shown[:5]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train": None}, ["there is no array 'train', but valid, test"]),
        ({"test": None}, ["there is no array 'test', but train, valid"]),
        ({"train": np.zeros((9, 8, 8), np.uint8)}, ["train: uint8 of shape (9, 8, 8); give uint8 (pictures, 10, 10)"]),
        ({"valid": np.zeros((9, 10, 10))}, ["valid: float64 of shape (9, 10, 10)"]),
        ({"test": np.zeros((0, 10, 10), np.uint8)}, ["test: uint8 of shape (0, 10, 10)", "at least one picture"]),
        ({"train_y": np.full(20, 10)}, ["train: label 0 is 10; give numbers from 0 to 9"]),
        ({"train_y": np.zeros(3, np.int64)}, ["train: labels are int64 of shape (3,); give (20,) whole numbers"]),
        ({"valid": None, "train": np.zeros((5, 10, 10), np.uint8)}, ["train has no more pictures than test"]),
        (
            {"train": np.zeros((9, 8, 8), np.uint8), "test_y": np.full(5, -1)},
            ["train: uint8 of shape (9, 8, 8)", "test: label 0 is -1"],
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_all_that_is_wrong(
    tmp_path: Path, change: dict[str, Any], told: list[str]
) -> None:
    arrays = {name: value for name, value in (good() | change).items() if value is not None}
    file = write(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError) as caught:
        PixelsTask(file=file, side=10, **FREE).prepare()
    assert all(f"{file}" in line for line in str(caught.value).splitlines())
    assert all(text in str(caught.value) for text in told), caught.value


def test_a_file_that_is_missing_or_no_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.npz: no such file of pictures"):
        read_pictures(tmp_path / "gone.npz", 10)
    (tmp_path / "text.npz").write_text("pictures")
    with pytest.raises(ValueError, match=r"text\.npz: not a readable \.npz file .*write it with numpy\.savez"):
        read_pictures(tmp_path / "text.npz", 10)
    whole = Path(write(tmp_path / "cut.npz", **good()))
    whole.write_bytes(whole.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"cut\.npz: not a readable \.npz file"):
        read_pictures(whole, 10)


def test_digits_cannot_be_asked_for_without_labels(tmp_path: Path) -> None:
    file = write(tmp_path / "bare.npz", **good())
    with pytest.raises(ValueError, match=r"no labels of train, validation, test.*or set task\.conditional to false"):
        PixelsTask(file=file, side=10).prepare()


# ----------------------------------------------------------------------------------------------------------------- text
def test_pictures_are_written_as_rows_and_read_again(task: PixelsTask) -> None:
    ids = np.arange(4)
    tokens, lengths = task.references(ids)
    lines = task.format_outputs(tokens, lengths)
    assert lines[0].split()[3] == "".join(".#"[token == INK] for token in tokens[0, 30:40].tolist())
    again, found = task.parse_outputs(lines, ids)
    np.testing.assert_array_equal(again, tokens)
    np.testing.assert_array_equal(found, lengths)
    with pytest.raises(ValueError, match="line 2: no picture: give 10 rows of 10 signs"):
        task.parse_outputs([lines[0], lines[1][:-1], lines[2]], ids)
    with pytest.raises(ValueError, match="line 1: no picture"):
        task.parse_outputs([lines[0].replace("#", "x")], ids)


def test_sources_are_digits_or_empty_lines(task: PixelsTask) -> None:
    np.testing.assert_array_equal(task.parse_sources(["7", " 0 "]).fields["digit"].values, [[8], [1]])
    with pytest.raises(ValueError, match=r"line 2: '12' is no digit(.|\n)*line 3: '' is no digit"):
        task.parse_sources(["7", "12", ""])
    free = PixelsTask(**SMALL | FREE)
    assert free.parse_sources(["", ""]).size == 2
    with pytest.raises(ValueError, match="line 2: '7', but nothing is asked for: leave it empty"):
        free.parse_sources(["", "7"])


def test_the_output_is_drawn_beside_the_reference(task: PixelsTask) -> None:
    reference = task.references(np.array([2]))[0][0]
    shown = task.render(2, reference[:60])
    assert isinstance(shown.drawing, Picture) and shown.drawing.reference is not None
    picture = np.where(reference == INK, 255, 0).reshape(10, 10)
    np.testing.assert_array_equal(shown.drawing.reference, picture)
    np.testing.assert_array_equal(shown.drawing.pixels, np.where(np.arange(10)[:, None] < 6, picture, 0))
    assert shown.source == str(digits_of(0, np.array([2]))[0]) and "pixels of ink" in shown.output
    assert len(shown.output_labels) == 60
