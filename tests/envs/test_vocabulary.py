"""Vocabularies: encoding loses nothing it need not, decoding equals sentencepiece's, files bring back the same."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from rlseq_envs.task import END
from rlseq_envs.text import vocabulary
from rlseq_envs.text.storage import TextRows, TokenRows
from rlseq_envs.text.vocabulary import UNITS, UNKNOWN, load_vocabulary, train_vocabulary

LINES = [
    "Ein Mann schläft in einem grünen Raum.",
    "Zwei Männer\u00a0bauen eine „blaue“ Hütte auf;",
    "1.234,50 € am 24.12.2024, um 08:27\u202fUhr",
    "ﬁne ½ Ω e\u0301 é 今日は 👩‍👩‍👧",
    "a  b\u2028c",
] * 3


def learn(units="subword", size=150, model="bpe", lines=LINES):
    return train_vocabulary([TextRows.gather(lines)], size, units, model)


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def subwords(request):
    return learn(model=request.param)


def decoded(vocabulary, rows):
    padded, lengths = rows.padded(np.arange(len(rows)))
    return vocabulary.decode(padded, lengths)


def spaced(line):
    return " ".join(part for part in line.split(" ") if part)


@pytest.mark.parametrize("units", UNITS)
def test_end_closes_every_row_and_stands_nowhere_else(units):
    rows = learn(units).encode([*LINES, ""])
    ends = rows.offsets[1:] - 1
    assert (rows.values[ends] == END).all()
    assert (rows.values == END).sum() == len(LINES) + 1
    assert rows.lengths[-1] == 1


def test_subwords_bring_back_the_text_they_were_learnt_from(subwords):
    assert decoded(subwords, subwords.encode(LINES)) == [spaced(line) for line in LINES]
    assert (subwords.encode(LINES).values != UNKNOWN).all()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_decoding_any_ids_equals_sentencepiece(subwords, tmp_path_factory, data):
    processor = sentencepiece.SentencePieceProcessor(model_proto=subwords._stored)
    space = processor.piece_to_id("▁")
    ids = data.draw(st.lists(st.one_of(st.integers(0, len(subwords) - 1), st.sampled_from([0, 1, space])), max_size=12))
    row = np.array([[*ids, 5, 5]], dtype=np.int64)
    assert subwords.decode(row, np.array([len(ids)])) == [processor.decode(ids)]


any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"), max_size=30)
words = st.text("aäeinrtub ▁\t\u3000\u00a0Ж", max_size=40)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.one_of(any_text, words), max_size=4))
def test_encoding_any_text_equals_sentencepiece(subwords, texts):
    """Although each distinct word is encoded once."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=subwords._stored)
    assert as_lists(subwords.encode(texts)) == [[*processor.encode(text), END] for text in texts]


def test_words_are_forgotten_when_there_are_too_many(subwords, monkeypatch):
    expected = as_lists(subwords.encode(LINES))
    monkeypatch.setattr(vocabulary, "_MAX_CACHED_WORDS", 2)
    monkeypatch.setattr(vocabulary, "_ENCODE_CHUNK", 2)
    assert as_lists(subwords.encode(LINES)) == expected
    assert len(subwords._words) <= 2 + len({word for line in LINES for word in line.split(" ")})


def drawn(vocabulary, lines, dropout, seed):
    return vocabulary.sample(list(lines), dropout, seed, np.arange(len(lines)))


def test_sampled_subwords_are_other_ways_to_write_the_same_text():
    subwords, lines = learn(size=250), LINES[:3] * 20
    plain = as_lists(subwords.encode(lines))
    cut = drawn(subwords, lines, 0.3, seed=1)
    assert decoded(subwords, TokenRows.gather(cut, len(subwords))) == [spaced(line) for line in lines]
    assert all(row[-1] == END for row in cut)
    assert sum(map(len, cut)) > 1.1 * sum(map(len, plain))
    assert len(set(map(tuple, cut))) > 10  # three lines only, cut anew for each instance


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.one_of(any_text, words), max_size=4))
def test_without_dropout_the_cut_is_sentencepieces(bpe, texts):
    assert drawn(bpe, texts, 0.0, seed=1) == as_lists(bpe.encode(texts))


@pytest.fixture(scope="module")
def bpe():
    return learn(size=250)


@pytest.mark.parametrize("dropout", [0.05, 0.3, 0.7])
def test_subwords_are_sampled_from_sentencepieces_distribution(bpe, dropout):
    """Each way to cut a word is as frequent as with sentencepiece: a chi-square test of two samples."""
    processor, text, count = sentencepiece.SentencePieceProcessor(model_proto=bpe._stored), "Männer schläft", 20_000
    ours = Counter(map(tuple, drawn(bpe, [text] * count, dropout, seed=3)))
    theirs = Counter(
        (*processor.encode(text, enable_sampling=True, alpha=dropout, nbest_size=-1), END) for _ in range(count)
    )
    rare = [cut for cut in ours | theirs if ours[cut] + theirs[cut] < 20]
    table = [[sample[cut] for cut in ours | theirs if cut not in rare] for sample in (ours, theirs)]
    table = [[*row, sum(sample[cut] for cut in rare)] for row, sample in zip(table, (ours, theirs), strict=True)]
    table = [[a for a, b in zip(row, zip(*table, strict=True), strict=True) if sum(b)] for row in table]
    assert len(table[0]) > 5
    assert chi2_contingency(table).pvalue > 1e-4


