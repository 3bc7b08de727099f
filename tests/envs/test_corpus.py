"""Faulty corpora: each fault ends in an error with its place or in a counted skip; no line slips against another."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq_envs.tasks.translation import TranslationTask
from rlseq_envs.text.corpus import (
    MAX_LINE_CHARACTERS,
    CorpusError,
    CorpusReport,
    Problem,
    SplitReport,
    drop_unusable_pairs,
    find_endless_lines,
    read_parallel,
)
from tests.support import only

GOOD = b"one\ntwo\nthree\n"


class Corpus:
    """Files in a folder and what reading them gave."""

    def __init__(self, folder):
        self.folder = folder
        self.report = SplitReport()
        self.problems = []

    def read(self, source=GOOD, *targets):
        paths = []
        for index, content in enumerate((source, *(targets or (GOOD,)))):
            path = self.folder / f"side{index}"
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            paths.append(str(path))
        self.report, self.problems = SplitReport(), []
        return read_parallel(paths[0], paths[1:], self.report, self.problems)

    def faults(self, *contents):
        self.read(*contents)
        return [(problem.path.rsplit("/", 1)[-1], problem.line, problem.message) for problem in self.problems]


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


def packed(content: bytes) -> bytes:
    """As .gz without the time: test ids hold it, and processes that run tests side by side must agree on these."""
    return gzip.compress(content, mtime=0)


def rows(text):
    return [list(side) for side in text.sides]


def test_plain_and_gzip_files_give_the_same(corpus):
    plain = rows(corpus.read(GOOD, b"eins\nzwei\ndrei\n"))
    unpacked = rows(corpus.read(packed(GOOD), packed(b"eins\nzwei\n") + packed(b"drei")))
    assert plain == unpacked == [["one", "two", "three"], ["eins", "zwei", "drei"]]
    assert corpus.problems == []
    assert corpus.report.lines == 3


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (None, None, "No such file"),
        (b"", None, "is empty"),
        (packed(b""), None, "is empty"),
        (b"one\ntwo\n", None, "has 2 lines, but"),
        (b"one\n\n\ntwo\nthree\n", None, "has 5 lines, but"),
        (b"one\nt\xffo\nthree\n", 2, "invalid UTF-8 at byte 2"),
        (b"one\ntwo\nthr\xc3\n", 3, "invalid UTF-8 at byte 4"),
        (b"\xed\xa0\x80\ntwo\nthree\n", 1, "invalid UTF-8"),
        (b"one\ntwo\0\nthree\n", 2, "NUL character at byte 4"),
        ("one\ntwo\nthree\n".encode("utf-16"), None, "is UTF-16"),
        ("one\ntwo\nthree\n".encode("utf-16-le"), None, "looks like UTF-16"),
        ("one\ntwo\nthree\n".encode("utf-16-be"), None, "looks like UTF-16"),
        (packed("one\ntwo\n".encode("utf-16")), None, "is UTF-16"),
        (packed(GOOD)[:-9], 4, "broken gzip"),
        (packed(GOOD)[:12], 1, "broken gzip"),
        (packed(GOOD)[:10] + b"\xff" * 20, 1, "broken gzip"),
        (packed(GOOD)[:-8] + b"\0" * 8, 4, "broken gzip"),
        (packed(GOOD) + b"rest", 4, "broken gzip"),
    ],
)
@pytest.mark.parametrize("side", [0, 1, 2])
def test_a_faulty_file_is_named_with_the_line(corpus, content, line, words, side):
    contents = [GOOD] * 3
    contents[side] = content
    faults = corpus.faults(*contents)
    if line is None and "lines" in words and side == 0:
        assert [fault[0] for fault in faults] == ["side1", "side2"]  # both differ from the source
        return
    [(name, found_line, message)] = faults
    if words.startswith("broken") and found_line != line:
        assert found_line in (1, line)  # how much was unpacked before the break is zlib's affair
    else:
        assert found_line == line
    assert name == f"side{side}"
    assert words in message


def test_a_directory_is_no_corpus(corpus):
    problems: list[Problem] = []
    read_parallel(str(corpus.folder), [str(corpus.folder)], SplitReport(), problems)
    assert [problem.message for problem in problems] == ["cannot be read (Is a directory)"] * 2


def test_a_file_without_permission_is_named(monkeypatch):
    def refuse(*_):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    problems: list[Problem] = []
    read_parallel("source", ["target"], SplitReport(), problems)
    assert [problem.message for problem in problems] == ["cannot be read (Permission denied)"] * 2


def test_faults_of_all_files_are_gathered_and_many_of_one_file_are_summed_up(corpus):
    faults = corpus.faults(b"\xff\n" * 20, b"a\n\0\n", None)
    assert [fault[:2] for fault in faults] == [
        *(("side0", line) for line in range(1, 6)),
        ("side0", None),
        ("side1", 2),
        ("side2", None),
    ]
    assert faults[5][2] == "and 15 more lines at fault"


def test_the_error_lists_every_problem():
    error = CorpusError([Problem("a.txt", 3, "is bad"), Problem("b.txt", None, "is empty")])
    assert isinstance(error, ValueError)
    assert str(error) == "the corpus cannot be used:\n  a.txt:3: is bad\n  b.txt: is empty"


def test_byte_order_marks_and_carriage_returns_are_stripped_and_counted(corpus):
    text = corpus.read(b"\xef\xbb\xbfone\r\ntwo\r\nthree", b"eins\r\nzw\rei\n\xef\xbb\xbfdrei\n")
    assert rows(text) == [["one", "two", "three"], ["eins", "zw\rei", "\ufeffdrei"]]
    assert (corpus.report.byte_order_marks, corpus.report.carriage_returns) == (1, 3)
    assert corpus.problems == []


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"])
def test_only_line_feeds_end_lines(corpus, mark):
    text = corpus.read(f"a{mark}b\nc\n".encode(), b"d\ne\n")
    assert rows(text) == [[f"a{mark}b", "c"], ["d", "e"]]
    assert corpus.problems == []


lines = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\ufeff"), max_size=6), min_size=1
)


@settings(max_examples=80, deadline=None)
@given(source=lines, data=st.data(), packed=st.booleans(), closed=st.booleans())
def test_whatever_is_in_the_lines_pairs_stay_together(tmp_path_factory, source, data, packed, closed):
    size = len(source)
    target = [
        f"{index} {word}" for index, word in enumerate(data.draw(st.lists(st.just("x"), min_size=size, max_size=size)))
    ]
    source = [f"{index}{line}" for index, line in enumerate(source)]
    contents = [("\n".join(side) + ("\n" if closed else "")).encode() for side in (source, target)]
    text = Corpus(tmp_path_factory.mktemp("pairs")).read(*(map(gzip.compress, contents) if packed else contents))
    assert rows(text) == [source, target]


def test_training_drops_pairs_with_empty_or_endless_lines_and_counts_them(corpus):
    endless = b"x" * 100_000
    source = b"a\n\nc\n \xc2\xa0\ne\n" + endless + b"\ng\n"
    target = b"A\nB\n\t\nD\n" + endless + b"\nF\nG\n"
    text = drop_unusable_pairs(corpus.read(source, target), corpus.report)
    assert rows(text) == [["a", "g"], ["A", "G"]]
    assert (corpus.report.skipped_empty, corpus.report.skipped_long_line) == (3, 2)


def test_an_empty_second_reference_drops_nothing_in_training(corpus):
    text = drop_unusable_pairs(corpus.read(b"a\nb\n", b"A\nB\n", b"\nBB\n"), corpus.report)
    assert rows(text) == [["a", "b"], ["A", "B"], ["", "BB"]]


def test_evaluation_names_endless_lines(corpus):
    text = corpus.read(b"a\nb\n", b"A\n" + b"x" * (MAX_LINE_CHARACTERS + 1) + b"\n")
    problems = find_endless_lines(text, ("source", "target"))
    assert [(problem.path, problem.line) for problem in problems] == [("target", 2)]
    assert str(MAX_LINE_CHARACTERS + 1) in problems[0].message


def test_the_report_is_plain_data_and_says_only_what_happened():
    report = CorpusReport({"train": SplitReport(lines=4, pairs=3, skipped_empty=1)})
    assert report.as_dict()["train"]["skipped_empty"] == 1
    assert str(report) == "train: lines 4, pairs 3, skipped empty 1"


# Through the task.


@pytest.fixture
def files(tmp_path):
    arguments = {}
    for split in ("train", "validation", "test"):
        for side in ("source", "target"):
            path = tmp_path / f"{split}.{side}"
            path.write_text("".join(f"{side} {split} {number}\n" for number in range(6)))
            arguments[f"{split}_{side}"] = str(path)
    return arguments


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def test_preparing_gathers_the_faults_of_every_split(files):
    write(files["train_source"], b"one\n\xff\n")
    write(files["validation_target"], b"one\n")
    os.remove(files["test_source"])
    with pytest.raises(CorpusError) as caught:
        TranslationTask(**files, units="word").prepare()
    places = [(problem.path, problem.line) for problem in caught.value.problems]
    assert places == [
        (files["train_source"], 2),
        (files["validation_target"], None),
        (files["test_source"], None),
    ]


def test_nothing_is_read_before_it_is_needed(files):
    os.remove(files["test_source"])
    task = TranslationTask(**files, units="word")
    assert task.instances("validation").size == 6
    with pytest.raises(CorpusError, match=r"test\.source: cannot be read"):
        task.instances("test")


def test_a_training_set_of_nothing_but_bad_pairs_is_an_error(files):
    write(files["train_source"], b"\n" * 6)
    with pytest.raises(CorpusError, match=r"no pair is left to train on.*skipped empty 6"):
        TranslationTask(**files, units="word").prepare()


def test_an_endless_line_is_skipped_in_training_and_an_error_in_evaluation(files):
    endless = b"a\nb\nc\nd\ne\n" + b"x" * 100_000 + b"\n"
    write(files["train_target"], endless)
    task = TranslationTask(**files, units="word")
    assert task.instances("train").size == 5
    assert task.report.splits["train"].skipped_long_line == 1
    write(files["validation_source"], endless)
    with pytest.raises(CorpusError, match=r"validation\.source:6: has 100000 characters"):
        TranslationTask(**files, units="word").prepare()


def test_empty_lines_are_kept_in_evaluation(files):
    write(files["test_source"], b"a\n\nc\nd\ne\nf\n")
    write(files["test_target"], b"\nB\nC\nD\nE\nF\n")
    task = TranslationTask(**files, units="word")
    ids = task.instances("test").ids()
    sources, lengths = only(task.source(ids))
    assert (len(ids), lengths[1], sources[1, 0]) == (6, 1, 0)
    pairs = task.text_pairs(np.zeros((6, 1), dtype=np.int64), np.ones(6, dtype=np.int64), ids)
    assert pairs.references == [["", "B", "C", "D", "E", "F"]]
