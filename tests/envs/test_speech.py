"""Speech: strings of one speaker's clips, no two splits alike; files of clips and lists of recordings; their faults."""

from __future__ import annotations

import wave
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rlseq_envs.drawing import Strip
from rlseq_envs.media.digit_maker import make_clips
from rlseq_envs.media.recordings import DIGITS, Clips, DigitStrings
from rlseq_envs.media.sound import Samples, Sounds
from rlseq_envs.settings import SpeechSettings
from rlseq_envs.task import Ints, SplitName
from rlseq_envs.tasks.speech import SpeechTask
from rlseq_envs.text.corpus import CorpusError
from tests.support import only

SMALL: dict[str, Any] = {"speakers": (2, 1, 1), "takes": 2, "bands": 16}
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
RATE = 8000


@pytest.fixture(scope="module")
def task() -> SpeechTask:
    return SpeechTask(**SMALL)


def numbered_clips(speakers: int = 3, each: int = 4) -> Clips:
    """Clips of each speaker whose samples are all the number of the clip, from 1."""
    count = speakers * each
    sounds = Sounds.gather(np.full(40 + 7 * clip, clip + 1, np.int16) for clip in range(count))
    return Clips(sounds, np.arange(count) % 10, np.arange(count) // each)


def parts(sound: Samples) -> tuple[list[int], list[int]]:
    """The clips of a string of numbered ones, and the samples of silence between them."""
    edges = np.flatnonzero(np.diff(sound, prepend=-1, append=-1))
    runs = [(int(sound[begin]), end - begin) for begin, end in pairwise(edges.tolist())]
    return [value - 1 for value, _ in runs if value], [length for value, length in runs if not value]


# ----------------------------------------------------------------------------------------------------------- strings
def test_a_string_is_clips_of_one_speaker_with_silence_between() -> None:
    clips = numbered_clips()
    strings = DigitStrings(clips, (1, 5), (10, 20), 10**6, seed=3)
    numbers = np.arange(600)
    gaps: list[int] = []
    for number, sound, text, length in zip(
        numbers, strings.sounds(numbers), strings.texts(numbers), strings.lengths(numbers), strict=True
    ):
        found, silent = parts(sound)
        assert len(sound) == length and text == " ".join(DIGITS[clips.digit[clip]] for clip in found)
        assert len({int(clips.speaker[clip]) for clip in found}) == 1, number
        assert len(silent) == len(found) - 1
        gaps += silent
        # A clip may follow itself, but lasts as long as it did.
        assert sum(len(clips.sounds[clip]) for clip in found) + sum(silent) == length
    assert (min(gaps), max(gaps)) == (10, 20)


def test_each_clip_begins_a_string_of_each_number_of_digits() -> None:
    clips = numbered_clips()
    strings = DigitStrings(clips, (2, 4), (5, 5), 10**6, seed=0)
    begun = [parts(sound)[0] for sound in strings.sounds(np.arange(3 * 12))]
    assert Counter((found[0], len(found)) for found in begun) == Counter(
        {(clip, count): 1 for clip in range(12) for count in (2, 3, 4)}
    )
    alone = DigitStrings(clips, (1, 1), (5, 5), 10**6, seed=0)
    assert sorted(parts(sound)[0][0] for sound in alone.sounds(np.arange(12))) == list(range(12))


def test_splits_have_strings_of_their_own() -> None:
    texts = [DigitStrings(numbered_clips(), (5, 5), (1, 9), 10**6, 0, first).texts(np.arange(50)) for first in (0, 99)]
    assert sum(one == other for one, other in zip(*texts, strict=True)) < 5


def test_a_string_that_would_be_too_long_has_fewer_digits() -> None:
    strings = DigitStrings(numbered_clips(), (5, 5), (10, 20), 300, seed=0)
    lengths, texts = strings.lengths(np.arange(200)), strings.texts(np.arange(200))
    assert lengths.max() <= 300 and {len(text.split()) for text in texts} >= {2, 3}


def test_an_instance_is_the_same_whatever_it_is_made_with(task: SpeechTask) -> None:
    ids = np.array([7, 3, 7, 250_000])
    frames, lengths = only(task.source(ids))
    again, counts = only(SpeechTask(**SMALL).source(ids[1:2]))
    np.testing.assert_array_equal(again[0], frames[1, : int(counts[0])])
    assert frames.dtype == np.float32 and frames.shape == (4, lengths.max(), 16)
    np.testing.assert_array_equal(task.sizes(ids), lengths)
    np.testing.assert_array_equal(frames[0], frames[2])
    assert (SpeechTask(**SMALL, seed=1).sizes(ids) != lengths).any()


def test_no_split_hears_what_another_hears(task: SpeechTask) -> None:
    """Neither a speaker nor a clip."""
    task.prepare()
    held = task.shared_data()
    assert held is not None
    clips = {split: held[split].clips for split in SPLITS}  # type: ignore[attr-defined]
    assert [set(clips[split].speaker.tolist()) for split in SPLITS] == [{0, 1}, {2}, {3}]
    heard = [{one.clips.sounds[row].tobytes() for row in range(len(one.clips.digit))} for one in held.values()]  # type: ignore[attr-defined]
    assert len(set.union(*heard)) == sum(map(len, heard)) == 4 * 10 * 2


# -------------------------------------------------------------------------------------------------------- made clips
def test_made_clips_are_functions_of_seed_speaker_digit_and_take() -> None:
    clips = make_clips(0, np.array([4, 9]), 2, RATE)
    alone = make_clips(0, np.array([9]), 2, RATE)
    assert len(clips.digit) == 40 and Counter(clips.digit.tolist()) == Counter(dict.fromkeys(range(10), 4))
    for row in range(20):
        np.testing.assert_array_equal(alone.sounds[row], clips.sounds[20 + row])
    other = make_clips(1, np.array([9]), 2, RATE)
    assert not any(np.array_equal(other.sounds[row], alone.sounds[row]) for row in range(20))
    seconds = clips.sounds.lengths / RATE
    assert 0.1 < seconds.min() and seconds.max() < 1.0
    assert all(np.abs(clips.sounds[row]).max() > 300 for row in range(40))


def test_digits_differ_more_than_takes() -> None:
    """A take is nearer to the other one of its digit than to other digits of its speaker, by the mean frame."""
    task = SpeechTask(**SMALL)
    clips = make_clips(0, np.arange(6), 2, RATE)
    means = np.stack([task.log_mel(clips.sounds[row]).mean(axis=0) for row in range(120)]).reshape(6, 10, 2, 16)
    right = 0
    for speaker in means:
        distances = np.linalg.norm(speaker[:, None, 0] - speaker[None, :, 1], axis=2)
        right += int((distances.argmin(axis=1) == np.arange(10)).sum())
    assert right > 40


# ----------------------------------------------------------------------------------------------------- text and worth
@pytest.mark.parametrize("units", ["word", "character"])
def test_texts_are_spelled_out_and_the_right_one_is_worth_most(units: str) -> None:
    task = SpeechTask(**SMALL, units=units, reward={"neg_wer": 1.0, "neg_cer": 0.5})
    ids = task.instances("test").ids(0, 40)
    sequences, lengths = task.references(ids)
    texts = task.format_outputs(sequences, lengths)
    assert {word for text in texts for word in text.split()} == set(DIGITS)
    assert {len(text.split()) for text in texts} == {1, 2, 3, 4, 5}
    right = task.reward(sequences, lengths, ids)
    wrong = task.reward(np.roll(sequences, 1, axis=0), np.roll(lengths, 1), ids)
    assert (right.total == 0).all() and (wrong.total < 0).all()
    assert right.components.keys() == {"sentence_neg_wer", "sentence_neg_cer"}
    np.testing.assert_array_equal(task.text_reward(texts, ids).total, right.total)


def test_error_rates_are_told_by_the_number_of_digits() -> None:
    task = SpeechTask(**SMALL, digits=(1, 2))
    ids = task.instances("test").ids(0, 40)
    sequences, lengths = task.references(ids)
    assert task.selection_metric == "WER"
    wrong = sequences.copy()
    single = lengths == 2
    wrong[single, 0] = np.where(sequences[single, 0] == 2, 3, 2)
    found = task.corpus_metrics(wrong, lengths, ids)
    assert found["WER_1"] == 100 and found["WER_2"] == 0 and found.keys() == {"WER", "CER", "WER_1", "WER_2"}
    assert found["WER"] == pytest.approx(100 * single.sum() / (lengths - 1).sum())
    alone = SpeechTask(**SMALL, digits=(2, 2))
    assert alone.corpus_metrics(*alone.references(ids), ids) == {"WER": 0.0, "CER": 0.0}


def test_cross_entropy_does_not_see_a_stretch_of_frames_and_bands() -> None:
    task = SpeechTask(**SMALL, mask_bands=5, mask_frames=9)
    ids = np.arange(60)
    whole, lengths = only(task.source(ids))
    seen: list[tuple[int, int]] = []
    for seed in (1, 2):
        source, sequences, _ = task.training_pairs(ids, seed)
        frames = only(source)[0]
        np.testing.assert_array_equal(sequences, task.references(ids)[0])
        for row, length in enumerate(lengths):
            hidden = (frames[row] != whole[row])[:length]
            bands, times = hidden.all(axis=0), hidden.all(axis=1)
            assert (hidden <= (bands | times[:, None])).all() and not frames[row, :length][hidden].any()
            for mask in (bands, times):
                assert np.count_nonzero(np.diff(mask.astype(int), prepend=0) == 1) <= 1
            seen.append((int(bands.sum()), int(times.sum())))
    assert max(bands for bands, _ in seen) == 5 and max(times for _, times in seen) == 9
    assert min(bands for bands, _ in seen) == min(times for _, times in seen) == 0 and seen[:60] != seen[60:]
    np.testing.assert_array_equal(only(SpeechTask(**SMALL).training_pairs(ids, 1)[0])[0], whole)


def test_frames_are_drawn_and_tokens_are_labels(task: SpeechTask) -> None:
    ids = np.array([3])
    sequences, lengths = task.references(ids)
    drawn = task.render(3, sequences[0, : lengths[0]])
    assert isinstance(drawn.drawing, Strip) and drawn.drawing.values.shape == (16, task.sizes(ids)[0])
    assert drawn.output == drawn.reference == " ".join(drawn.output_labels[:-1]) and drawn.output_labels[-1] == "END"
    assert drawn.source.startswith("sound 3, ") and drawn.source.endswith(" seconds")


def test_checkpoints_hold_all_that_decoding_needs(task: SpeechTask, tmp_path: Path) -> None:
    task.save_artifacts(tmp_path)
    again = SpeechTask(artifacts=tmp_path, **SMALL, clips_file=str(tmp_path / "gone.npz"))
    assert again.choices == task.choices and again.sources == task.sources and again.signature == task.signature
    shared = SpeechTask(artifacts=tmp_path, **SMALL)
    shared.use_shared_data(task.shared_data() or {})
    np.testing.assert_array_equal(shared.references(np.arange(9))[0], task.references(np.arange(9))[0])


def test_ids_of_no_split_are_refused(task: SpeechTask) -> None:
    for ids in ([-1], [0, 1 << 40], [(1 << 41) + 2000]):
        with pytest.raises(ValueError, match="not all in split"):
            task.source(np.array(ids))
    with pytest.raises(ValueError, match="no data for split 'rl'"):
        task.instances("rl")


# --------------------------------------------------------------------------------------------------- a file of clips
def fields(speakers: int = 2, indices: int = 12) -> dict[str, Any]:
    """Those of a file of clips whose samples are all different."""
    grids = np.indices((speakers, 10, indices)).reshape(3, -1)
    audio = np.arange(100 * grids.shape[1]).astype(np.int16)
    offset = 100 * np.arange(grids.shape[1] + 1)
    return {"audio": audio, "offset": offset, "speaker": grids[0], "digit": grids[1], "index": grids[2]}


def saved(path: Path, **changes: Any) -> str:
    values = {name: value for name, value in (fields() | changes).items() if value is not None}
    np.savez(path, **values)
    return str(path)


def clips_of(task: SpeechTask) -> dict[SplitName, set[bytes]]:
    task.prepare()
    held: Any = task.shared_data()
    return {split: {one.clips.sounds[row].tobytes() for row in range(len(one.clips.digit))}
            for split, one in held.items()}  # fmt: skip


def wanted(file: dict[str, npt.NDArray[Any]], rows: npt.NDArray[np.bool_]) -> set[bytes]:
    return {file["audio"][file["offset"][row] : file["offset"][row + 1]].tobytes() for row in np.flatnonzero(rows)}


def test_splits_of_a_file_follow_the_index(tmp_path: Path) -> None:
    file = fields()
    found = clips_of(SpeechTask(clips_file=saved(tmp_path / "clips.npz")))
    index = file["index"]
    ranges = {"train": index >= 10, "validation": (index >= 5) & (index < 10), "test": index < 5}
    assert found == {split: wanted(file, rows) for split, rows in ranges.items()}


def test_speakers_left_out_are_tested_on_with_all_their_clips(tmp_path: Path) -> None:
    file = fields()
    found = clips_of(SpeechTask(clips_file=saved(tmp_path / "clips.npz"), left_out=(1,)))
    other, index = file["speaker"] == 0, file["index"]
    ranges = {"train": other & (index >= 10), "validation": other & (index >= 5) & (index < 10), "test": ~other}
    assert found == {split: wanted(file, rows) for split, rows in ranges.items()}


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"speaker": None}, ["cannot be read as clips", "give an .npz of audio, offset, digit, speaker, index"]),
        ({"digit": np.zeros((240, 1), int)}, ["digit is no row of whole numbers"]),
        ({"digit": np.full(240, 0.5), "index": np.zeros(240)}, ["digit is no row", "index is no row"]),
        ({"audio": np.zeros(24000, np.int32)}, ["audio is int32: give int16"]),
        ({"digit": np.full(240, 10)}, ["digit leaves 0 … 9"]),
        ({"digit": np.full(239, 10)}, ["entries: give one a clip", "digit leaves 0 … 9"]),
        ({"offset": 100 * np.arange(241) - 1}, ["offset does not rise from 0"]),
        ({"offset": 90 * np.arange(241)}, ["offset does not rise from 0"]),
        ({"index": np.zeros(240, int)}, ["has no clip for train, validation: indices 0–4 are tested on"]),
    ],
)
def test_a_file_of_clips_that_cannot_be_used_is_told(changes: Any, messages: list[str], tmp_path: Path) -> None:
    path = saved(tmp_path / "clips.npz", **changes)
    with pytest.raises(CorpusError) as caught:
        SpeechTask(clips_file=path).prepare()
    for message in messages:
        assert message in str(caught.value)
    assert all(problem.path == path for problem in caught.value.problems)


