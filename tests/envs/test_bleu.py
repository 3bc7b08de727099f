"""Sentence BLEU against sacrebleu, and against values worked out by hand."""

from __future__ import annotations

import io
import logging
import math
import os
import subprocess
import sys
import urllib.error
from typing import Any

import numpy as np
import pytest
import sacrebleu
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers import tokenizer_ja_mecab, tokenizer_ko_mecab, tokenizer_spm

from rlseq_envs.rewards import bleu, bleu_compiled, bleu_numpy
from rlseq_envs.rewards.bleu import SentenceBleu, sentence_bleu_ids
from rlseq_envs.rewards.smoothing import SMOOTHINGS

logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it advises against effective_order=False, which is meant here

pytestmark = pytest.mark.slow

WORDS = ["a", "b", "the", "1,000", "3.5-4", "x-y", "end.", "&quot;so&amp;", "<skipped>n", "don't", "é", "今日は", "…"]
SPACES = [" ", "  ", "\t", "\u00a0", "\u2028", "\u0085", "\u3000"]
ROUGH_ALPHABET = "ab9 .,-'\"&;!?%$()<>/é…“\u00a0\u3000\n\t\u2028今ABΣς\0²٣"
FRAGMENTS = [
    *ROUGH_ALPHABET,
    *("<skipped>", "<skip", "ped>", "-\n", "- \n", "&quot;", "&amp;", "&lt;", "&gt;", "&qu", "ot;", "&amp;quot;"),
    *("1.5", "1,000", "5-", "..", ".,", ",.", "-.", "a.", ".a", "U.S.", "3.", ".3", "x2²"),
    *"\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u1680\u2000\u2009\u200a\u200b\u2029\u202f\u205f\ufeff",
]

rough_texts = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join),
    st.text(ROUGH_ALPHABET, max_size=60),
    st.text(max_size=30),
)

words = st.sampled_from(WORDS)
one = st.lists(words, max_size=1)
short = st.lists(words, max_size=12)
long = st.lists(words, min_size=60, max_size=90)


@pytest.fixture(autouse=True, scope="module", params=[bleu_compiled, bleu_numpy], ids=["compiled", "numpy"])
def kernel(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bleu, "_score_batch", request.param.score_batch)
        yield


@st.composite
def texts(draw):
    return draw(st.sampled_from(SPACES)).join(draw(st.one_of(one, short, short, long)))


@st.composite
def batches(draw):
    """Hypotheses and one to five reference streams; some references repeat their hypothesis."""
    hypotheses = draw(st.lists(texts(), min_size=1, max_size=6))
    streams = draw(st.integers(1, 5))
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
@settings(max_examples=60, deadline=None)
@given(text=rough_texts, other=rough_texts)
def test_equals_sacrebleu_on_rough_text_under_every_tokenizer(tokenizer, lowercase, text, other):
    assert_like_sacrebleu(SentenceBleu(tokenizer, lowercase=lowercase), text, other, tokenizer, lowercase)


