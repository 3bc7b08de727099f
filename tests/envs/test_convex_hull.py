"""The convex hull task: instances, splits, labels, rewards, corpus metrics, text."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rlseq_envs.task import END, SplitName
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from tests.support import only

ALL = {"valid": 1.0, "edge_f1": 0.5, "coverage": 0.25}
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@pytest.fixture
def task():
    return ConvexHullTask(reward=ALL)


def random_sequences(task, ids, seed=0):
    """Half hulls, half noise: tokens of every kind, END anywhere or nowhere."""
    rng = np.random.default_rng(seed)
    sequences = rng.integers(0, task.choices.longest, (len(ids), task.choices.longest))
    hulls, _ = task.references(ids)
    sequences[::2] = END
    sequences[::2, : hulls.shape[1]] = hulls[::2]
    _, counts = only(task.source(ids))
    is_end = sequences == END
    ends = np.where(is_end.any(1), is_end.argmax(1) + 1, task.choices.longest)
    return sequences, np.minimum(ends, counts + 1)


@given(ids=st.lists(st.integers(0, 2**40 - 1), min_size=1, max_size=5), seed=st.integers(0, 2**64 - 1))
@settings(deadline=None, max_examples=50)
def test_an_instance_depends_on_seed_and_id_alone(ids, seed):
    task = ConvexHullTask(seed=seed)
    points, counts = only(task.source(np.array(ids)))
    again = ConvexHullTask(seed=seed, max_points=10, test_size=7, reward=ALL)
    for row, instance in enumerate(ids):
        alone, count = only(again.source(np.array([instance])))
        assert count.tolist() == [counts[row]] and alone.shape == (1, count[0], 2)
        assert (points[row, : count[0]] == alone[0]).all()
        assert (points[row, count[0] :] == 0).all()


def test_instances_are_pinned():
    # Published results name instances by id: a change here makes them incomparable.
    points, counts = only(ConvexHullTask(seed=0).source(np.array([0, 1 << 40, 1 << 41])))
    steps = (points * 2**24).astype(int)
    assert counts.tolist() == [7, 6, 5]
    assert steps[:, 0].tolist() == [[4515256, 11618287], [8377843, 11113968], [6387886, 3303007]]
    assert steps[0, 6].tolist() == [3473600, 15024040]


def test_points_are_uniform_on_the_grid():
    points, counts = only(ConvexHullTask(min_points=3, max_points=7).source(np.arange(20000)))
    assert np.bincount(counts, minlength=8)[:3].sum() == 0
    assert stats.chisquare(np.bincount(counts)[3:]).pvalue > 1e-3
    inside = points[np.arange(7) < counts[:, None]].astype(np.float64)
    assert ((inside * 2**24) == np.rint(inside * 2**24)).all()
    assert inside.min() >= 0 and inside.max() < 1
    cells = np.histogram2d(inside[:, 0], inside[:, 1], bins=16, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(cells.ravel()).pvalue > 1e-3
    assert abs(np.corrcoef(points[:, 0, 0], points[:, 1, 0])[0, 1]) < 0.03
    assert abs(np.corrcoef(points[:-1, 0, 0], points[1:, 0, 0])[0, 1]) < 0.03


def test_splits_are_disjoint_and_seeds_differ(task):
    assert [task.instances(split).size for split in SPLITS] == [None, 4000, 10000]
    ids = [task.instances(split).ids(0, 1000) for split in SPLITS]
    assert len(np.unique(np.concatenate(ids))) == 3000
    first = [only(task.source(part))[0][:, 0] for part in ids] + [only(ConvexHullTask(seed=1).source(ids[0]))[0][:, 0]]
    assert len(np.unique(np.concatenate(first), axis=0)) == 4000


def test_a_batch_may_mix_splits(task):
    ids = np.array([(1 << 41) + 3, 5, 1 << 40, 4])
    points, counts = only(task.source(ids))
    for row, instance in enumerate(ids):
        alone, count = only(task.source(np.array([instance])))
        assert count[0] == counts[row] and (points[row, : count[0]] == alone[0]).all()
        assert (points[row, count[0] :] == 0).all()


def test_test_sets_may_have_other_sizes():
    task = ConvexHullTask(min_points=5, max_points=6, test_points=(20, 30))
    assert (task.sources["points"].largest, task.choices.longest) == ((30, 2), 31)
    sizes = {split: only(task.source(task.instances(split).ids(0, 200)))[1] for split in SPLITS}
    assert set(sizes["train"]) == set(sizes["validation"]) == {5, 6}
    assert set(sizes["test"]) == set(range(20, 31))
    assert task.length_limits(np.array([5, 30])).tolist() == [6, 31]


@pytest.mark.parametrize("instance", [-1, (1 << 40) + 4000, (1 << 41) + 10000])
def test_ids_of_no_split_are_refused(task, instance):
    with pytest.raises(ValueError, match=f"instance {instance} belongs to no split"):
        task.source(np.array([5, instance]))


def test_references_are_worth_everything(task):
    ids = task.instances("test").ids(0, 500)
    hulls, lengths = task.references(ids)
    assert (hulls[np.arange(500), lengths - 1] == END).all() and lengths.max() == hulls.shape[1]
    reward = task.reward(hulls, lengths, ids)
    assert reward.total.tolist() == [1.75] * 500
    metrics = task.corpus_metrics(hulls, lengths, ids)
    assert metrics == {
        "accuracy": 100, "area": 100, "simple": 100, "valid": 1, "edge_f1": 1, "coverage": 1, "truncated": 0
    }  # fmt: skip


def test_the_reward_is_the_weighted_sum_of_the_chosen_components(task):
    ids = np.arange(400)
    sequences, lengths = random_sequences(task, ids)
    full = task.reward(sequences, lengths, ids)
    assert full.total == pytest.approx(sum(ALL[name] * part for name, part in full.components.items()))
    for name, part in full.components.items():
        assert 0 <= part.min() < part.max() == 1
        single = ConvexHullTask(reward={name: 2}).reward(sequences, lengths, ids)
        assert list(single.components) == [name]
        assert (single.components[name] == part).all() and (single.total == 2 * part).all()
    default = ConvexHullTask().reward(sequences, lengths, ids)
    assert (default.total == full.components["valid"]).all() and list(default.components) == ["valid"]


def test_nothing_beyond_the_length_counts(task):
    ids = np.arange(300)
    sequences, lengths = random_sequences(task, ids)
    beyond = np.arange(sequences.shape[1]) >= lengths[:, None]
    garbage = np.where(beyond, np.random.default_rng(1).integers(0, 11, sequences.shape), sequences)
    assert (garbage != np.where(beyond, END, sequences)).any()
    for result in (task.reward, task.instance_metrics):
        a, b = result(sequences, lengths, ids), result(garbage, lengths, ids)
        a, b = (getattr(value, "components", value) for value in (a, b))
        assert all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)
    clean = np.where(beyond, END, sequences)
    np.testing.assert_equal(task.corpus_metrics(garbage, lengths, ids), task.corpus_metrics(clean, lengths, ids))


def test_instance_metrics_are_the_terms_of_the_corpus_metrics(task):
    ids = np.arange(400)
    sequences, lengths = random_sequences(task, ids)
    each, whole = task.instance_metrics(sequences, lengths, ids), task.corpus_metrics(sequences, lengths, ids)
    assert each["accuracy"].dtype == np.bool_
    assert whole["accuracy"] == pytest.approx(100 * each["accuracy"].mean())
    assert whole["valid"] == pytest.approx(each["accuracy"].mean())
    assert whole["edge_f1"] == pytest.approx(each["edge_f1"].mean())
    assert whole["coverage"] == pytest.approx(each["coverage"].mean())
    assert each["simple"].dtype == np.bool_
    assert whole["simple"] == pytest.approx(100 * each["simple"].mean())
    assert (np.isnan(each["area"]) == ~each["simple"]).all()


def test_area_is_the_mean_of_its_terms(task):
    ids = np.arange(200)
    hulls, lengths = task.references(ids)
    hulls[:1, :3] = [1, 2, END]
    lengths[:1] = 3
    triangles = lengths > 4
    hulls[triangles, 3], lengths[triangles] = END, 4
    each, whole = task.instance_metrics(hulls, lengths, ids), task.corpus_metrics(hulls, lengths, ids)
    assert whole["area"] == pytest.approx(100 * np.nanmean(each["area"])) and whole["area"] < 99


@pytest.mark.parametrize(("spoilt", "fails"), [(0, False), (2, False), (3, True)])
def test_area_fails_when_more_than_one_percent_are_not_simple(task, spoilt, fails):
    ids = np.arange(200)
    hulls, lengths = task.references(ids)
    hulls[:spoilt, :3] = [1, 2, END]
    lengths[:spoilt] = 3
    metrics = task.corpus_metrics(hulls, lengths, ids)
    assert metrics["simple"] == pytest.approx(100 - spoilt / 2)
    assert math.isnan(metrics["area"]) if fails else metrics["area"] == 100
    assert metrics["coverage"] == pytest.approx(1 - spoilt / 200)


def test_area_is_taken_over_simple_polygons_alone(tmp_path):
    path = tmp_path / "test.txt"
    path.write_text("0 0 1 0 1 1 0 1\n" * 100)
    task = ConvexHullTask(test_file=str(path))
    sequences = np.tile([1, 2, 3, 4, END], (100, 1))
    sequences[0] = [1, 2, 3, END, END]
    sequences[1] = [1, 3, 2, 4, END]
    metrics = task.corpus_metrics(sequences, np.array([4] + [5] * 99), task.instances("test").ids())
    assert metrics["area"] == pytest.approx(100 * 98.5 / 99)
    assert metrics["accuracy"] == 98 and metrics["simple"] == 99


def test_a_sequence_cut_off_is_worth_what_is_there_and_is_counted(task):
    ids = np.arange(50)
    hulls, lengths = task.references(ids)
    cut = lengths - (ids % 2 == 0)
    assert (task.reward(hulls, cut, ids).total == 1.75).all()
    metrics = task.corpus_metrics(hulls, cut, ids)
    assert metrics["truncated"] == 0.5 and metrics["accuracy"] == 100


def test_files_replace_splits(tmp_path):
    text = tmp_path / "train.txt"
    text.write_text("0 0 1 0 0.5 0.5 0 1 output 1 2 4 1\n0 0 1 1 0 1\n")
    np.save(tmp_path / "test.npy", np.random.default_rng(0).random((3, 12, 2)))
    task = ConvexHullTask(train_file=str(text), test_file=str(tmp_path / "test.npy"))
    assert [task.instances(split).size for split in SPLITS] == [2, 4000, 3]
    assert task.sources["points"].largest == (12, 2)
    ids = task.instances("train").ids()
    hulls, lengths = task.references(ids)
    assert hulls.tolist() == [[1, 2, 4, END], [1, 2, 3, END]] and lengths.tolist() == [4, 4]
    assert only(task.source(task.instances("test").ids()))[1].tolist() == [12, 12, 12]
    with pytest.raises(ValueError, match="instance 2 belongs to no split"):
        task.source(np.array([2]))


def test_problems_of_all_files_are_raised_together(tmp_path):
    (tmp_path / "bad.txt").write_text("0.5 2\n0.5\n")
    task = ConvexHullTask(train_file=str(tmp_path / "bad.txt"), test_file=str(tmp_path / "missing.npy"))
    assert task.instances("validation").size == 4000  # a file is read when its split is asked for
    with pytest.raises(ValueError, match=r"bad\.txt: line 1"):
        task.instances("train")
    with pytest.raises(ValueError) as caught:
        task.prepare()
    message = str(caught.value)
    assert "bad.txt: line 1" in message and "bad.txt: line 2" in message and "missing.npy: no such file" in message


def test_problems_of_all_arguments_are_raised_together():
    with pytest.raises(ValueError) as caught:
        ConvexHullTask(
            min_points=0, test_points=(9, 3), test_size=0, seed=-1, reward={"vlid": 1.0, "coverage": math.nan}
        )
    message = str(caught.value)
    for part in (
        "min_points is 0", "test_points is (9, 3)", "test_size is 0", "seed is -1",
        "no component 'vlid'; did you mean 'valid'?", "weight of 'coverage' is nan",
    ):  # fmt: skip
        assert part in message
    assert len(message.split("\n")) == 6


@pytest.mark.parametrize("reward", [{}, {"valid": 0.0}])
def test_a_reward_without_weight_is_refused(reward):
    with pytest.raises(ValueError, match="at least one component a weight above 0"):
        ConvexHullTask(reward=reward)


def test_the_signature_names_the_reward_and_not_the_data():
    same = [ConvexHullTask(), ConvexHullTask(reward={"valid": 1}), ConvexHullTask(test_points=(50, 50), seed=3)]
    other = [ConvexHullTask(reward=ALL), ConvexHullTask(reward={"valid": 2}), ConvexHullTask(reward={"coverage": 1})]
    assert len({task.signature for task in same}) == 1
    assert len({task.signature for task in [same[0], *other]}) == 4
    reordered = ConvexHullTask(reward=dict(reversed(ALL.items())))
    assert reordered.signature == other[0].signature


def test_rendering(tmp_path):
    path = tmp_path / "sets.txt"
    path.write_text("0 0 1 0 0.5 0.5 0 1\n")
    shown = ConvexHullTask(train_file=str(path)).render(0, np.array([2, 4, 9, END]))
    assert shown.source == "p1(0.000,0.000) p2(1.000,0.000) p3(0.500,0.500) p4(0.000,1.000)"
    assert shown.reference == "p1 p2 p4 END" and shown.output == "p2 p4 ?9 END"
    assert shown.drawing.points.tolist() == [[0, 0], [1, 0], [0.5, 0.5], [0, 1]]
    assert shown.drawing.polygon == (1, 3) and shown.drawing.reference == (0, 1, 3)
    assert shown.input_labels == ("p1", "p2", "p3", "p4") and shown.output_labels == ("p2", "p4", "?9", "END")


def test_text_in_and_out(task):
    points, counts = only(task.parse_sources(["0 0 1 0 0 1 output 1 2 3 1", "0.5 0.5"]))
    assert points.shape == (2, 3, 2) and counts.tolist() == [3, 1]
    sequences = np.array([[1, 2, 3, 0], [1, 2, 3, 4], [0, 1, 2, 3]])
    assert task.format_outputs(sequences, np.array([4, 2, 1])) == ["1 2 3 1", "1 2 1", ""]
    with pytest.raises(ValueError, match="line 2: 'x' is not a number"):
        task.parse_sources(["0 0", "x 0"])


def test_outputs_written_are_read_back_as_the_labels_of_a_file(task, tmp_path):
    ids = task.instances("test").ids(0, 50)
    points, counts = only(task.source(ids))
    outputs = task.format_outputs(*task.references(ids))
    lines = [
        " ".join(map(repr, points[row, : counts[row]].ravel().tolist())) + f" output {outputs[row]}"
        for row in range(50)
    ]
    (tmp_path / "test.txt").write_text("\n".join(lines))
    again = ConvexHullTask(test_file=str(tmp_path / "test.txt"))
    assert (only(again.source(again.instances("test").ids()))[0] == points).all()
    assert again.format_outputs(*again.references(again.instances("test").ids())) == outputs


def test_rl_has_the_instances_of_training_unless_it_is_given_others(tmp_path):
    assert ConvexHullTask().rl_instances() == ConvexHullTask().instances("train")
    few = ConvexHullTask(train_size=50, rl_generated=True)
    assert few.instances("train").size == 50 and few.instances("train").labelled
    others = few.rl_instances()
    assert others.size is None and not others.labelled
    sets = {only(few.source(split.ids(0, 50)))[0].tobytes() for split in (others, few.instances("train"))}
    assert len(sets) == 2
    (tmp_path / "points.txt").write_text("0.1 0.1 0.9 0.2 0.5 0.8\n")
    named = ConvexHullTask(rl_file=str(tmp_path / "points.txt"))
    assert named.rl_instances().size == 1
    ids = named.rl_instances().ids()
    assert named.reward(np.array([[1, 2, 3, 0]]), np.array([4]), ids).total.tolist() == [1.0]


def test_the_first_sets_of_a_file_may_be_enough(tmp_path):
    (tmp_path / "points.txt").write_text("0 0 1 0 0 1\n0 0 1 0 1 1 0 1\n0.5 0 1 0 0 1\n")
    whole, first = (ConvexHullTask(train_file=str(tmp_path / "points.txt"), train_size=size) for size in (None, 2))
    assert (whole.instances("train").size, first.instances("train").size) == (3, 2)
    ids = first.instances("train").ids()
    for ours, theirs in zip(only(first.source(ids)), only(whole.source(ids)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_ids_of_rl_are_refused_if_it_has_no_instances_of_its_own(task):
    with pytest.raises(ValueError, match="belongs to no split"):
        task.source(np.array([1 << 42]))
