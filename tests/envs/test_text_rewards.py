"""Rewards on text: each equals the library that defines it, or values worked out by hand."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import jiwer
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.translate.gleu_score import sentence_gleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF, TER

from rlseq.evaluation.significance import compare_text, score_text
from rlseq_envs.rewards import cider, edits, ngrams, overlap, ter, text
from rlseq_envs.rewards.encoding import TextEncoder
from rlseq_envs.rewards.text import TextRewards
from rlseq_envs.settings.text import REWARD_OPTIONS, TEXT_REWARDS, TextOptions
from rlseq_envs.settings.translation import TranslationSettings
from rlseq_envs.task import TextPairs
from rlseq_envs.text.output import TextOutput

WORDS = ["a", "b", "The", "the", "end.", "(x)", "..", "Éé", "ς", "Σ", "今日は", "x-y", "1,000", "𝒳", "'s"]
words = st.lists(st.sampled_from(WORDS), max_size=25)


@st.composite
def batches(draw):
    """Hypotheses and one to three streams of references, some of which are the hypothesis, or its words in disorder."""
    rows, streams = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    hypotheses = [draw(words) for _ in range(rows)]

    def reference(hypothesis):
        return draw(st.one_of(words, st.permutations(hypothesis), st.just(hypothesis)))

    references = [[reference(hypothesis) for hypothesis in hypotheses] for _ in range(streams)]
    return [" ".join(row) for row in hypotheses], [[" ".join(row) for row in stream] for stream in references]


HARD = [
    (["", "a", ""], [["", "", "a"], ["", "b", ""]]),
    (["a a a a a a"], [["a a"]]),
    (["b c d e a"], [["a b c d e"]]),
    (["The the  the\tthe end."], [["the end. the"]]),
]


def equals(name, expected, options=None, digits=1e-9):
    """A property: the reward equals ``expected(hypothesis, references)`` on every row."""
    rewards = TextRewards(options or TextOptions(reward_tokenizer="none"))

    @settings(max_examples=60, deadline=None)
    @example(HARD[0])
    @example(HARD[1])
    @example(HARD[2])
    @example(HARD[3])
    @given(batches())
    def check(batch):
        found = rewards([name], *batch)[name]
        rows = zip(batch[0], zip(*batch[1], strict=True), strict=True)
        np.testing.assert_allclose(found, [expected(text, list(others)) for text, others in rows], rtol=0, atol=digits)

    check()


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("orders", [(6, 0, 2), (6, 2, 2), (3, 1, 1), (1, 0, 3)])
def test_chrf_is_sacrebleus(orders, lowercase):
    options = TextOptions(
        lowercase=lowercase, chrf_char_order=orders[0], chrf_word_order=orders[1], chrf_beta=orders[2]
    )
    metric = CHRF(orders[0], orders[1], orders[2], lowercase=lowercase)
    equals("chrf", lambda text, others: metric.sentence_score(text, others).score / 100, options)


@pytest.mark.parametrize("lowercase", [False, True])
def test_ter_is_sacrebleus_with_the_other_sign(lowercase):
    metric, options = TER(), TextOptions(lowercase=lowercase)
    equals("neg_ter", lambda text, others: -metric.sentence_score(text, others).score / 100, options)


def test_gleu_is_nltks():
    equals("gleu", lambda text, others: sentence_gleu([other.split() for other in others], text.split()))


def test_rouge_l_is_googles():
    class Spaces:
        def tokenize(self, text):
            return text.split()

    scorer = RougeScorer(["rougeL"], tokenizer=Spaces())
    equals("rouge_l", lambda text, others: scorer.score_multi(others, text)["rougeL"].fmeasure)


def test_error_rates_are_jiwers_with_the_other_sign():
    def words_only(text):  # jiwer takes no white space but blanks for the end of a word
        return " ".join(text.split())

    equals("neg_wer", lambda text, others: -min(jiwer.wer(words_only(other), words_only(text)) for other in others))
    equals("neg_cer", lambda text, others: -min(jiwer.cer(other, text) for other in others))


def test_error_rates_of_a_corpus_are_jiwers_in_per_cent():
    output = TextOutput(TranslationSettings(metrics=("BLEU", "WER", "CER")), pytest.fail)

    @settings(deadline=None)
    @given(st.lists(st.tuples(words, words.filter(len)), min_size=1, max_size=6))
    def check(rows):
        hypotheses, references = ([" ".join(text) for text in side] for side in zip(*rows, strict=True))
        found = output.corpus_metrics(TextPairs(hypotheses, [references]))
        assert found["WER"] == pytest.approx(100 * jiwer.wer(references, hypotheses))
        assert found["CER"] == pytest.approx(100 * jiwer.cer(references, hypotheses))

    check()


def test_the_best_reference_counts_in_error_rates_of_a_corpus():
    metric = TextOutput(TranslationSettings(metrics=("BLEU", "WER")), pytest.fail).metrics()["WER"]
    streams = [["a b c d", "a"], ["a c", "b c"]]
    assert metric.corpus_score(["a x", "b"], streams).score == pytest.approx(100 * (1 + 1) / (2 + 2))
    assert metric.corpus_score(["", "b c"], [["", ""]]).score == 200  # of no word at all, as of one
    first, second = (score_text(metric, texts, streams, 200, 0) for texts in (["x", "y"], ["a c", "b c"]))
    difference = compare_text(first, second)
    assert difference.delta == -100 and second.score == 0 and first.signature == "unit:word|case:mixed|version:1"


def test_bleu_is_that_of_the_class_with_these_options():
    options = TextOptions(reward_tokenizer="intl", smoothing="floor", smoothing_value=0.2, lowercase=True)
    rewards = TextRewards(options)
    batch = (["The a.", "b"], [["the a .", "b b"]])
    np.testing.assert_array_equal(rewards(["bleu"], *batch)["bleu"], rewards.bleu(*batch) / 100)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_repetition_is_the_share_of_ngrams_met_before(order):
    def expected(text, others):
        tokens = text.split()
        grams = [tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1)]
        return len(set(grams)) / len(grams) - 1 if grams else 0.0

    equals("neg_repetition", expected, TextOptions(reward_tokenizer="none", repetition_order=order))


def test_values_by_hand():
    def worth(name, text, *references, **options):
        return TextRewards(TextOptions(**options))([name], [text], [[other] for other in references])[name][0]

    assert worth("exact_match", "a  b ", "a b") == 1 and worth("exact_match", "a B", "a b") == 0
    assert worth("exact_match", "a B", "x", "a b", lowercase=True) == 1 and worth("exact_match", "", "") == 1
    assert worth("length_ratio", "a b c.", "a b") == 2 / 4 and worth("length_ratio", "a b c.", "a b c", "d e f g") == 1
    assert worth("length_ratio", "", "a") == 0 and worth("length_ratio", "", "") == 1
    assert worth("neg_ter", "b c d e a", "a b c d e") == -1 / 5  # one shift
    assert worth("neg_wer", "b c d e a", "a b c d e") == -2 / 5
    assert worth("neg_cer", "abx", "abc abc") == -5 / 7
    assert worth("neg_wer", "a b", "") == -2 and worth("neg_ter", "a b", "") == -1
    assert worth("rouge_l", "a x b", "a b") == 2 * 2 / (3 + 2)
    assert worth("gleu", "a b", "a c") == pytest.approx(1 / 3)  # 1 of the 2 + 1 n-grams of either side
    assert worth("neg_repetition", "a b a b a b", "", repetition_order=2) == -3 / 5
    assert not np.signbit(worth("neg_wer", "a", "a"))


@pytest.mark.parametrize("name", TEXT_REWARDS)
def test_a_better_text_is_worth_more_and_an_empty_batch_nothing(name):
    rewards = TextRewards(TextOptions(repetition_order=1))
    found = rewards([name], ["a man sleeps here", "a a a a a a a"], [["a man sleeps here"] * 2])[name]
    assert found.dtype == np.float64 and found[0] > found[1]
    assert rewards([name], [], [[]])[name].shape == (0,)
    with pytest.raises(ValueError, match="2 hypotheses need"):
        rewards([name], ["a", "b"], [["a"]])


@pytest.mark.parametrize(("length", "vocabulary"), [(150, 60), (70, 3)])
def test_long_texts_equal_sacrebleu(length, vocabulary):
    """Beyond the distance of the shifts that TER looks at, and beyond their number."""
    rng = np.random.default_rng(length)
    texts = [" ".join(map(str, rng.integers(0, vocabulary, size))) for size in (length, length // 2, 5)]
    rewards, metrics = TextRewards(TextOptions()), {"chrf": CHRF(), "neg_ter": TER()}
    found = rewards(metrics, texts, [texts[::-1]])
    for name, metric in metrics.items():
        scores = [
            metric.sentence_score(text, [other]).score / 100 for text, other in zip(texts, texts[::-1], strict=True)
        ]
        np.testing.assert_allclose(np.abs(found[name]), scores, rtol=0, atol=1e-9)


def test_texts_with_line_feeds_and_lone_surrogates_are_texts_like_others():
    rewards = TextRewards(TextOptions())
    texts, others = ["a\nb c", "\ud800x"], ["a b\nc", "\ud800x"]
    found = rewards(TEXT_REWARDS, texts, [others])
    metric = CHRF(word_order=0)
    expected = [metric.sentence_score(text, [other]).score / 100 for text, other in zip(texts, others, strict=True)]
    np.testing.assert_allclose(found["chrf"], expected, rtol=0, atol=1e-9)
    assert found["exact_match"].tolist() == [1, 1] and found["neg_ter"].tolist() == [0, 0]


def test_kernels_are_right_without_machine_code(monkeypatch):
    def plain(module):
        for name, function in vars(module).copy().items():
            if hasattr(function, "py_func"):
                monkeypatch.setattr(module, name, function.py_func)

    batch = (["b c d e a", "a a b", ""], [["a b c d e", "a b b", "x"]])
    names = ("cider", "chrf", "gleu", "neg_ter", "neg_repetition")
    options = TextOptions(repetition_order=1, chrf_word_order=2)
    compiled = TextRewards(options)(names, *batch)
    for module in (cider, ngrams, ter):
        plain(module)
    interpreted = TextRewards(options)(names, *batch)
    for name in names:
        np.testing.assert_array_equal(compiled[name], interpreted[name])


def test_a_full_cache_of_words_changes_nothing():
    encoder = TextEncoder(str, wordwise=True)
    for texts in (["a b c"], ["c b d"], ["d e"]):
        pairs = encoder.pairs(texts, [texts], limit=2)
        assert overlap.gleu(pairs).tolist() == [1] and edits.rouge_l(pairs).tolist() == [1]


def test_every_option_changes_the_signature_of_its_rewards_and_of_no_others():
    def signatures(options):
        return {name: TextRewards(options).signature(name) for name in TEXT_REWARDS}

    usual = signatures(TextOptions())
    assert len(set(usual.values())) == len(TEXT_REWARDS)
    tokens = {"bleu", "cider", "gleu", "rouge_l", "length_ratio", "neg_repetition"}
    changes: dict[str, tuple[Any, set[str]]] = {
        "reward_tokenizer": ("none", tokens),
        "lowercase": (True, set(TEXT_REWARDS) - {"neg_ter"}),
        "smoothing": ("floor", {"bleu"}),
        "smoothing_value": (0.3, set()),
        "chrf_char_order": (5, {"chrf"}),
        "chrf_word_order": (2, {"chrf"}),
        "chrf_beta": (3, {"chrf"}),
        "repetition_order": (2, {"neg_repetition"}),
    }
    assert changes.keys() == vars(TextOptions()).keys()
    for option, (value, changed) in changes.items():
        found = signatures(replace(TextOptions(), **{option: value}))
        assert {name for name in TEXT_REWARDS if found[name] != usual[name]} == changed, option
    floors = [TextRewards(TextOptions(smoothing="floor", smoothing_value=value)).signature("bleu") for value in (1, 2)]
    assert floors[0] != floors[1]


def test_they_survive_pickling():
    rewards = TextRewards(TextOptions(chrf_word_order=2))
    batch = (["a b."], [["a c."]])
    copy = pickle.loads(pickle.dumps(rewards))
    assert copy(TEXT_REWARDS, *batch) == rewards(TEXT_REWARDS, *batch)


def test_every_reward_that_can_be_set_is_computed_and_every_option_is_one_of_these():
    assert tuple(text._REWARDS) == TEXT_REWARDS
    assert REWARD_OPTIONS.keys() <= vars(TextOptions()).keys() and set(REWARD_OPTIONS.values()) <= set(TEXT_REWARDS)
