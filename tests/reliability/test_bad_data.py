"""Corpora, point files and sources that cannot be used are refused by file and line, all faults at once."""

from __future__ import annotations

import gzip
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import rlseq
from rlseq.cli import app
from rlseq_envs.point_files import read_point_sets
from rlseq_envs.tasks.translation import TranslationTask
from rlseq_envs.text import corpus
from rlseq_envs.text.corpus import CorpusError
from rlseq_envs.text.storage import TextRows
from rlseq_envs.text.vocabulary import train_vocabulary
from tests.reliability.test_bad_configurations import MINIMAL

SUITE = "Bad data"
HOLDS_WHEN = "one error names the file and the line and what to do; good files are read as they are"


# --------------------------------------------------------------------------------------------------------- point files
def npy(shape: str, dtype: str = "'<f8'", order: str = "False", data: bytes = bytes(16)) -> bytes:
    head = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


SHAPES = [
    *("(1000000000000, 5, 2)", "(10**3, 5, 2)", "(-1, 5, 2)", "(2, 5, 2)", "(99999999999999999999, 5, 2)", "(1,)"),
    *("()", "('a', 2, 2)", "(2.5, 2, 2)", "5", "(True, 5, 2)", "(0, 5, 2)", "(4611686018427387904, 4, 2)"),
]
DTYPES = [
    *("'O'", "'<U5'", "'V8'", "'<c16'", "'?'", "'m8'", "'M8[s]'", "'nonsense'", "5", "None", "''", "[('a',)]"),
    *("[('a', '<f8')]", "'<f8,<f8'"),
]
ARRAYS = {
    **{f"shape {shape}": npy(shape) for shape in SHAPES},
    **{f"type {dtype}": npy("(1, 2, 2)", dtype, data=bytes(80)) for dtype in DTYPES},
    "an order that is neither": npy("(1, 2, 2)", order="3", data=bytes(32)),
    "numpy's version 9": b"\x93NUMPY\x09\x00" + bytes(40),
    "a head of 4 GB": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{}",
    "a head that is a program": npy("__import__('os').abort()"),
    "a head of brackets": b"\x93NUMPY\x01\x00" + struct.pack("<H", 5001) + b"(" * 5000 + b"\n",
    "a head of odd bytes": b"\x93NUMPY\x01\x00\x10\x00" + bytes(range(128, 144)),
    "an archive": b"PK\x03\x04" + bytes(100),
    "nothing": b"",
    "cut": npy("(9, 5, 2)", data=bytes(100)),
    "a number that is none": npy("(1, 2, 2)", data=np.array([0.5, np.nan, 0.5, 0.5]).tobytes()),
    "an infinite number": npy("(1, 2, 2)", data=np.array([0.5, np.inf, 0.5, 0.5]).tobytes()),
    "three columns": npy("(1, 2, 3)", data=bytes(48)),
}


@pytest.mark.cases(ARRAYS, sample=12)
def test_an_array_that_cannot_be_points_is_refused(case: bytes, tmp_path: Path) -> None:
    (tmp_path / "sets.npy").write_bytes(case)
    with pytest.raises(ValueError) as caught:
        read_point_sets(tmp_path / "sets.npy")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'sets.npy'}: ") and "\n" not in message
    assert any(words in message for words in ("write it with numpy.save", "expected", "scale the points"))


LINES = {
    **{word: f"{word} 0.5" for word in "1_0 nan inf -inf 1e400 0x1 a 1,5 0.5,0.5 -0.1 1.1".split()},
    "an odd number": "0.5 0.5 0.5",
    "no points": "",
    "a label alone": "output 1",
    "a label that is no point": "0.5 0.5 output 2",
    "a label of 0": "0.5 0.5 output 0",
    "a label of 5,000 digits": f"0.5 0.5 output {'9' * 5000}",
    "a label that is no number": "0.5 0.5 output ²",
    "two labels": "0.5 0.5 output 1 output 1",
    "a label in capitals": "0.5 0.5 OUTPUT 1",
    "NUL": "0.5 0.5\0",
    "a lone carriage return": "0.5 0.5\r0.1 0.1",
    "a line separator": "0.5 0.5\u20280.1 0.1",
    "half a character": "0.5 0.\udcff",
}


