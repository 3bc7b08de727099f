"""CIDEr-D: the reference implementation's value, whatever is known; what travels with a checkpoint; the metric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq.evaluation.significance import compare_text, score_text
from rlseq_envs.rewards.bleu import SentenceBleu
from rlseq_envs.rewards.cider import CiderD, CiderDMetric, DocumentFrequencies
from rlseq_envs.rewards.encoding import TextEncoder
from rlseq_envs.settings.translation import TranslationSettings
from rlseq_envs.task import TextPairs
from rlseq_envs.text.output import TextOutput
from rlseq_envs.text.vocabulary import ListedVocabulary

Gram = tuple[str, ...]
ENCODER = TextEncoder(str, wordwise=True)
WORDS = ["a", "red", "ring", "is", "left", "of", "the", "box"]
texts = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
documents_of_texts = st.lists(st.lists(texts, min_size=1, max_size=4, unique=True), min_size=1, max_size=8)


def grams(text: str) -> Counter[Gram]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


def plain(text: str, references: Sequence[str], documents: Sequence[Sequence[str]]) -> float:
    """Vedantam et al. 2015, eq. 1 and 3 ff., as pyciderevalcap's ciderD_scorer.py has them: one n-gram at a time."""
    containing: Counter[Gram] = Counter()
    for document in documents:
        containing.update({gram for reference in document for gram in grams(reference)})

    def weighted(text: str, order: int) -> dict[Gram, float]:
        rare = {gram: math.log(len(documents)) - math.log(max(1, containing[gram])) for gram in grams(text)}
        return {gram: count * rare[gram] for gram, count in grams(text).items() if len(gram) == order}

    def pairs(text: str) -> int:
        return max(0, len(text.split()) - 1)

    total = 0.0
    for reference in references:
        for order in range(1, 5):
            ours, theirs = weighted(text, order), weighted(reference, order)
            product = sum(min(ours[gram], theirs.get(gram, 0)) * theirs.get(gram, 0) for gram in ours)
            size = math.hypot(*ours.values()) * math.hypot(*theirs.values())
            penalty = math.exp(-((pairs(text) - pairs(reference)) ** 2) / (2 * 6.0**2))
            total += penalty * (product / size if size else 0.0) / 4
    return 10 * total / len(references)


def streams(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """As sacrebleu has references: rows that have fewer repeat their first one."""
    most = max(map(len, rows))
    return [list(stream) for stream in zip(*([*row, *[row[0]] * (most - len(row))] for row in rows), strict=True)]


@settings(max_examples=150, deadline=None)
@given(st.data(), documents_of_texts, documents_of_texts)
def test_it_is_the_reference_implementations(
    data: st.DataObject, documents: list[list[str]], rows: list[list[str]]
) -> None:
    hypotheses = [data.draw(st.one_of(texts, st.sampled_from(row))) for row in rows]
    scorer = CiderD(ENCODER, DocumentFrequencies.count(ENCODER, documents))
    expected = [plain(text, row, documents) for text, row in zip(hypotheses, rows, strict=True)]
    np.testing.assert_allclose(scorer(hypotheses, streams(rows)), expected, rtol=0, atol=1e-9)


def test_what_is_rare_counts_more_and_gaming_less() -> None:
    documents = [["a red ring"], ["a blue ring"], ["a green box"], ["a red box"]]
    scorer = CiderD(ENCODER, DocumentFrequencies.count(ENCODER, documents))
    alike, rare, common, repeated, nothing = scorer(
        ["a green ring", "a green box", "a red ring", "a green green green box", ""], [["a green box"] * 5]
    )
    assert rare > alike > common == nothing == 0 and rare > repeated > 0


def test_words_that_were_forgotten_are_still_known(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = CiderD(ENCODER, DocumentFrequencies.count(ENCODER, [["a red ring"], ["a box"], ["a b"]]))
    before = scorer(["a red box"], [["a red ring"]])
    for number in range(40):
        scorer._encoder.pairs([f"word{number}"], [["other"]], limit=10)
    assert len(scorer._encoder.tokens) < 30
    np.testing.assert_array_equal(scorer(["a red box"], [["a red ring"]]), before)


def test_frequencies_are_read_as_they_were_written(tmp_path: Path) -> None:
    made = DocumentFrequencies.count(ENCODER, [["a red ring", "a ring"], ["é \ud800x a"], [""]])
    made.save(tmp_path / "documents.npz")
    read = DocumentFrequencies.load(tmp_path / "documents.npz")
    assert (read.tokens, read.documents, read.digest) == (made.tokens, 3, made.digest)
    np.testing.assert_array_equal(read.grams, made.grams)
    other = DocumentFrequencies.count(ENCODER, [["a red ring"], ["é \ud800x a"], [""]])
    assert other.digest != made.digest


@pytest.mark.parametrize("content", [b"", b"no zip", "grams"])
def test_a_damaged_file_of_frequencies_is_named(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "documents.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, tokens=np.frombuffer(b"a\nb", np.uint8), grams=np.array([[7, 0, 1]]), documents=1)
    with pytest.raises(ValueError, match=r"documents\.npz: cannot be read as document frequencies"):
        DocumentFrequencies.load(path)


def test_a_task_keeps_them_with_its_vocabulary(tmp_path: Path) -> None:
    options = TranslationSettings(units="word", reward={"cider": 1.0}, metrics=("BLEU", "CIDEr-D", "BLEU-1"))
    vocabulary = ListedVocabulary("word", WORDS)
    documents = [["a red ring"], ["a box", "the box"], ["a red box"]]
    made = TextOutput(options, lambda: {"target": vocabulary}, documents=lambda: documents)
    made.save(tmp_path, "files")
    read = TextOutput(options, pytest.fail, tmp_path, documents=pytest.fail)
    pairs = TextPairs(["a red box"], [["a red ring"]])
    assert read.reward(pairs, np.arange(1)).total == made.reward(pairs, np.arange(1)).total > 0
    assert read.signature == made.signature and "cider(documents:" in made.signature
    other = TextOutput(options, lambda: {"target": vocabulary}, documents=lambda: documents[:2])
    assert other.signature != made.signature


def test_the_metric_takes_the_corpus_for_its_documents_and_has_intervals() -> None:
    rows = [["a red ring", "the ring is red"], ["a box"], ["the box left of a ring"], ["a red box"]]
    hypotheses = ["a red ring", "the box", "a box left of a ring", "a ring"]
    metric = CiderDMetric(SentenceBleu("13a").encoder, "tok:13a|case:mixed")
    each = [plain(text, row, rows) for text, row in zip(hypotheses, rows, strict=True)]
    assert metric.corpus_score(hypotheses, streams(rows)).score == pytest.approx(100 * float(np.mean(each)))
    first, second = (score_text(metric, each, streams(rows), 200, 0) for each in (hypotheses, [r[0] for r in rows]))
    difference = compare_text(first, second)
    assert first.score < second.score and difference.ci95[0] > 0 and "documents:corpus" in first.signature