def test_damage_of_every_kind_in_a_packed_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "clips.npz"
    np.savez_compressed(path, **fields())
    whole = path.read_bytes()
    for place in range(30, len(whole), len(whole) // 60):
        path.write_bytes(whole[:place] + bytes(byte ^ 0xFF for byte in whole[place : place + 20]) + whole[place + 20 :])
        with pytest.raises(CorpusError, match="cannot be read as clips"):
            SpeechTask(clips_file=str(path)).prepare()


def test_a_file_that_is_none_or_lacks_a_speaker_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    for path, reason in (("text.npz", "cannot be read as clips"), ("gone.npz", "there is no such file")):
        with pytest.raises(CorpusError, match=reason):
            SpeechTask(clips_file=str(tmp_path / path)).prepare()
    with pytest.raises(CorpusError, match=r"has no speaker 7: change task\.left_out"):
        SpeechTask(clips_file=saved(tmp_path / "clips.npz"), left_out=(1, 7)).prepare()
    with pytest.raises(ValueError, match=r"a clip lasts 0\.01 seconds, more than 0\.01: raise task\.max_seconds"):
        SpeechTask(clips_file=saved(tmp_path / "clips.npz"), max_seconds=0.01, window=0.005, bands=4).prepare()


# -------------------------------------------------------------------------------------------------------- recordings
def write_wave(path: Path, samples: Ints, rate: int = RATE) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


def listed(folder: Path, texts: list[str], name: str = "list.tsv") -> str:
    """A list of recordings beside it, one a text."""
    lines = []
    for number, text in enumerate(texts):
        write_wave(folder / f"{number}.wav", np.arange(400 + 80 * number) * (number + 1) % 999)
        lines.append(f"{number}.wav\t{text}\n")
    (folder / name).write_text("".join(lines))
    return str(folder / name)


def test_recordings_are_what_a_list_names(tmp_path: Path) -> None:
    texts = ["good  morning", "good night", "night", "morning"]
    path = listed(tmp_path, texts)
    task = SpeechTask(train_file=path, validation_file=path, bands=16, hop=0.01)
    assert task.instances("train").size == 4
    ids = task.instances("validation").ids()
    frames, lengths = only(task.source(ids))
    assert lengths.tolist() == task.sizes(ids).tolist() == [3, 4, 5, 6] and frames.shape == (4, 6, 16)
    sequences, counts = task.references(ids)
    assert task.format_outputs(sequences, counts) == ["good morning", "good night", "night", "morning"]
    assert task.corpus_metrics(sequences, counts, ids) == {"WER": 0.0, "CER": 0.0}
    assert task.data_report() == ["train data: lines 4, pairs 4", "validation data: lines 4, pairs 4"]
    with pytest.raises(ValueError, match="no data for split 'test'"):
        task.instances("test")
    read = task.parse_sources([str(tmp_path / "1.wav"), str(tmp_path / "3.wav")])
    np.testing.assert_array_equal(only(read)[0][1], frames[3])
    np.testing.assert_array_equal(only(read)[1], [4, 6])


def brief(hypotheses: list[str], references: list[tuple[str, ...]], ids: Ints) -> list[float]:
    return [1.0 / (1 + len(text)) for text in hypotheses]


def test_one_recording_is_enough_and_the_users_reward_is_tried_on_it(tmp_path: Path) -> None:
    path = listed(tmp_path, ["night"])
    task = SpeechTask(train_file=path, validation_file=path, reward={f"{__name__}:brief": 1.0})
    task.prepare()
    ids = task.instances("train").ids()
    assert task.reward(*task.references(ids), ids).total.tolist() == [1 / 6]


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (lambda folder: (folder / "1.wav").unlink(), 2, "1.wav is no file: check its path"),
        (lambda folder: (folder / "0.wav").write_text("x" * 99), 1, "0.wav cannot be read as a WAV file"),
        (lambda folder: write_wave(folder / "1.wav", np.arange(400), 16000), 2, "has 16,000 samples a second"),
        (lambda folder: write_wave(folder / "1.wav", np.arange(9000)), 2, "lasts 1.1 seconds, more than 1: cut it"),
        (lambda folder: (folder / "list.tsv").write_text("0.wav\tone\n1.wav\t \n"), 2, "has no text behind the tab"),
        (lambda folder: (folder / "list.tsv").write_text("0.wav one\n1.wav\ttwo\n"), 1, "is no `path of a WAV"),
        (lambda folder: (folder / "list.tsv").write_text("0.wav\ta\tb\n1.wav\tb\n"), 1, "is no `path of a WAV"),
    ],
)
def test_a_fault_of_a_recording_names_its_line(
    change: Callable[[Path], object], line: int, message: str, tmp_path: Path
) -> None:
    path = listed(tmp_path, ["one", "two"])
    change(tmp_path)
    with pytest.raises(CorpusError) as caught:
        SpeechTask(train_file=path, validation_file=path, max_seconds=1.0).prepare()
    assert len(caught.value.problems) == 2  # of training and of validation
    assert all((problem.path, problem.line) == (path, line) for problem in caught.value.problems)
    assert message in str(caught.value)


