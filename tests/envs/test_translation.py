"""The translation task: what it reads, gives, rewards and saves."""

from __future__ import annotations

import gzip
import json
import pickle
from typing import Any

import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER

from rlseq_envs.task import END
from rlseq_envs.tasks.translation import TranslationTask
from rlseq_envs.text.corpus import CorpusError
from tests.support import only

SOURCES = [
    "A man sleeps, in a green room.",
    "Two men build a blue hut.",
    "A dog runs through the snow!",
    "Three children (in red) eat 1,000 cakes",
    "The woman doesn't see the dog.",
    "A blue dog",
]
TARGETS = [
    "Ein Mann schläft, in einem grünen Raum.",
    "Zwei Männer bauen eine blaue Hütte.",
    "Ein Hund rennt durch den Schnee!",
    "Drei Kinder (in Rot) essen 1.000 Kuchen",
    "Die Frau sieht den Hund nicht.",
    "Ein blauer Hund",
]
OTHERS = [
    "Ein Mann schläft in einem Raum, der grün ist.",
    "Zwei Herren bauen eine blaue Hütte.",
    "Durch den Schnee rennt ein Hund!",
    "1.000 Kuchen essen drei Kinder (in Rot)",
    "Den Hund sieht die Frau nicht.",
    "Ein blauer Hund",
]


@pytest.fixture
def files(tmp_path):
    def write(name, lines):
        (tmp_path / name).write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
        return str(tmp_path / name)

    source, target, other = write("a.gz", SOURCES), write("b.gz", TARGETS), write("c.gz", OTHERS)
    return {
        "train_source": source,
        "train_target": target,
        "validation_source": source,
        "validation_target": [target, other],
        "test_source": source,
        "test_target": [other, target],
        "vocabulary_size": 120,
    }


@pytest.fixture
def task(files):
    return TranslationTask(**files)


def drafts(task, split, seed=0):
    """Sequences of all kinds: references, other instances' references, cut ones, random ones; and their ids."""
    rng = np.random.default_rng(seed)
    ids = np.tile(task.instances(split).ids(), 4)
    sequences, lengths = task.references(rng.permutation(ids))
    first = len(task.instances(split).ids())
    sequences[:first], lengths[:first] = pad_to(task.references(ids[:first]), sequences.shape[1])
    lengths[first : 2 * first] = rng.integers(1, lengths[first : 2 * first] + 1)
    sequences[-first:] = rng.integers(0, task.choices.size, sequences[-first:].shape)
    sequences[-1, 0], lengths[-1] = END, 1
    return sequences, lengths, ids