def assert_like_sacrebleu(ours, text, other, tokenizer, lowercase=False):
    pairs = [(text, other), (text, text), (text + other, text), (f"{text} {other}", f"{other} {text}")]
    found = ours([hypothesis for hypothesis, _ in pairs], [[reference for _, reference in pairs]])
    theirs = [
        sacrebleu.sentence_bleu(hypothesis, [reference], tokenize=tokenizer, lowercase=lowercase).score
        for hypothesis, reference in pairs
    ]
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("tokenizer", ["flores101", "flores200", "spBLEU-1K"])
def test_equals_sacrebleu_under_a_sentencepiece_model_that_is_there(tokenizer, tmp_path, monkeypatch):
    model, lines = io.BytesIO(), ["the cat sat on the mat .", "a dog, the dog; 1,000 dogs!"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    (tmp_path / "models").mkdir()
    for known in tokenizer_spm.SPM_MODELS.values():
        (tmp_path / "models" / os.path.basename(known["url"])).write_bytes(model.getvalue())
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    ours = SentenceBleu(tokenizer)
    assert f"tok:{tokenizer}" in ours.signature
    for text, other in ((lines[0], lines[1]), ("the dog sat", "a cat  sat on\u3000it"), ("", "mat")):
        assert_like_sacrebleu(ours, text, other, tokenizer)


@pytest.mark.parametrize("tokenizer", ["ja-mecab", "ko-mecab"])
def test_a_tokenizer_whose_package_is_missing_is_refused(tokenizer, monkeypatch):
    for module in (tokenizer_ja_mecab, tokenizer_ko_mecab):
        monkeypatch.setattr(module, "MeCab", None)
    with pytest.raises(ValueError, match=rf"{tokenizer}.*pip install sacrebleu\[{tokenizer[:2]}\]"):
        SentenceBleu(tokenizer)


@pytest.mark.parametrize("tokenizer", ["spm", "flores101", "flores200", "spBLEU-1K"])
def test_a_tokenizer_whose_model_cannot_be_fetched_is_refused(tokenizer, tmp_path, monkeypatch):
    def unreachable(*_):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr(tokenizer_spm, "download_file", unreachable)
    with pytest.raises(ValueError, match=f"{tokenizer}.*no route to host"):
        SentenceBleu(tokenizer)


def test_every_tokenizer_of_sacrebleu_is_tested_here():
    tested = {"13a", "none", "intl", "char", "zh", "spm", "flores101", "flores200", "spBLEU-1K", "ja-mecab", "ko-mecab"}
    assert set(BLEU.TOKENIZERS) <= tested


@pytest.mark.parametrize(
    "text",
    [
        *("break-\nline", "a-<skipped>\nb", "a -\n b", "tail-\n", "x<skipped>\n", "-\n-\n", "a\nb"),
        *("a<skip-\nped>b", "<skip<skipped>ped>\nb", "b &qu-\not;", "5-\n.3 5\n.3"),
    ],
)
def test_line_breaks_inside_a_text_are_joined_as_13a_joins_them(text):
    assert_like_sacrebleu(SentenceBleu(), text, 'breakline a b tail - x < skipped > " 5.3', "13a")


ids = st.sampled_from([0, 1, 2, 3, 200, 300, -1, 2**40, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)])


