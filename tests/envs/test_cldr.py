"""The corpus made from CLDR: reproducible, without overlap, two languages for the same values."""

from __future__ import annotations

import re

import pytest

from rlseq_envs.tasks.translation import TranslationTask
from rlseq_envs.text.cldr import make_corpus, parse_locales

SIZES = (600, 100, 100)


@pytest.fixture(scope="module")
def english_german():
    return make_corpus("en", "de", SIZES, 0)


def pairs(split):
    return list(zip(split.sources, split.targets[0], strict=True))


def test_sizes_are_as_asked_and_no_sentence_is_in_two_splits(english_german):
    assert tuple(len(split.sources) for split in english_german) == SIZES
    assert tuple(len(split.targets[0]) for split in english_german) == SIZES
    sources = [source for split in english_german for source in split.sources]
    assert len(set(sources)) == sum(SIZES)


def test_the_seed_decides_and_nothing_else(english_german):
    again = make_corpus("en", "de", SIZES, 0)
    assert [pairs(split) for split in again] == [pairs(split) for split in english_german]
    assert pairs(make_corpus("en", "de", SIZES, 1)[0]) != pairs(english_german[0])


def test_lines_are_clean(english_german):
    for split in english_german:
        for source, target in pairs(split):
            assert source.strip() and target.strip()
            assert "\n" not in source + target


def test_values_are_the_same_on_both_sides(english_german):
    """Checked by rules of the two languages written here anew, on every sentence of one clause they apply to."""
    checked = 0
    for source, target in pairs(english_german[0]):
        if measure := re.fullmatch(r"([\d,.]+) (kilometers|meters|grams)", source):
            number = measure[1].translate(str.maketrans(",.", ".,"))
            unit = {"kilometers": "Kilometer", "meters": "Meter", "grams": "Gramm"}[measure[2]]
            assert target == f"{number} {unit}"
            checked += 1
        if clock := re.fullmatch(r"(\d+):(\d\d)\s(AM|PM)", source):
            hour = int(clock[1]) % 12 + (12 if clock[3] == "PM" else 0)
            assert target == f"{hour:02}:{clock[2]}"
            checked += 1
        if weeks := re.fullmatch(r"(\d+) weeks ago", source):
            assert target == f"vor {weeks[1]} Wochen"
            checked += 1
    assert checked >= 10


def test_translating_takes_more_than_copying(english_german):
    every = pairs(english_german[0])
    assert sum(source == target for source, target in every) < 0.05 * len(every)
    words = {word for source, _ in every for word in source.split()}
    assert len(words) > 500


@pytest.mark.parametrize("target", ["fr", "ja", "ar", "hi", "zh_Hant", "pt_BR", "gsw", "yo"])
def test_other_locales_work_even_where_their_data_is_incomplete(target):
    made = make_corpus("en", target, (60, 5, 5), 0)
    assert [len(split.sources) for split in made] == [60, 5, 5]
    assert sum(source != text for source, text in pairs(made[0])) > 50


def test_either_side_may_be_any_locale():
    forth, back = make_corpus("de", "fr", (50, 1, 1), 3), make_corpus("fr", "de", (50, 1, 1), 3)
    assert {(target, source) for source, target in pairs(back[0])} & set(pairs(forth[0]))


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("en", "xx", ["target locale 'xx'"]),
        ("english", "de", ["source locale 'english'"]),
        ("en", "de_CHH", ["'de_CHH'", "near it: ", "de_CH"]),
        ("", "../de", ["source locale ''", "target locale '../de'"]),
        ("de", "de", ["both sides are 'de'"]),
    ],
)
def test_unusable_locales_are_named_with_those_near(source, target, words):
    with pytest.raises(ValueError) as caught:
        parse_locales(source, target)
    assert all(word in str(caught.value) for word in words)
    with pytest.raises(ValueError, match="locales of the made corpus"):
        TranslationTask(cldr_source_locale=source, cldr_target_locale=target)


def test_asking_for_more_than_there_is_says_so(monkeypatch):
    monkeypatch.setattr("rlseq_envs.text.cldr._MAX_DRAWS_PER_PAIR", 1)
    with pytest.raises(ValueError, match=r"only \d+ of 5000 distinct sentences"):
        make_corpus("en", "de", (5000,), 0)


def test_the_task_makes_this_corpus_where_no_file_is_named():
    task = TranslationTask(cldr_sizes=(300, 20, 10), vocabulary_size=400)
    task.prepare()
    assert [task.instances(name).size for name in ("train", "validation", "test")] == [300, 20, 10]
    made = make_corpus("en", "de", (300, 20, 10), 0)
    ids = task.instances("test").ids()
    nothing, lengths = ids[:, None] * 0, ids * 0 + 1
    assert task.text_pairs(nothing, lengths, ids).references == [list(made[2].targets[0])]
    assert task.report.splits["train"].pairs == 300
