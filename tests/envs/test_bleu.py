"""Sentence BLEU against sacrebleu, and against values worked out by hand."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from rlseq_envs.rewards import bleu
from rlseq_envs.rewards.bleu import SMOOTHINGS, SentenceBleu, sentence_bleu_ids

logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it advises against effective_order=False, which is meant here

WORDS = ["a", "b", "the", "1,000", "3.5-4", "x-y", "end.", "&quot;so&amp;", "<skipped>n", "don't", "é", "今日は", "…"]
SPACES = [" ", "  ", "\t", "\u00a0", "\u2028", "\u0085", "\u3000"]
ROUGH_ALPHABET = "ab9 .,-'\"&;!?%$()<>/é…“\u00a0\u3000\n\t\u2028今"

words = st.sampled_from(WORDS)
short = st.lists(words, max_size=12)
long = st.lists(words, min_size=60, max_size=90)


@st.composite
def texts(draw):
    return draw(st.sampled_from(SPACES)).join(draw(st.one_of(short, short, long)))


@st.composite
def batches(draw):
    """Hypotheses and one to three reference streams; some references repeat their hypothesis."""
    hypotheses = draw(st.lists(texts(), min_size=1, max_size=6))
    streams = draw(st.integers(1, 3))
    row = st.lists(texts(), min_size=len(hypotheses), max_size=len(hypotheses))
    references = [draw(row) for _ in range(streams)]
    for index in draw(st.sets(st.integers(0, len(hypotheses) - 1))):
        references[0][index] = hypotheses[index]
    return hypotheses, references


def expected_scores(metric, hypotheses, references):
    rows = zip(hypotheses, zip(*references, strict=True), strict=True)
    return np.array([metric.sentence_score(text, list(streams)).score for text, streams in rows])


@pytest.mark.parametrize("effective_order", [True, False])
@pytest.mark.parametrize(
    ("smoothing", "value"),
    [("exp", None), ("floor", None), ("floor", 0.01), ("floor", 0.0), ("add-k", None), ("add-k", 0.3), ("none", None)],
)
@settings(max_examples=40, deadline=None)
@given(batch=batches())
def test_equals_sacrebleu_under_every_smoothing(smoothing, value, effective_order, batch):
    ours = SentenceBleu("13a", smoothing, value, effective_order=effective_order)
    theirs = BLEU(smooth_method=smoothing, smooth_value=value, effective_order=effective_order)
    np.testing.assert_allclose(ours(*batch), expected_scores(theirs, *batch), rtol=0, atol=1e-9)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("tokenizer", ["13a", "none", "intl", "char", "zh"])
@settings(max_examples=40, deadline=None)
@given(text=st.text(ROUGH_ALPHABET + "ABΣ", max_size=60), other=st.text(ROUGH_ALPHABET + "ABΣ", max_size=60))
def test_equals_sacrebleu_on_rough_text_under_every_tokenizer(tokenizer, lowercase, text, other):
    ours = SentenceBleu(tokenizer, lowercase=lowercase)
    for hypothesis, reference in ((text, other), (text, text), (text + other, text)):
        theirs = sacrebleu.sentence_bleu(hypothesis, [reference], tokenize=tokenizer, lowercase=lowercase).score
        assert ours([hypothesis], [[reference]])[0] == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    "text", ["break-\nline", "a-<skipped>\nb", "a -\n b", "tail-\n", "x<skipped>\n", "-\n-\n", "a\nb"]
)
def test_line_breaks_inside_a_text_are_joined_as_13a_joins_them(text):
    reference = "breakline a b tail - x"
    theirs = sacrebleu.sentence_bleu(text, [reference]).score
    assert SentenceBleu()([text], [[reference]])[0] == pytest.approx(theirs, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    hypothesis=st.lists(st.integers(0, 3), max_size=80),
    references=st.lists(st.lists(st.integers(0, 3), max_size=80), min_size=1, max_size=3),
    smoothing=st.sampled_from(SMOOTHINGS),
    padding=st.integers(0, 3),
)
def test_ids_equal_sacrebleu_whatever_the_padding(hypothesis, references, smoothing, padding):
    def padded(row, width):
        return [*row, *[padding] * (width - len(row))]

    width = max(map(len, references)) + 1
    scores = sentence_bleu_ids(
        np.array([padded(hypothesis, len(hypothesis) + 2)]),
        np.array([len(hypothesis)]),
        np.array([[padded(row, width) for row in references]]),
        np.array([[len(row) for row in references]]),
        smoothing,
    )
    theirs = BLEU(tokenize="none", smooth_method=smoothing, effective_order=True)
    as_text = [" ".join(map(str, row)) for row in (hypothesis, *references)]
    assert scores[0] == pytest.approx(theirs.sentence_score(as_text[0], as_text[1:]).score, abs=1e-9)


def test_ids_of_a_batch_with_one_reference_each():
    hypotheses = np.array([[5, 6, 7, 0], [5, 6, 0, 9]])
    references = np.array([[5, 6, 7, 8], [5, 9, 9, 9]])
    scores = sentence_bleu_ids(hypotheses, np.array([3, 2]), references, np.array([3, 1]))
    # The second: 1 of 2 unigrams, no bigram of 1 (halved once by "exp"), longer than its reference.
    np.testing.assert_allclose(scores, [100.0, 100 * math.sqrt(1 / 2 * 1 / 2)])


@pytest.mark.parametrize("length", [63, 64, 65, 66, 200])
def test_both_kernels_agree_with_sacrebleu_around_the_word_width(length):
    rng = np.random.default_rng(length)
    hypothesis, reference = (" ".join(map(str, rng.integers(0, 4, length))) for _ in range(2))
    for pair in ((hypothesis, reference), (hypothesis, "0 1 2"), ("0 1 2 3", reference), (hypothesis, hypothesis)):
        theirs = sacrebleu.sentence_bleu(pair[0], [pair[1]]).score
        assert SentenceBleu()([pair[0]], [[pair[1]]])[0] == pytest.approx(theirs, abs=1e-9)


def test_values_by_hand():
    score = SentenceBleu()
    assert score(["one two three"], [["one two three"]])[0] == pytest.approx(100)
    assert score([""], [["one two three"]])[0] == 0
    assert score([""], [[""]])[0] == 0
    assert score(["four"], [["one two three"]])[0] == 0
    # Two of two unigrams and one of one bigram, four reference tokens: only the brevity penalty is left.
    assert score(["one two"], [["one two three four"]])[0] == pytest.approx(100 * math.exp(1 - 4 / 2))
    # "the" is clipped to the one occurrence in the reference; its three bigrams match nothing.
    clipped = (1 / 4) * (1 / (2 * 3)) * (1 / (4 * 2)) * (1 / (8 * 1))
    assert score(["the the the the"], [["the cat sat down"]])[0] == pytest.approx(100 * clipped**0.25)


def test_no_score_exceeds_100():
    texts_of_all_lengths = [" ".join(map(str, range(length))) for length in range(1, 70)]
    scores = SentenceBleu()(texts_of_all_lengths, [texts_of_all_lengths])
    assert scores.max() <= 100
    np.testing.assert_allclose(scores, 100)


def test_several_references_keep_their_rows():
    hypotheses = ["a b c", "d e f", "g h i"]
    references = [["a b c", "x", "x"], ["x", "d e f", "x"]]
    np.testing.assert_allclose(SentenceBleu()(hypotheses, references), [100, 100, 0])


def test_a_full_cache_of_words_changes_no_score(monkeypatch):
    monkeypatch.setattr(bleu, "_MAX_CACHED_WORDS", 3)
    score = SentenceBleu()
    for text in ("a b c d e f", "f e d c, b a", "a, b, c"):
        assert score([text], [["a b c d"]])[0] == pytest.approx(sacrebleu.sentence_bleu(text, ["a b c d"]).score)


def test_an_empty_batch_has_no_scores():
    assert SentenceBleu()([], [[]]).shape == (0,)


def test_signature_is_that_of_sacrebleu():
    metric = BLEU(smooth_method="floor", smooth_value=0.25, tokenize="intl", lowercase=True, effective_order=True)
    metric.sentence_score("a", ["a"])
    ours = SentenceBleu("intl", "floor", 0.25, lowercase=True)
    assert ours.signature == str(metric.get_signature()).replace("nrefs:1|", "")
    assert ours.signature != SentenceBleu("intl", "floor", 0.5, lowercase=True).signature


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"tokenizer": "13b"}, "13b"), ({"smoothing": "laplace"}, "laplace"), ({"value": -1.0}, "negative")],
)
def test_unknown_options_are_refused_by_name(arguments, word):
    with pytest.raises(ValueError, match=word):
        SentenceBleu(**arguments)


def test_an_unequal_number_of_references_is_refused():
    with pytest.raises(ValueError, match="reshape"):
        SentenceBleu()(["a", "b"], [["a"]])
