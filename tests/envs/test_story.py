"""Story questions: made stories are true, files are read to the word, and faults are named with file and line."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq_envs.settings import StorySettings
from rlseq_envs.settings.story import QUESTION_KINDS
from rlseq_envs.tasks.story import StoryTask
from rlseq_envs.text.story_maker import COUNTS

STORIES = """1 Ada went to the attic.
2 Boris took the lamp there.
3 Where is Ada?\tattic\t1
4 Boris put down the lamp.
5 What did Boris carry?\tlamp,kettle\t2 4
1 Chen is in the cellar.
2 Is Chen in the attic?\tno\t1
"""


def in_file(directory: Path, text: str = STORIES, name: str = "fetching_train.txt") -> str:
    (directory / name).write_text(text)
    return str(directory / name)


def answered(story: str) -> str:
    """The answer to a made story by a second reading of it, from the text alone."""
    *sentences, question = re.findall(r"[^.?]+", story)
    at: dict[str, str] = {}
    own: dict[str, list[str]] = defaultdict(list)
    places: dict[str, list[str]] = defaultdict(list)
    for sentence in map(str.split, sentences):
        person, last = sentence[0], sentence[-1]
        if {"went", "walked", "ran", "now"} & set(sentence):
            at[person] = last
            for thing in own[person]:
                places[thing].append(last)
        elif {"took", "picked", "lifted"} & set(sentence):
            own[person].append(last)
            places[last] = places[last] or [at[person]]
        elif {"gave", "handed"} & set(sentence):
            own[person].remove(sentence[3])
            own[last].append(sentence[3])
            assert at[person] == at[last]
        elif {"put", "left"} & set(sentence):
            own[person].remove(sentence[3] if sentence[1] == "left" else last)
    words = question.split()
    if words[:2] == ["where", "is"]:
        return at[words[2]] if len(words) == 3 else places[words[3]][-1]
    if words[0] == "where":
        assert places[words[3]][-1] == words[-1]
        return places[words[3]][-2]
    if words[0] == "is":
        return "yes" if at[words[1]] == words[-1] else "no"
    carried = own[words[-2]]
    return COUNTS[len(carried)] if words[0] == "how" else " ".join(carried) or "nothing"


def test_made_answers_follow_from_the_story() -> None:
    task = StoryTask(sentences=(3, 16))
    ids = task.instances("train").ids(0, 600)
    answers, lengths = task.references(ids)
    groups = set()
    for row, instance in enumerate(ids.tolist()):
        drawn = task.render(instance, answers[row, : lengths[row]])
        assert drawn.reference == drawn.output == answered(drawn.source), drawn.source
        groups.add(drawn.source.split(".")[-1].split()[0])
        assert len(drawn.input_labels) in range(3, 17)
    assert groups == {"where", "is", "how", "what"}
    assert not (answers == 1).any() and not (task.source(ids).fields["story"].values == 1).any()


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_no_answer_of_a_kind_is_right_for_all(kind: str) -> None:
    task = StoryTask(questions=(kind,))
    ids = task.instances("test").ids(0, 300)
    answers = task.format_outputs(*task.references(ids))
    assert max(map(answers.count, set(answers))) < 200


def test_an_instance_is_the_same_whatever_it_is_drawn_with() -> None:
    task, ids = StoryTask(), np.array([5, 3, 5, 900])
    together, alone = task.source(ids), StoryTask().source(ids[2:3])
    for name, field in alone.fields.items():
        wide = together.fields[name].values[2]
        cut = wide[tuple(slice(size) for size in field.values.shape[1:])]
        np.testing.assert_array_equal(cut, field.values[0])
        assert not wide[len(cut) :].any()
    assert (StoryTask(seed=1).references(np.arange(50))[0][:, 0] != task.references(np.arange(50))[0][:, 0]).any()


def test_files_are_read_to_the_word(tmp_path: Path) -> None:
    (tmp_path / "asking-test.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + STORIES.encode()))
    task = StoryTask(
        train_files=in_file(tmp_path), validation_files=in_file(tmp_path, name="b_valid.txt"),
        test_files=[str(tmp_path / "asking-test.txt.gz"), in_file(tmp_path, name="fetching.txt")],
    )  # fmt: skip
    task.prepare()
    ids = task.instances("test").ids()
    assert len(ids) == 6
    answers, lengths = task.references(ids)
    drawn = task.render(int(ids[1]), answers[1, : lengths[1]])
    assert (
        drawn.source
        == "ada went to the attic. boris took the lamp there. boris put down the lamp. what did boris carry?"
    )
    assert drawn.reference == "lamp kettle" and drawn.output_labels == ("lamp", "kettle", "END")
    assert task.corpus_metrics(answers, lengths, ids) == {
        "accuracy": 100.0, "accuracy_asking": 100.0, "accuracy_fetching": 100.0, "f1": 1.0, "truncated": 0.0,
    }  # fmt: skip
    sources = task.parse_sources([task.render(int(one), answers[0]).source for one in ids])
    for name, field in task.source(ids).fields.items():
        np.testing.assert_array_equal(sources.fields[name].values, field.values)
    np.testing.assert_array_equal(task.parse_outputs(task.format_outputs(answers, lengths), ids)[0], answers)


def test_a_list_may_be_a_class_and_only_the_last_sentences_are_remembered(tmp_path: Path) -> None:
    files = in_file(tmp_path)
    task = StoryTask(train_files=files, validation_files=files, lists="class", memory=2)
    ids = task.instances("train").ids()
    answers, lengths = task.references(ids)
    assert lengths.tolist() == [2, 2, 2]
    drawn = task.render(1, answers[1])
    assert drawn.reference == "lamp,kettle" and drawn.input_labels == (
        "boris took the lamp there",
        "boris put down the lamp",
    )


def test_a_part_of_the_stories_is_held_out(tmp_path: Path) -> None:
    task = StoryTask(train_files=in_file(tmp_path, STORIES * 10), held_out=0.25)
    assert (task.instances("train").size, task.instances("validation").size) == (25, 5)  # of 20 stories 5
    with pytest.raises(ValueError, match=r"set task\.test_files"):
        task.instances("test")


def test_a_wrong_answer_is_worth_its_words(tmp_path: Path) -> None:
    files = in_file(tmp_path)
    task = StoryTask(train_files=files, validation_files=files, reward={"exact_match": 1.0, "f1": 0.5})
    ids = np.ones(4, np.int64)
    lamp, kettle = task.vocabulary.encode_one("lamp kettle")[:2]
    rows = np.array([[lamp, kettle, 0], [kettle, lamp, 0], [lamp, 0, kettle], [0, lamp, kettle]])
    reward = task.reward(rows, np.array([3, 3, 2, 1]), ids)
    np.testing.assert_allclose(reward.components["exact_match"], [1, 0, 0, 0])
    np.testing.assert_allclose(reward.components["f1"], [1, 1, 2 / 3, 0])
    np.testing.assert_allclose(reward.total, [1.5, 0.5, 1 / 3, 0])


def test_a_word_that_was_never_seen_is_never_right(tmp_path: Path) -> None:
    other = in_file(tmp_path, "1 Ada sat down.\n2 Where is Ada?\tgarret\n", "other.txt")
    task = StoryTask(train_files=in_file(tmp_path), validation_files=other)
    ids = task.instances("validation").ids()
    assert task.reward(*task.references(ids), ids).total.tolist() == [0.0]


def test_artifacts_are_all_that_decoding_needs(tmp_path: Path) -> None:
    task = StoryTask(train_files=in_file(tmp_path), held_out=0.5)
    task.save_artifacts(tmp_path)
    again = StoryTask(tmp_path, train_files=str(tmp_path / "gone.txt"))
    assert again.choices == task.choices and again.sources == task.sources and again.signature == task.signature
    assert again.parse_sources(["ada sat. where is ada?"]).fields["question"].values.shape == (1, 3)


FAULTS = {
    "no question": (STORIES + "1 Dina sat down.\n", ["8: the story that begins here has no question"]),
    "no question before": ("1 Dina sat down.\n" + STORIES, ["1: the story that begins here has no question"]),
    "empty sentence": (STORIES.replace("Boris put down the lamp.", " . "), ["4: the sentence is empty"]),
    "no answer": (STORIES.replace("\tattic\t1", ""), ["3: the question has no answer"]),
    "empty answer": (STORIES.replace("attic\t1", ""), ["3: the question has no answer"]),
    "empty question": (STORIES.replace("Where is Ada?", "?"), ["3: the question is empty"]),
    "no sentence": (STORIES.replace("1 Chen is in the cellar.\n2", "1"), ["6: the question comes before any sentence"]),
    "no number": (STORIES.replace("2 Boris", "Boris"), ["2: does not begin with a number", "3: is numbered 3 after 1"]),
    "blank line": (STORIES.replace("1 Chen", "\n1 Chen"), ["6: does not begin with a number"]),
    "gap": (STORIES.replace("4 Boris", "6 Boris"), ["4: is numbered 6 after 3", "5: is numbered 5 after 6"]),
    "long": (STORIES.replace("there", "there " * 20), ["2: has 24 words, more than task.max_words 20: set it to 24"]),
    "long answer": (STORIES.replace("kettle", "kettle," * 7), ["5: the answer has 9 tokens"]),
    "nothing": ("", ["is empty"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_with_file_and_line(tmp_path: Path, fault: str) -> None:
    text, told = FAULTS[fault]
    files = [in_file(tmp_path, text), str(tmp_path / "absent.txt")]
    with pytest.raises(ValueError) as caught:
        StoryTask(train_files=files).prepare()
    first, *lines = str(caught.value).splitlines()
    assert first == "the corpus cannot be used:" and len(lines) == len(told) + 1
    for line, expected in zip(lines, told, strict=False):
        assert line.removeprefix(f"  {files[0]}:").strip().startswith(expected)
    assert "absent.txt: cannot be read" in lines[-1]


def test_stories_without_a_question_may_be_left_out(tmp_path: Path) -> None:
    files = in_file(tmp_path, STORIES + "1 Dina sat down.\n")
    task = StoryTask(train_files=files, validation_files=files, skip_unasked=True)
    assert task.instances("train").size == 3
    assert task.data_report() == ["train data: lines 8, pairs 3, skipped unasked 1"]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"questions": ()}, "questions is empty"),
        ({"sentences": (9, 4)}, "give the smaller number first"),
        ({"sentences": (1, 4)}, "give at least 3"),
        ({"test_files": "x"}, "give train_files, too"),
        ({"train_files": "x", "held_out": 0.0}, "held_out is 0"),
        ({"train_files": "x", "train_size": 5}, "leave train_size out"),
        ({"reward": {"exact": 1.0}}, "did you mean 'exact_match'?"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        StorySettings(**keys)


def test_sources_as_text_are_refused_by_their_lines() -> None:
    lines = ["ada sat.", "where is ada?", "ada sat. . where is ada?", "ada sat. where is ada?", "a " * 30 + ". who?"]
    with pytest.raises(ValueError) as caught:
        StoryTask().parse_sources(lines)
    assert [line[:6] for line in str(caught.value).splitlines()] == ["line 1", "line 2", "line 3", "line 5"]