@pytest.mark.cases(LINES, sample=8)
def test_a_line_that_cannot_be_points_is_refused_by_its_number(case: str, tmp_path: Path) -> None:
    path = tmp_path / "sets.txt"
    path.write_bytes(f"0.5 0.5\n{case}\n0.25 0.5\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError) as caught:
        read_point_sets(path)
    assert str(caught.value).startswith(f"{path}: line 2: ") and len(str(caught.value)) < 300


# -------------------------------------------------------------------------------------------------------------- corpora
GOOD = "one two\nthree four\n"


def _gzip_bomb(place: Path) -> None:
    place.write_bytes(gzip.compress(b"a b\n" * 100_000))


def _long_line(place: Path) -> None:
    place.write_bytes(b"a" * 5000)


CORPORA: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda place: place.write_text(""), ": is empty"),
    "one line more": (lambda place: place.write_text(GOOD + "five\n"), " lines, but "),
    "one line less": (lambda place: place.write_text("one\n"), " lines, but "),
    "missing": (lambda place: None, ": cannot be read (No such file"),
    "a directory": (Path.mkdir, ": cannot be read (Is a directory"),
    "UTF-16": (lambda place: place.write_bytes(GOOD.encode("utf-16")), ": is UTF-16"),
    "UTF-16 without a mark": (lambda place: place.write_bytes(GOOD.encode("utf-16-le")), ": looks like UTF-16"),
    "Latin-1": (lambda place: place.write_bytes("one\ndéux\n".encode("latin-1")), ":2: invalid UTF-8 at byte 2"),
    "NUL": (lambda place: place.write_text("one\nt\0o\n"), ":2: NUL character"),
    "gzip, cut": (lambda place: place.write_bytes(gzip.compress(GOOD.encode())[:-12]), "broken gzip data"),
    "gzip, a head alone": (lambda place: place.write_bytes(b"\x1f\x8b"), "broken gzip data"),
    "gzip, changed": (
        lambda place: place.write_bytes(gzip.compress(GOOD.encode())[:-8] + b"nonsense"),
        "broken gzip data",
    ),
    "gzip that unpacks to too much": (_gzip_bomb, "unpacks to more than"),
    "a line without end": (_long_line, ":1: has more than"),
}
KEYS = ("train_source", "train_target", "validation_source", "validation_target", "test_target")


@pytest.mark.cases({f"{key} is {name}": (key, *case) for name, case in CORPORA.items() for key in KEYS}, sample=14)
def test_a_corpus_that_cannot_be_used_is_refused_and_hides_no_other_fault(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "MAX_UNPACKED_BYTES", 100_000)
    monkeypatch.setattr(corpus, "MAX_LINE_BYTES", 4096)
    key, make, problem = case
    names = [f"{split}_{side}" for split in ("train", "validation", "test") for side in ("source", "target")]
    files = {name: tmp_path / f"{name}.txt" for name in names}
    other = files["validation_source" if key.startswith("train") else "train_source"]
    for name, path in files.items():
        if name != key:
            path.write_text(GOOD if path != other else "one\n")
    make(files[key])
    with pytest.raises(CorpusError) as caught:
        TranslationTask(**{name: str(path) for name, path in files.items()}).prepare()
    told = [str(each) for each in caught.value.problems]
    split = key.split("_")[0]
    assert any(line.startswith(str(tmp_path / split)) and problem in line for line in told), told
    assert any(not line.startswith(str(tmp_path / split)) and " lines, but " in line for line in told), told


TEXTS = {
    **{f"▅ in {text!r}": text for text in ("▅", "a ▅", "▅▅▅ a", "▅a▅b", "a\u2028▅")},
    **{repr(text): text for text in ("a\u2028b", "a\u0085b", "\u00a0a", "⁇ a", "é e\u0301", "👩‍👩‍👧 a", "\u202eab")},
}


@pytest.mark.parametrize("model", ["bpe", "unigram"])
@pytest.mark.cases(TEXTS, sample=5)
def test_any_character_survives_learning_encoding_and_decoding(case: str, model: Any) -> None:
    texts = [case, "some more text", "that has letters"]
    vocabulary = train_vocabulary([TextRows.gather(texts)], 80, "subword", model)
    sequences, lengths = vocabulary.encode(texts).padded(np.arange(3))
    assert vocabulary.decode(sequences, lengths) == texts