def pad_to(padded, width):
    rows, lengths = padded
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1]))), lengths


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("units", ["subword", "word", "character"])
def test_the_reward_is_sacrebleus_sentence_bleu_of_the_text(files, units, split):
    task = TranslationTask(**files, units=units)
    sequences, lengths, ids = drafts(task, split)
    pairs = task.text_pairs(sequences, lengths, ids)
    expected = [
        sacrebleu.sentence_bleu(text, list(references)).score / 100
        for text, references in zip(pairs.hypotheses, zip(*pairs.references, strict=True), strict=True)
    ]
    reward = task.reward(sequences, lengths, ids)
    np.testing.assert_allclose(reward.total, expected, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(reward.components["sentence_bleu"], reward.total)
    assert reward.total[-1] == 0


def test_every_reference_rolled_out_is_worth_1(task):
    for split in ("train", "validation", "test"):
        ids = task.instances(split).ids()
        np.testing.assert_allclose(task.reward(*task.references(ids), ids).total, 1)


def test_a_second_reference_is_worth_as_much_as_the_first(task):
    ids, other = task.instances("validation").ids(), task.instances("test").ids()
    np.testing.assert_allclose(task.reward(*task.references(other), ids).total, 1)


def test_nothing_beyond_the_length_counts(task):
    sequences, lengths, ids = drafts(task, "validation")
    spoilt = sequences.copy()
    spoilt[np.arange(spoilt.shape[1]) >= lengths[:, None]] = 7
    np.testing.assert_array_equal(task.reward(spoilt, lengths, ids).total, task.reward(sequences, lengths, ids).total)
    assert task.corpus_metrics(spoilt, lengths, ids) == task.corpus_metrics(sequences, lengths, ids)


def test_smoothing_and_tokenizer_reach_the_reward_and_its_signature(files):
    task = TranslationTask(**files, smoothing="floor", smoothing_value=0.2, reward_tokenizer="intl", lowercase=True)
    sequences, lengths, ids = drafts(task, "train")
    texts = task.text_pairs(sequences, lengths, ids)
    metric = BLEU(smooth_method="floor", smooth_value=0.2, tokenize="intl", lowercase=True, effective_order=True)
    expected = [
        metric.sentence_score(text, [reference]).score
        for text, reference in zip(texts.hypotheses, texts.references[0], strict=True)
    ]
    np.testing.assert_allclose(task.reward(sequences, lengths, ids).total * 100, expected, atol=1e-9)
    for part in ("tok:intl", "smooth:floor[0.20]", "eff:yes", "case:lc", f"version:{sacrebleu.__version__}", "end:"):
        assert part in task.signature


def test_signatures_differ_where_rewards_or_tokens_do(files):
    changes = [{}, {"smoothing": "add-k"}, {"reward_tokenizer": "char"}, {"units": "word"}, {"vocabulary_size": 110}]
    changes += [{"shared_vocabulary": False, "vocabulary_size": 60}, {"lowercase": True}]
    assert len({TranslationTask(**files | change).signature for change in changes}) == len(changes)
    assert TranslationTask(**files).signature == TranslationTask(**files).signature


def test_corpus_metrics_are_sacrebleus(task):
    sequences, lengths, ids = drafts(task, "validation")
    pairs = task.text_pairs(sequences, lengths, ids)
    expected = {
        name: metric.corpus_score(pairs.hypotheses, pairs.references).score
        for name, metric in (("BLEU", BLEU()), ("chrF", CHRF()), ("TER", TER()))
    }
    assert task.corpus_metrics(sequences, lengths, ids) == pytest.approx(expected)
    assert task.selection_metric in expected


def test_only_the_metrics_asked_for_are_computed(files):
    task = TranslationTask(**files, metrics=("BLEU",))
    assert list(task.corpus_metrics(*drafts(task, "test"))) == ["BLEU"]


def test_bleu_without_case_is_asked_for_by_name(files):
    task = TranslationTask(**files, metrics=("BLEU", "BLEU-lc"))
    sequences, lengths, ids = drafts(task, "validation")
    pairs = task.text_pairs(sequences, lengths, ids)
    shouted = [text.upper() for text in pairs.hypotheses]
    metrics = task.text_metrics()
    scores = {name: metric.corpus_score(shouted, pairs.references).score for name, metric in metrics.items()}
    assert scores["BLEU-lc"] == BLEU(lowercase=True).corpus_score(pairs.hypotheses, pairs.references).score
    assert scores["BLEU"] < scores["BLEU-lc"]
    assert "case:lc" in str(metrics["BLEU-lc"].get_signature())


def test_text_metrics_bear_signatures(task):
    pairs = task.text_pairs(*drafts(task, "test"))
    for metric in task.text_metrics().values():
        metric.corpus_score(pairs.hypotheses, pairs.references)
        assert "nrefs:2" in str(metric.get_signature())


def test_sources_and_references_end_in_end(task):
    ids = task.instances("train").ids()
    for rows, lengths in (only(task.source(ids)), task.references(ids)):
        assert rows.dtype == lengths.dtype == np.int64
        assert (rows[np.arange(len(ids)), lengths - 1] == END).all()
        assert rows.shape == (len(ids), lengths.max())


def test_ids_are_stable_consecutive_and_of_one_split(task):
    train, validation = task.instances("train"), task.instances("validation")
    assert (train.first, train.size) == (0, 6)
    assert not set(train.ids()) & set(validation.ids())
    reversed_ids = train.ids()[::-1]
    np.testing.assert_array_equal(task.references(reversed_ids)[1], task.references(train.ids())[1][::-1])
    for wrong in ([6], [0, validation.first], [-1]):
        with pytest.raises(ValueError, match="not all in split"):
            task.source(np.array(wrong))


def test_an_empty_batch_is_an_empty_result(task):
    nothing = np.zeros(0, dtype=np.int64)
    assert only(task.source(nothing))[0].shape == (0, 0)
    assert task.reward(np.zeros((0, 4), dtype=np.int64), nothing, nothing).total.shape == (0,)


def test_length_limits_follow_the_source(files):
    task = TranslationTask(**files, max_length=30)
    np.testing.assert_array_equal(task.length_limits(np.array([1, 5, 10, 11, 90])), [12, 20, 30, 30, 30])


def test_long_pairs_are_skipped_in_training_and_cut_in_evaluation(files):
    task = TranslationTask(**files, units="word", max_source_length=7, max_length=7)
    task.prepare()
    train, validation = task.report.splits["train"], task.report.splits["validation"]
    words = [
        (len(source.split()) + 1, len(target.split()) + 1) for source, target in zip(SOURCES, TARGETS, strict=True)
    ]
    assert train.pairs == sum(max(pair) <= 7 for pair in words)
    assert (train.skipped_long_source, train.skipped_long_target) == (2, 0)
    assert task.text_pairs(*task.references(ids := task.instances("train").ids()), ids).references[0] == [
        target for target, pair in zip(TARGETS, words, strict=True) if max(pair) <= 7
    ]
    ids = task.instances("validation").ids()
    sources, _ = only(task.source(ids))
    assert (validation.pairs, validation.truncated_sources, validation.truncated_targets) == (6, 2, 2)
    assert (sources.shape[1], sources[0, 6]) == (7, END)
    assert task.text_pairs(*task.references(ids), ids).references[0] == TARGETS


def test_no_pair_within_the_limits_is_an_error(files):
    with pytest.raises(ValueError, match="no training pair is within max_source_length 3"):
        TranslationTask(**files, max_source_length=3).prepare()


def test_two_vocabularies_are_learnt_from_one_side_each(files):
    files["vocabulary_size"] = 1000
    task = TranslationTask(**files, units="word", shared_vocabulary=False)
    assert task.sources["text"].tokens == len({word for line in SOURCES for word in line.split()}) + 2
    assert task.choices.size == len({word for line in TARGETS for word in line.split()}) + 2
    shared = TranslationTask(**files, units="word")
    both = {word for line in [*SOURCES, *TARGETS] for word in line.split()}
    assert shared.choices.size == shared.sources["text"].tokens == len(both) + 2


def test_evaluation_text_leaves_the_vocabulary_alone(files, tmp_path):
    digest = TranslationTask(**files).signature
    (tmp_path / "a.txt").write_text("Ωmega ψ\n")
    (tmp_path / "b.txt").write_text("日本 語\n")
    files |= {"test_source": str(tmp_path / "a.txt"), "test_target": str(tmp_path / "b.txt")}
    task = TranslationTask(**files)
    task.prepare()
    assert task.signature == digest
    assert task.text_pairs(*task.references(ids := task.instances("test").ids()), ids).references == [["日本 語"]]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("units", ["subword", "word", "character"])
def test_artifacts_alone_are_enough_to_decode(files, units, shared, tmp_path):
    task = TranslationTask(
        **files | {"vocabulary_size": 60 if units == "subword" and not shared else 120},
        units=units,
        shared_vocabulary=shared,
    )
    task.save_artifacts(tmp_path)
    loaded = TranslationTask(units=units, artifacts=str(tmp_path))
    assert loaded.signature == task.signature
    assert (loaded.sources, loaded.choices) == (task.sources, task.choices)
    assert task.choices.same_as == ("text" if shared else None)
    sources, lengths = only(task.source(task.instances("train").ids()))
    parsed, parsed_lengths = only(loaded.parse_sources(SOURCES))
    np.testing.assert_array_equal(parsed, sources)
    np.testing.assert_array_equal(parsed_lengths, lengths)
    assert loaded.format_outputs(*task.references(task.instances("train").ids())) == TARGETS
    with pytest.raises(ValueError, match="no data for split 'train'"):
        loaded.instances("train")


def test_artifacts_go_with_other_evaluation_files(files, tmp_path):
    task = TranslationTask(**files)
    task.save_artifacts(tmp_path)
    only_test = {key: value for key, value in files.items() if key.startswith("test")}
    loaded = TranslationTask(**only_test, artifacts=str(tmp_path))
    ids = loaded.instances("test").ids()
    np.testing.assert_array_equal(only(loaded.source(ids))[0], only(task.source(ids))[0])
    assert loaded.signature == task.signature


def test_artifacts_of_a_made_corpus_bring_the_corpus_back(tmp_path):
    sizes: dict[str, Any] = {"cldr_sizes": (100, 5, 5)}
    task = TranslationTask(**sizes, vocabulary_size=300)
    task.save_artifacts(tmp_path)
    loaded = TranslationTask(**sizes, artifacts=str(tmp_path))
    ids = task.instances("test").ids()
    np.testing.assert_array_equal(only(loaded.source(ids))[0], only(task.source(ids))[0])


def test_unfit_artifacts_are_refused(files, tmp_path):
    TranslationTask(**files).save_artifacts(tmp_path)
    with pytest.raises(ValueError, match="made with units='subword', not 'word'"):
        TranslationTask(units="word", artifacts=str(tmp_path))
    with pytest.raises(ValueError, match="made with lowercase=False"):
        TranslationTask(lowercase=True, artifacts=str(tmp_path))
    with pytest.raises(ValueError, match=r"nowhere/vocabulary\.json: cannot be read"):
        TranslationTask(artifacts=str(tmp_path / "nowhere"))
    (tmp_path / "vocabulary.json").write_text(json.dumps({"corpus": "files", "units": "subword"}))
    with pytest.raises(ValueError, match=r"vocabulary\.json: cannot be read.*lowercase"):
        TranslationTask(artifacts=str(tmp_path))


def test_a_task_survives_pickling(task):
    sequences, lengths, ids = drafts(task, "test")
    copy = pickle.loads(pickle.dumps(task))
    np.testing.assert_array_equal(
        copy.reward(sequences, lengths, ids).total, task.reward(sequences, lengths, ids).total
    )
    assert copy.signature == task.signature


def test_shared_data_stand_for_the_files_and_are_not_copied(task, files, tmp_path):
    assert task.shared_data() is None, "nothing was read"
    task.prepare()
    task.save_artifacts(tmp_path)
    buffers: list[Any] = []
    pickled = pickle.dumps(task.shared_data(), protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 3 * 4 + 2 * (1 + 2 + 2), "tokens and offsets of both sides; text and offsets of references"
    moved = dict.fromkeys(("train_source", "train_target", "validation_source", "test_source"), "nowhere")
    other = TranslationTask(**files | moved, artifacts=str(tmp_path))
    other.use_shared_data(pickle.loads(pickled, buffers=[memoryview(buffer.raw().tobytes()) for buffer in buffers]))
    for split in ("train", "validation", "test"):
        sequences, lengths, ids = drafts(task, split)
        for ours, theirs in zip(only(other.source(ids)), only(task.source(ids)), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(
            other.reward(sequences, lengths, ids).total, task.reward(sequences, lengths, ids).total
        )
        assert other.text_pairs(sequences, lengths, ids) == task.text_pairs(sequences, lengths, ids)


def test_rendering_shows_texts_and_labels(task):
    ids = task.instances("validation").ids()
    rows, lengths = task.references(ids[:1])
    shown = task.render(int(ids[1]), rows[0, : lengths[0]])
    assert (shown.source, shown.reference, shown.output) == (SOURCES[1], TARGETS[1], TARGETS[0])
    assert len(shown.output_labels) == lengths[0]
    assert len(shown.input_labels) == only(task.source(ids[1:2]))[1][0]
    assert (shown.input_labels[-1], shown.output_labels[-1]) == ("END", "END")
    assert "".join(shown.output_labels[:-1]).replace("▁", " ").strip() == TARGETS[0]


def test_lines_too_long_to_parse_are_numbered(files):
    task = TranslationTask(**files, units="word", max_source_length=4)
    rows, lengths = only(task.parse_sources(["a blue dog", "", " A  dog "]))
    np.testing.assert_array_equal(lengths, [4, 1, 3])
    assert (rows[1] == 0).all()
    with pytest.raises(ValueError, match="lines 2, 4 have more than max_source_length 4"):
        task.parse_sources(["a", "a b c d", "b", "a b c d e"])


def flat(pairs):
    return *only(pairs[0]), *pairs[1:]


def test_training_pairs_are_cut_into_other_subwords_under_each_seed(files):
    task = TranslationTask(**files, subword_dropout=0.4)
    ids = task.instances("train").ids()
    (source, *first), (second_source, *second) = (task.training_pairs(ids, seed) for seed in (1, 2))
    (one, lengths), (other, _) = only(source), only(second_source)
    assert one.shape != other.shape or (one != other).any()
    assert task.format_outputs(*first) == task.format_outputs(*second) == TARGETS
    assert [task.render(ids[0], row).output for row in one[:1, : lengths[0]]] == SOURCES[:1]  # shared vocabulary
    assert_same(flat(task.training_pairs(ids, 1)), (one, lengths, *first))
    # What is decoded from stays as it is.
    assert_same(only(task.source(ids)), only(TranslationTask(**files).source(ids)))
    held_out = task.instances("validation").ids()
    assert_same(flat(task.training_pairs(held_out, 1)), (*only(task.source(held_out)), *task.references(held_out)))


def test_a_pair_that_would_be_too_long_is_cut_as_always(files):
    longest = int(TranslationTask(**files).references(np.arange(6))[1].max())
    task = TranslationTask(**files, max_length=longest, subword_dropout=0.9)
    plain, (_, drawn, lengths) = task.references(np.arange(6)), task.training_pairs(np.arange(6), 3)
    assert lengths.max() <= longest
    kept = [row for row in range(6) if (drawn[row, : plain[1][row]] == plain[0][row, : plain[1][row]]).all()]
    assert kept
    assert task.format_outputs(drawn, lengths) == TARGETS


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_subword_dropout_training_pairs_are_the_pairs(task):
    ids = task.instances("train").ids()
    assert_same(flat(task.training_pairs(ids, 1)), (*only(task.source(ids)), *task.references(ids)))


def test_lower_casing_reads_and_compares_without_case(files):
    task = TranslationTask(**files, units="word", lowercase=True)
    ids = task.instances("train").ids()
    assert task.format_outputs(*task.references(ids)) == [line.lower() for line in TARGETS]
    np.testing.assert_allclose(task.reward(*task.references(ids), ids).total, 1)
    np.testing.assert_array_equal(only(task.parse_sources(["A DOG"]))[0], only(task.parse_sources(["a dog"]))[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"units": "syllable", "max_length": 1}, ["units is 'syllable'", "max_length is 1; give a whole number at"]),
        ({"metrics": ("chrF", "METEOR")}, ["'METEOR'", "metrics must hold BLEU"]),
        ({"train_source": "a"}, ["train_target, validation_source, validation_target is not given"]),
        ({"corpus": "files"}, ["corpus is 'files' and train_source, train_target, validation_source"]),
        ({"test_source": "a"}, ["test_source and test_target must be given together"]),
        ({"rl_target": "a"}, ["rl_source and rl_target must be given together"]),
        ({"corpus": "cldr", "train_source": "a"}, ["train_source given, but corpus is 'cldr': set corpus to 'files'"]),
        ({"test_source": "a", "test_target": "b"}, ["train_source is needed"]),
        ({"cldr_sizes": (5, 0, 5)}, ["cldr_sizes is (5, 0, 5); give a list of 3, each a whole number above 0"]),
        ({"vocabulary_size": 2, "subword_model": "wordpiece"}, ["vocabulary_size", "subword_model"]),
        ({"subword_dropout": 1.0, "subword_model": "unigram"}, ["at least 0 and below 1", "needs units 'subword'"]),
        ({"reward_tokenizer": "14a"}, ["tokenizer '14a'"]),
        ({"smoothing": "jelinek"}, ["smoothing is 'jelinek'; give 'none' or 'floor'"]),
    ],
)
def test_settings_that_cannot_be_used_are_named_at_once(settings, words):
    with pytest.raises(ValueError) as caught:
        TranslationTask(**settings)
    assert all(word in str(caught.value) for word in words)


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="max_lenght"):
        TranslationTask(max_lenght=3)