@settings(max_examples=60, deadline=None)
@given(
    hypothesis=st.lists(ids, max_size=80),
    references=st.lists(st.lists(ids, max_size=80), min_size=1, max_size=5),
    smoothing=st.sampled_from(SMOOTHINGS),
    padding=ids,
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


@pytest.mark.parametrize("longest", [1, 8, 9, 16, 17, 32, 33, 64, 70])
def test_batches_of_rows_of_all_lengths_equal_sacrebleu(longest):
    rng = np.random.default_rng(longest)
    lengths, reference_lengths = rng.integers(0, longest + 1, 40), rng.integers(0, longest + 1, (40, 2))
    lengths[0] = reference_lengths[0] = longest
    hypotheses, references = rng.integers(0, 3, (40, longest)), rng.integers(0, 3, (40, 2, longest))
    references[::4, 0] = hypotheses[::4]
    scores = sentence_bleu_ids(hypotheses, lengths, references, reference_lengths)
    metric = BLEU(tokenize="none", effective_order=True)
    for b in range(40):
        rows = [hypotheses[b, : lengths[b]], *(references[b, r, : reference_lengths[b, r]] for r in range(2))]
        text, *others = (" ".join(map(str, row)) for row in rows)
        assert scores[b] == pytest.approx(metric.sentence_score(text, others).score, abs=1e-9)


@pytest.mark.parametrize(
    ("shapes", "smoothing", "word"),
    [
        (((2, 3), (2,), (2, 0, 3), (2, 0)), "exp", "one or more references, not 2 of 0"),
        (((2, 3), (2,), (3, 3), (3,)), "exp", "2 hypotheses"),
        (((2, 3), (3,), (2, 3), (2,)), "exp", "do not fit"),
        (((2, 3), (2,), (2, 4, 3), (2,)), "exp", "do not fit"),
        (((2, 3), (2,), (2, 3), (2,)), "laplace", "laplace"),
    ],
)
def test_ids_that_do_not_fit_are_refused(shapes, smoothing, word):
    with pytest.raises(ValueError, match=word):
        arguments: list[Any] = [*(np.ones(shape, dtype=np.int64) for shape in shapes), smoothing]
        sentence_bleu_ids(*arguments)


@pytest.mark.parametrize("length", [-1, 4])
def test_lengths_beyond_the_array_are_refused(length):
    tokens, right, wrong = np.ones((1, 3), dtype=np.int64), np.array([3]), np.array([length])
    for lengths in ((wrong, right), (right, wrong)):
        with pytest.raises(ValueError, match="do not fit"):
            sentence_bleu_ids(tokens, lengths[0], tokens, lengths[1])


@settings(max_examples=60, deadline=None)
@given(batch=batches(), row=st.integers(0, 5))
def test_a_repeated_reference_stands_for_a_missing_one(batch, row):
    hypotheses, references = batch
    row %= len(hypotheses)
    missing = [list(stream) for stream in references] + [[None] * len(hypotheses)]
    missing[0][row] = missing[0][row] if len(references) == 1 else None
    present = [next(text for text in texts if text is not None) for texts in zip(*missing, strict=True)]
    filled = [[text if text is not None else first for text, first in zip(s, present, strict=True)] for s in missing]
    expected = expected_scores(BLEU(effective_order=True), hypotheses, missing)
    np.testing.assert_allclose(SentenceBleu()(hypotheses, filled), expected, rtol=0, atol=1e-9)


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
    monkeypatch.setattr(bleu, "_MAX_CACHED_UNITS", 3)
    score = SentenceBleu()
    for text in ("a b c d e f", "f e d c, b a", "a, b, c"):
        assert score([text], [["a b c d"]])[0] == pytest.approx(sacrebleu.sentence_bleu(text, ["a b c d"]).score)


def test_an_empty_batch_has_no_scores():
    assert SentenceBleu()([], [[]]).shape == (0,)
    empty = np.zeros((0, 4), dtype=np.int64), np.zeros(0, dtype=np.int64)
    assert sentence_bleu_ids(*empty, *empty).shape == (0,)


@pytest.mark.parametrize("width", [0, 3])
def test_batches_of_empty_hypotheses_or_references_are_worth_nothing(width):
    empty = np.ones((2, width), dtype=np.int64), np.zeros(2, dtype=np.int64)
    full = np.ones((2, 3), dtype=np.int64), np.full(2, 3)
    for pair in ((empty, full), (full, empty), (empty, empty)):
        assert sentence_bleu_ids(*pair[0], *pair[1]).tolist() == [0, 0]


def test_signature_is_that_of_sacrebleu():
    metric = BLEU(smooth_method="floor", smooth_value=0.25, tokenize="intl", lowercase=True, effective_order=True)
    metric.sentence_score("a", ["a"])
    ours = SentenceBleu("intl", "floor", 0.25, lowercase=True)
    assert ours.signature == str(metric.get_signature()).replace("nrefs:1|", "")
    assert ours.signature != SentenceBleu("intl", "floor", 0.5, lowercase=True).signature


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"tokenizer": "13b"}, "13b"),
        ({"smoothing": "laplace"}, "laplace"),
        ({"value": -1.0}, "negative"),
        ({"value": math.nan}, "finite"),
    ],
)
def test_unknown_options_are_refused_by_name(arguments, word):
    with pytest.raises(ValueError, match=word):
        SentenceBleu(**arguments)


def test_an_unequal_number_of_references_is_refused():
    for references in ([["a"]], [["a", "b"], ["a"]], [["a", "b", "c"]], []):
        with pytest.raises(ValueError, match="2 hypotheses need"):
            SentenceBleu()(["a", "b"], references)


_WITHOUT_MACHINE_CODE = """
import sys
{before}
import numpy as np
from rlseq_envs.rewards import bleu, bleu_numpy, hull, hull_numpy
assert bleu._score_batch is bleu_numpy.score_batch and hull._kernels is hull_numpy
assert np.isclose(bleu.SentenceBleu()(["a b, c"], [["a b, d"]])[0], {expected})
points, counts = np.array([[[0, 0], [0.5, 0.25], [1, 0], [1, 1], [1, 1]]]), np.array([5])
tokens, lengths = hull.hulls(points, counts)
assert tokens.tolist() == [[1, 3, 4, 0, 0, 0]] and hull.valid(points, counts, tokens, lengths).all()
assert hull.edge_f1(points, counts, tokens, lengths) == hull.coverage(points, counts, tokens, lengths)[0] == 1
"""


@pytest.mark.parametrize("before", ["import os; os.environ['NUMBA_DISABLE_JIT'] = '1'", "sys.modules['numba'] = None"])
def test_where_nothing_can_be_compiled_plain_numpy_does_the_same(before):
    expected = sacrebleu.sentence_bleu("a b, c", ["a b, d"]).score
    program = _WITHOUT_MACHINE_CODE.format(before=before, expected=expected)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