# ------------------------------------------------------------------------------------------------------------- sources
@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy on hulls that was trained for an update."""
    directory = tmp_path_factory.mktemp("edges")
    (directory / "small.yaml").write_text(MINIMAL.replace("updates: 2", "updates: 1"))
    small = [
        "policy.hidden_size=8",
        "task.validation_size=4",
        "task.test_size=4",
        "mle.batch_size=4",
        "rl.batch_size=4",
    ]
    rlseq.train(directory / "small.yaml", small, run=directory / "run", console=False)
    return directory / "run"


def generate(run: Path, *options: str, given: bytes = b"") -> tuple[int, str, str]:
    ended = CliRunner().invoke(app, ["generate", str(run), *options], input=given)
    return ended.exit_code, ended.stdout, ended.stderr


@pytest.mark.cases(LINES, sample=6)
def test_a_source_that_cannot_be_read_is_refused_by_its_number(case: str, run: Path) -> None:
    given = f"0.5 0.5 0.1 0.1\n{case}\n".encode("utf-8", "surrogateescape")
    code, output, error = generate(run, given=given)
    assert (code, output) == (2, "") and "line 2" in error and "Traceback" not in error and len(error) < 400


POINTS = b"0.5 0.5 0.1 0.1 0.9 0.2\n"


@pytest.mark.parametrize("given", [POINTS, b"\xef\xbb\xbf" + POINTS, POINTS.replace(b"\n", b"\r\n"), POINTS.strip()])
def test_sources_are_read_with_marks_and_line_ends_of_other_systems(run: Path, given: bytes) -> None:
    assert generate(run, given=given) == generate(run, "--input", "-", given=POINTS)


def test_sources_are_read_from_a_pipe(run: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[POINTS])
    writer.start()
    assert generate(run, "--input", str(tmp_path / "pipe")) == generate(run, given=POINTS)
    writer.join()


NUMBERS = {
    **{
        f"{' '.join(options)}": options
        for value in ("1e-300", "1e300", "nan", "inf", "0", "-1")
        for options in (
            ["--sample", f"--temperature={value}"],
            ["--sample", f"--top-p={value.replace('1e-300', '2')}"],
            ["--beam=2", "--groups=2", f"--diversity={value.replace('1e-300', '1e308')}"],
        )
    },
    **{
        " ".join(options): options
        for value in ("1e308", "nan", "inf", "-1")
        for options in (["--beam=2", f"--length-penalty={value}"], ["--beam=2", f"--coverage-penalty={value}"])
    },
    **{" ".join(options): options for value in (1 << 64, -1) for options in (["--sample", f"--seed={value}"],)},
    **{
        f"{option} {value}": [method, f"{option}={value}"]
        for method, option in (("--sample", "--top-k"), ("--sample", "--n-best"), ("--sample", "--max-length"))
        for value in (0, -1, 10**30)
    },
    "--beam 10^9": [f"--beam={10**9}"],
}


@pytest.mark.cases(NUMBERS, sample=10)
def test_an_option_of_decoding_that_overflows_is_refused_by_its_name(case: list[str], run: Path) -> None:
    code, output, error = generate(run, *case, given=POINTS)
    assert (code, output) == (2, "") and case[-1].split("=")[0] in error and "Traceback" not in error, error


EXTREMES = {
    " ".join(options): options
    for options in (
        ["--sample", "--temperature=1e-6"],
        ["--sample", "--temperature=1e6"],
        ["--sample", "--temperature=1e-6", "--top-p=1e-300"],
        ["--sample", f"--seed={2**64 - 1}"],
        ["--sample", f"--top-k={10**12}"],
        ["--beam=2", "--length-penalty=5"],
        ["--beam=2", "--coverage-penalty=1e6"],
        ["--beam=2", "--groups=2", "--diversity=1e6"],
        ["--greedy", f"--max-length={10**9}"],
    )
}


@pytest.mark.cases(EXTREMES, sample=4)
def test_the_most_that_is_allowed_works(case: list[str], run: Path) -> None:
    code, output, error = generate(run, *case, given=POINTS)
    assert code == 0 and output.count("\n") == 1, error