def test_a_split_without_files_is_refused_by_name(files):
    files["test_source"] = files["test_target"] = None
    task = TranslationTask(**files)
    task.prepare()
    with pytest.raises(ValueError, match="no data for split 'test': set test_source and test_target"):
        task.instances("test")


def test_a_repaired_file_is_read_anew(files, tmp_path):
    good = (tmp_path / "a.gz").read_bytes()
    (tmp_path / "a.gz").write_bytes(good[:20])
    task = TranslationTask(**files)
    with pytest.raises(CorpusError, match="broken gzip"):
        task.instances("train")
    (tmp_path / "a.gz").write_bytes(good)
    assert task.instances("train").size == 6


def unlabelled(files, tmp_path, **settings):
    path = tmp_path / "more.en"
    path.write_text("A dog sleeps.\n\nTwo dogs sleep in the snow.\n")
    return TranslationTask(**files, rl_source=str(path), **settings)


def test_sources_of_rl_may_have_no_references(files, tmp_path):
    task = unlabelled(files, tmp_path, reward={"neg_repetition": 1.0})
    task.prepare()
    split = task.rl_instances()
    assert (split.name, split.size, split.labelled) == ("rl", 2, False)
    sequences = np.array([[5, 6, 7, END]] * 2)
    assert task.reward(sequences, np.array([4, 4]), split.ids()).total.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="give rl_target"):
        task.references(split.ids())
    assert task.render(int(split.ids()[0]), sequences[0]).reference == ""


def test_rewards_that_read_references_are_refused_by_name_without_them(files, tmp_path):
    with pytest.raises(ValueError, match=r"the reward bleu, chrf reads references and rl_source has none"):
        unlabelled(files, tmp_path, reward={"bleu": 1.0, "neg_repetition": 1.0, "chrf": 1.0})


def test_sources_of_rl_with_references_are_rewarded_like_any(files, tmp_path):
    task = TranslationTask(**files, rl_source=files["test_source"], rl_target=files["test_target"])
    split = task.rl_instances()
    assert split.labelled and split.size == len(SOURCES)
    sequences, lengths = task.references(split.ids())
    assert task.reward(sequences, lengths, split.ids()).total.tolist() == [1.0] * len(SOURCES)
    assert TranslationTask(**files).rl_instances().name == "train"


@pytest.mark.parametrize("name", ["../outside.model", "/outside.model", "deep/outside.model", "", 3, None])
def test_a_vocabulary_lies_beside_its_manifest(files, tmp_path, name):
    TranslationTask(**files).save_artifacts(tmp_path)
    (path,) = tmp_path.glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source": name}))
    with pytest.raises(ValueError, match=r"source is .*no file beside it"):
        TranslationTask(**files, artifacts=tmp_path)
