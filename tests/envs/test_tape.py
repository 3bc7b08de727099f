"""The tape tasks: what is asked for is what a plain reading says, rewards count bits, wrong lines are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq_envs.settings import TapeSettings
from rlseq_envs.task import END, SplitName
from rlseq_envs.tasks.tape import TapeTask
from tests.support import only, padded

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
KINDS: dict[str, dict[str, Any]] = {
    "copy": {"lengths": (1, 7), "bits": 3},
    "repeat": {"lengths": (1, 5), "repeats": (1, 4), "test_lengths": (6, 9), "test_repeats": (2, 3), "bits": 2},
    "recall": {"kind": "recall", "lengths": (2, 6), "test_lengths": (9, 9), "item_length": 2, "bits": 4},
    "few items": {"kind": "recall", "lengths": (2, 6), "item_length": 1, "bits": 1},
}
every_kind = pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)


def plain_answer(task: TapeTask, source: list[int]) -> list[int]:
    """What a tape asks for, read symbol by symbol."""
    symbols, given = 2**task.settings.bits, task.settings
    if given.kind == "copy":
        return source[:-1] * (source[-1] - symbols)
    items: list[list[int]] = []
    for token in source:
        if token > symbols:
            items.append([])
        else:
            items[-1].append(token)
    *told, asked = items
    return told[told.index(asked) + 1]


@every_kind
def test_references_are_what_a_plain_reading_of_the_source_gives(keys: dict[str, Any]) -> None:
    task = TapeTask(**keys)
    for split in SPLITS:
        ids = task.instances(split).ids(0, 200)
        tapes, sizes = only(task.source(ids))
        assert (task.sizes(ids) == sizes).all()
        references, lengths = task.references(ids)
        for tape, size, reference, length in zip(tapes, sizes, references, lengths, strict=True):
            assert reference[:length].tolist() == [*plain_answer(task, tape[:size].tolist()), END]
            assert not tape[size:].any() and not reference[length:].any()
        assert (lengths <= task.length_limits(task.sizes(ids))).all()
        assert tapes.max() < (task.sources["tape"].tokens or 0) and lengths.max() <= task.choices.longest
        assert sizes.max() <= task.sources["tape"].longest[0]


def test_every_length_and_number_of_copies_of_a_split_comes_and_no_other() -> None:
    task = TapeTask(**KINDS["repeat"])
    for split, sizes, copies in (("train", (1, 5), (1, 4)), ("validation", (1, 5), (1, 4)), ("test", (6, 9), (2, 3))):
        tapes, found = only(task.source(task.instances(split).ids(0, 500)))  # type: ignore[arg-type]
        marks = tapes[np.arange(500), found - 1] - 4
        assert set(found - 1) == {*range(sizes[0], sizes[1] + 1)}
        assert set(marks) == {*range(copies[0], copies[1] + 1)}


def test_symbols_are_uniform_and_instances_depend_on_seed_and_id_alone() -> None:
    task = TapeTask(lengths=(20, 20), bits=3)
    ids = task.instances("train").ids(0, 2000)
    tapes = only(task.source(ids))[0][:, :20]
    assert abs(np.bincount(tapes.ravel(), minlength=9)[1:] / 5000 - 1).max() < 0.06
    assert (only(task.source(ids[[7, 3]]))[0] == only(task.source(ids))[0][[7, 3]]).all()
    assert (only(TapeTask(lengths=(20, 20), bits=3, seed=1).source(ids))[0] != only(task.source(ids))[0]).any()


def test_instances_are_pinned() -> None:
    # Published results name instances by id: a change here makes them incomparable.
    tapes, sizes = only(TapeTask(repeats=(1, 3)).source(np.array([0, 1 << 40, 1 << 41])))
    assert sizes.tolist() == [8, 6, 2]
    assert tapes[:, :4].tolist() == [[31, 39, 28, 6], [27, 11, 42, 44], [47, 66, 0, 0]]


def test_no_instance_is_outside_of_the_splits() -> None:
    task = TapeTask(train_size=5)
    for wrong in (-1, 5, (1 << 40) + 500, (1 << 41) + 1000):
        with pytest.raises(ValueError, match=f"instance {wrong} belongs to no split"):
            task.source(np.array([0, wrong]))


# --------------------------------------------------------------------------------------------------------- rewards
def plain_rewards(bits: int, output: list[int], reference: list[int]) -> tuple[float, float, float]:
    most, wrong, right = max(len(output), len(reference), 1), 0.0, 0
    for place in range(max(len(output), len(reference))):
        if place >= len(output) or place >= len(reference):
            wrong += bits / 2
        else:
            ours, theirs = f"{output[place] - 1:0{bits}b}", f"{reference[place] - 1:0{bits}b}"
            wrong += sum(one != other for one, other in zip(ours, theirs, strict=True))
            right += ours == theirs
    return 1 - wrong / bits / most, right / most, float(output == reference)


@given(
    rows=st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=9), min_size=1, max_size=5), seed=st.integers(0, 99)
)
@settings(deadline=None, max_examples=60)
def test_rewards_are_those_of_a_plain_count(rows: list[list[int]], seed: int) -> None:
    task = TapeTask(lengths=(1, 7), bits=3, reward={"bits": 1.0, "symbols": 2.0, "exact": 0.0})
    ids = np.arange(seed, seed + len(rows))
    references, lengths = task.references(ids)
    for row, (reference, length) in enumerate(zip(references, lengths, strict=True)):
        if row % 2:
            rows[row] = reference[: length - row // 2].tolist() or [END]
    sequences, sizes = (each.numpy() for each in padded(rows))
    found = task.reward(sequences, sizes, ids)
    metrics = task.corpus_metrics(sequences, sizes, ids)
    plain = [
        plain_rewards(3, row[: row.index(END)] if END in row else row, reference[: length - 1].tolist())
        for row, reference, length in zip(rows, references, lengths, strict=True)
    ]
    for name, values in zip(("bits", "symbols", "exact"), zip(*plain, strict=True), strict=True):
        np.testing.assert_allclose(found.components[name], values, atol=1e-12)
        assert metrics[name] == pytest.approx(np.mean(values))
    np.testing.assert_allclose(found.total, [one + 2 * other for one, other, _ in plain], atol=1e-12)
    assert metrics["bit_error"] == pytest.approx(100 - metrics["bits_right"])
    np.testing.assert_allclose(task.instance_metrics(sequences, sizes, ids)["bits_right"], [row[0] for row in plain])


def test_nothing_beyond_a_length_or_end_counts() -> None:
    task = TapeTask(lengths=(3, 3))
    ids = np.arange(4)
    references, lengths = task.references(ids)
    longer = np.pad(references, ((0, 0), (0, 3)), constant_values=9)
    assert (task.reward(longer, lengths, ids).total == 1).all()
    assert (task.reward(longer, lengths + 3, ids).total == 1).all()
    assert (task.reward(longer[:, [0, 1, 2, 4, 4]], lengths + 1, ids).total == 1 - 2 / 2 / 5).all()


# ------------------------------------------------------------------------------------------------------------ text
@every_kind
def test_text_is_read_as_it_is_written(keys: dict[str, Any]) -> None:
    task = TapeTask(**keys)
    ids = task.instances("test").ids(0, 20)
    tapes, sizes = only(task.source(ids))
    read, read_sizes = only(task.parse_sources([task.render(int(i), np.array([END])).source for i in ids]))
    assert (read == tapes).all() and (read_sizes == sizes).all()
    references, lengths = task.references(ids)
    lines = task.format_outputs(references, lengths)
    again, again_lengths = task.parse_outputs(lines, ids)
    assert (again == references).all() and (again_lengths == lengths).all()
    assert lines[0] == task.render(int(ids[0]), references[0]).reference


@pytest.mark.parametrize(
    ("keys", "line", "problem"),
    [
        ({}, "5 64 x1", "line 2: '64' is no symbol and no mark: give numbers from 0 to 63 and a mark x1 … x1"),
        ({}, "5 x2", "'x2' is no symbol and no mark"),
        ({}, "5 6", "give the symbols and then one mark of how many copies, such as 5 63 0 x1"),
        ({}, "x1", "give the symbols and then one mark"),
        ({}, "5 x1 6 x1", "give the symbols and then one mark"),
        ({}, "", "give the symbols and then one mark"),
        ({"kind": "recall", "lengths": (2, 3)}, "/ 1 2 3 / 4 5 6", "two items or more of 3 symbols, each behind a /"),
        ({"kind": "recall", "lengths": (2, 3)}, "/ 1 2 3 / 4 5 ? 1 2 3", "two items or more of 3 symbols"),
        ({"kind": "recall", "lengths": (2, 3)}, "/ 1 2 3 ? 4 5 6 ? 1 2 3", "two items or more of 3 symbols"),
        ({"kind": "recall", "lengths": (2, 3)}, "/ 1 2 3 ? 1 2 3", "two items or more of 3 symbols"),
        (
            {"kind": "recall", "lengths": (2, 3)},
            "5 x1",
            "'x1' is no symbol and no mark: give numbers from 0 to 63 and the",
        ),
    ],
)
def test_a_line_that_is_no_tape_is_named(keys: dict[str, Any], line: str, problem: str) -> None:
    task = TapeTask(**keys)
    right = task.render(0, np.array([END])).source
    with pytest.raises(ValueError) as caught:
        task.parse_sources([right, line, right, line])
    first, second = str(caught.value).split("\n")
    assert problem in first and first.startswith("line 2: ") and second == first.replace("line 2", "line 4")


def test_an_output_that_is_no_symbol_is_named() -> None:
    with pytest.raises(ValueError, match="line 2: '64' is no symbol: give numbers from 0 to 63\nline 3: 'x'"):
        TapeTask().parse_outputs(["5 63", "64", "3 x"], np.arange(3))


def test_a_drawing_has_the_bits_of_output_and_reference() -> None:
    task = TapeTask(bits=3, lengths=(2, 2))
    found = task.render(0, np.array([1, 8, 4, END]))
    assert found.output == "0 7 3 END" and found.drawing is not None
    drawing: Any = found.drawing
    assert drawing.values.tolist() == [[0, 1, 1], [0, 1, 1], [0, 1, 0]]
    assert [int(symbol) for symbol in found.reference.split()] == (drawing.reference.T @ [1, 2, 4]).tolist()
    assert task.render(0, np.array([END])).drawing.values.shape == (3, 0)


# --------------------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"lengths": (5, 2)}, "lengths is (5, 2): give the smaller number first"),
        ({"kind": "recall"}, "lengths begins at 1, but recall needs an item and one behind it: give 2 or more"),
        ({"kind": "recall", "lengths": (2, 3), "repeats": (1, 2)}, "repeats is of kind copy"),
        ({"test_repeats": (1, 2)}, "test_repeats (1, 2) leaves repeats (1, 1)"),
        ({"reward": {"bit": 1.0}}, "did you mean 'bits'?"),
        ({"bits": 13}, "bits is 13"),
        ({"lengths": (1, 1000), "repeats": (1, 101)}, "a tape may come to 101,000 symbols, more than 100,000: make"),
    ],
)
def test_settings_that_do_not_go_together_are_told(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        TapeSettings(**keys)
    assert problem in str(caught.value) and "\n" not in str(caught.value)