def test_what_is_sampled_is_a_function_of_seed_and_instance_alone():
    subwords, lines = learn(size=250), LINES * 20
    first, second = (drawn(subwords, lines, 0.3, seed) for seed in (1, 2))
    assert first != second
    with ThreadPoolExecutor(4) as pool:  # whatever threads do beside it
        both = list(pool.map(lambda seed: drawn(subwords, lines, 0.3, seed), [1, 2] * 8))
    assert both == [first, second] * 8
    part = np.array([7, 3, 50])  # and whatever else is in the batch
    assert subwords.sample([lines[row] for row in part], 0.3, 1, part) == [first[row] for row in part]


def test_another_process_samples_the_same():
    script = f"""
import numpy as np
from rlseq_envs.text.storage import TextRows
from rlseq_envs.text.vocabulary import train_vocabulary
lines = {LINES!r}
vocabulary = train_vocabulary([TextRows.gather(lines)], 250, "subword", "bpe")
print(vocabulary.sample(lines, 0.3, 1, np.arange(len(lines))))
"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(drawn(learn(size=250), LINES, 0.3, seed=1))


def test_only_subwords_are_sampled():
    with pytest.raises(NotImplementedError, match="word units are not merged"):
        drawn(learn("word"), LINES, 0.3, seed=1)


def test_learning_twice_gives_the_same_vocabulary(subwords):
    model = "bpe" if learn().digest == subwords.digest else "unigram"
    again = learn(model=model)
    assert again.digest == subwords.digest
    assert again.pieces == subwords.pieces
    assert learn(model=model, lines=LINES[1:]).digest != subwords.digest


def test_sizes_are_kept():
    assert len(learn(size=120)) == 120
    assert len(learn("word", 10)) == 10
    assert len(learn("word", 1000)) == len({word for line in LINES for word in line.split()}) + 2


def test_a_size_below_the_number_of_characters_is_refused():
    with pytest.raises(ValueError, match="vocabulary of 20 tokens"):
        learn(size=20)


def test_a_text_of_few_pieces_gives_a_smaller_vocabulary():
    assert len(learn(lines=["ab ab"], size=100)) < 20


def test_words_are_ranked_by_frequency_then_text():
    vocabulary = learn("word", 5, lines=["b a c", "c b", "c d"])
    assert vocabulary.pieces == ("", "<unk>", "c", "b", "a")
    rows = vocabulary.encode(["c d a"])
    assert rows.values.tolist() == [2, UNKNOWN, 4, END]
    assert decoded(vocabulary, rows) == ["c <unk> a"]


def test_characters_bring_back_text_and_mark_the_unknown():
    vocabulary = learn("character", 100, lines=["ab c"])
    assert decoded(vocabulary, vocabulary.encode([" ab  c ", "axc"])) == ["ab c", "a⁇c"]


def test_nothing_beyond_the_length_is_decoded():
    vocabulary = learn("word", 5, lines=["b a c"])
    sequences = np.array([[2, 3, 0, 4], [4, 4, 4, 4], [0, 2, 2, 2]])
    assert vocabulary.decode(sequences, np.array([3, 2, 1])) == ["a b", "c c", ""]
    assert vocabulary.decode(sequences, np.array([0, 0, 0])) == ["", "", ""]


def test_labels_name_every_token():
    vocabulary = learn("word", 5, lines=["b a c"])
    assert vocabulary.labels(np.array([2, 1, 0])) == ("a", "<unk>", "END")


@pytest.mark.parametrize("units", UNITS)
def test_files_bring_back_the_same_vocabulary(units, tmp_path):
    vocabulary = learn(units)
    loaded = load_vocabulary(tmp_path / vocabulary.save(tmp_path, "target"))
    assert (loaded.units, loaded.pieces, loaded.digest) == (vocabulary.units, vocabulary.pieces, vocabulary.digest)
    assert loaded.encode(LINES).values.tolist() == vocabulary.encode(LINES).values.tolist()


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.model", b"no model"), ("a.model", b""), ("a.json", b"{"), ("a.json", b'{"units": "word"}'), ("a.json", b"[]")],
)
def test_files_that_are_no_vocabulary_are_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        load_vocabulary(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json"):
        load_vocabulary(tmp_path / "gone.json")


rows_of_tokens = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_tokens, data=st.data())
def test_token_rows_behave_like_lists(rows, data):
    stored = TokenRows.gather(iter(rows), data.draw(st.sampled_from([10, 1 << 16, (1 << 16) + 1])))
    picked = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1)))
    padded, lengths = stored.padded(picked)
    assert [padded[i, :n].tolist() for i, n in enumerate(lengths)] == [rows[i] for i in picked]
    assert all(not padded[i, n:].any() for i, n in enumerate(lengths))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    assert as_lists(stored.select(keep)) == [row for row, kept in zip(rows, keep, strict=True) if kept]
    assert as_lists(stored.truncated(3, 7)) == [row if len(row) <= 3 else [*row[:2], 7] for row in rows]


def as_lists(stored):
    return [stored.values[a:b].tolist() for a, b in zip(stored.offsets[:-1], stored.offsets[1:], strict=True)]


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=8), min_size=1, max_size=6), data=st.data())
def test_text_rows_behave_like_lists(texts, data):
    stored = TextRows.gather(iter(texts))
    assert (list(stored), len(stored)) == (texts, len(texts))
    picked = data.draw(st.lists(st.integers(0, len(texts) - 1)))
    assert stored.take(np.array(picked, dtype=np.int64)) == [texts[i] for i in picked]
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    assert list(stored.select(keep)) == [text for text, kept in zip(texts, keep, strict=True) if kept]