def test_all_faults_are_told_at_once_and_many_are_counted(tmp_path: Path) -> None:
    good = listed(tmp_path, ["one"])
    bad = tmp_path / "bad.tsv"
    bad.write_text("gone.wav\tone\n" * 8)
    with pytest.raises(CorpusError) as caught:
        SpeechTask(train_file=good, validation_file=str(bad), test_file=str(tmp_path / "gone.tsv")).prepare()
    lines = str(caught.value).splitlines()[1:]
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3, 4, 5, None, None]
    assert "and 3 more lines at fault" in lines[5] and "gone.tsv: cannot be read" in lines[6]


def test_sources_that_cannot_be_read_are_told_by_line(task: SpeechTask, tmp_path: Path) -> None:
    write_wave(tmp_path / "a.wav", np.arange(400), 16000)
    with pytest.raises(ValueError) as caught:
        task.parse_sources([str(tmp_path / "a.wav"), str(tmp_path / "b.wav")])
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"line 1: {tmp_path}/a.wav has 16,000") and "line 2: " in second and "b.wav" in second


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"digits": (3, 2)}, "digits is (3, 2): give the smaller number first"),
        ({"silence": (0.2, 0.1)}, "silence is (0.2, 0.1): give the smaller number first"),
        ({"train_file": "a", "validation_file": "b", "clips_file": "c"}, "exclude each other"),
        ({"train_file": "a"}, "train_file and validation_file go together"),
        ({"test_file": "a"}, "test_file is for recordings"),
        ({"left_out": (1,)}, "left_out is for clips_file"),
        ({"hop": 1e-5}, "hop and window hold less than"),
        ({"metrics": ("CER",)}, "metrics must hold WER, which picks the best checkpoint"),
        ({"reward": {"neg_wr": 1.0}}, "did you mean 'neg_wer'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        SpeechSettings(**settings)
    assert message in str(caught.value)
