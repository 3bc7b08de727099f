"""What sequences have come to after each token: against sacrebleu, and prefix by prefix through the reward."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq_envs import task as interface
from rlseq_envs.env import SequenceVectorEnv, score_sequences
from rlseq_envs.task import END, SequenceTask
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from rlseq_envs.tasks.translation import TranslationTask
from tests.envs.test_convex_hull import random_sequences
from tests.envs.test_env import CopyTask
from tests.envs.test_translation import drafts, files, task

__all__ = ["files", "task"]  # fixtures

OWN = '''"""Rewards of my own."""

import numpy as np


def vowels(hypotheses, references, ids):
    return [sum(letter in "aeiou" for letter in text) / 64 for text in hypotheses]


def named(points, counts, sequences, lengths, ids):
    live = np.arange(sequences.shape[1]) < lengths[:, None]
    return (live & (sequences > 0)).sum(axis=1) / 64
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "potentials_of_my_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "potentials_of_my_own"


def prefix_by_prefix(task, sequences, lengths, ids):
    """The default, one call of the reward for each prefix."""
    values = np.zeros(sequences.shape)
    for row, (sequence, length) in enumerate(zip(sequences.tolist(), lengths.tolist(), strict=True)):
        for count in range(1, length + 1):
            closed = sequence[:length] if count == length else [*sequence[:count], END]
            columns = np.array([closed]), np.array([len(closed)]), ids[row : row + 1]
            values[row, count - 1] = task.reward(*columns).total[0]
    return values


def assert_reach_the_reward(task, values, sequences, lengths, ids):
    places = np.arange(values.shape[1])
    increments = np.diff(values, axis=1, prepend=0) * (places < lengths[:, None])
    np.testing.assert_allclose(increments.sum(axis=1), task.reward(sequences, lengths, ids).total, rtol=0, atol=1e-12)
    assert not values[places >= lengths[:, None]].any()


# --------------------------------------------------------------------------------------------------------------- text
@pytest.mark.parametrize("split", ["train", "validation"])
def test_on_text_they_are_sacrebleus_sentence_bleu_of_the_text_so_far(task, split):
    sequences, lengths, ids = drafts(task, split)
    ends = sequences[np.arange(len(ids)), lengths - 1] == END
    assert lengths[-1] == 1 and 5 < ends.sum() < len(ids)  # END at once, and rows cut off without it
    values = task.potentials(sequences, lengths, ids)
    assert_reach_the_reward(task, values, sequences, lengths, ids)
    references = list(zip(*task.text_pairs(sequences, lengths, ids).references, strict=True))
    for row, length in enumerate(lengths):
        counts = np.arange(1, length + 1)
        texts = task.format_outputs(np.repeat(sequences[row : row + 1], length, axis=0), counts)
        expected = [sacrebleu.sentence_bleu(text, list(references[row])).score / 100 for text in texts]
        np.testing.assert_allclose(values[row, :length], expected, rtol=0, atol=1e-11)
    assert 0.05 < np.mean(np.diff(values, axis=1)[:, 1:] != 0) < 0.95


def test_any_mixture_is_handed_out_with_the_users_own_in_a_process_of_its_own(files, own):
    task = TranslationTask(**files, reward={"chrf": 1.0, "neg_ter": 0.5, f"{own}:vowels": 0.25})
    columns = drafts(task, "train")
    values = task.potentials(*columns)
    np.testing.assert_allclose(values, prefix_by_prefix(task, *columns), rtol=0, atol=1e-12)
    assert_reach_the_reward(task, values, *columns)


# -------------------------------------------------------------------------------------------------------------- hulls
def drawn(task, ids, sequence):
    """The share of the hull's edges that the path has drawn, 0 where it has drawn them all or left the hull."""
    points = task.source(ids).fields["points"].values
    hull = task.references(ids)[0][0]
    corners = [tuple(points[0, token - 1]) for token in hull[hull > 0].tolist()]
    count = len(points[0])
    path = [tuple(points[0, token - 1]) if 0 < token <= count else None for token in sequence]
    if len(path) >= len(corners):
        return 0.0
    follows = any(path == (corners[start:] + corners[:start])[: len(path)] for start in range(len(corners)))
    return (len(path) - 1) / len(corners) if follows else 0.0


@pytest.mark.parametrize(
    "reward",
    [{"valid": 1.0}, {"edge_f1": 1.0, "coverage": 0.5}, {"valid": 2.0, "edge_f1": 0.5, "{own}:named": 0.25}],
    ids=str,
)
def test_on_hulls_they_are_the_rewards_so_far_with_a_valid_hull_in_parts(reward, own):
    reward = {name.format(own=own): weight for name, weight in reward.items()}
    task = ConvexHullTask(reward=reward, min_points=3, max_points=6)
    ids = np.repeat(np.arange(40), 2)
    sequences, lengths = random_sequences(task, ids)
    sequences[2], lengths[2] = END, 1
    values = task.potentials(sequences, lengths, ids)
    assert_reach_the_reward(task, values, sequences, lengths, ids)
    expected = prefix_by_prefix(task, sequences, lengths, ids)
    for row, length in enumerate(lengths.tolist()):
        for count in range(1, length):
            share = drawn(task, ids[row : row + 1], sequences[row, :count].tolist())
            expected[row, count - 1] += reward.get("valid", 0.0) * share
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


def test_a_hull_grows_edge_by_edge_and_falls_with_the_first_wrong_vertex():
    task = ConvexHullTask(min_points=8, max_points=8)
    ids = np.arange(1)
    hull, length = (column[0] for column in task.references(ids))
    size = int(length) - 1
    wrong = hull.copy()
    wrong[2] = next(token for token in range(1, 9) if token not in hull)
    turned = np.append(np.roll(hull[:size], 2), END)
    values = task.potentials(np.array([hull, wrong, turned]), np.full(3, length), np.zeros(3, np.int64))
    grown = [place / size for place in range(size - 1)] + [1.0, 1.0]
    np.testing.assert_allclose(values, [grown, [0.0, 1 / size] + [0.0] * (size - 1), grown])


# -------------------------------------------------------------------------------------------------------- the default
class Counting(CopyTask):
    """Notes what is scored."""

    def __init__(self):
        super().__init__()
        self.scored = []

    def reward(self, sequences, lengths, ids):
        rows = zip(ids.tolist(), sequences.tolist(), lengths.tolist(), strict=True)
        self.scored += [(instance, *tokens[:length]) for instance, tokens, length in rows]
        return super().reward(sequences, lengths, ids)


sequences_of_tokens = st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=8)


@settings(deadline=None)
@given(sequences_of_tokens, st.data(), st.integers(1, 5))
def test_each_prefix_of_an_instance_is_scored_once_and_with_few_others(rows, data, together):
    task, sequences = Counting(), np.array(rows)
    ids = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows))))
    is_end = sequences == END
    lengths = np.where(is_end.any(1), is_end.argmax(1) + 1, 5)
    sequences = np.where(np.arange(5) < lengths[:, None], sequences, END)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interface, "_SCORED_TOGETHER", together)
        values = task.potentials(sequences, lengths, ids)
    assert len(task.scored) == len(set(task.scored))
    np.testing.assert_array_equal(values, prefix_by_prefix(CopyTask(), sequences, lengths, ids))


def test_they_come_with_scored_sequences_where_asked_for():
    task = CopyTask()
    sequences, ids = np.array([[1, 2, 0, 3, 3, 3], [0, 1, 1, 1, 1, 1]]), np.array([2, 3])
    assert score_sequences(task, ids, sequences).potentials is None
    result = SequenceVectorEnv(task).rollout(ids, sequences, with_potentials=True)
    assert result.potentials.shape == sequences.shape and result.lengths.tolist() == [3, 1]
    kept = np.where(np.arange(6) < result.lengths[:, None], sequences, END)
    np.testing.assert_array_equal(result.potentials, prefix_by_prefix(task, kept, result.lengths, ids))


def test_a_tasks_own_of_another_shape_are_refused():
    class Wrong(CopyTask):
        def potentials(self, sequences, lengths, ids):
            return SequenceTask.potentials(self, sequences, lengths, ids)[:, :1]

    with pytest.raises(ValueError, match=r"Wrong.potentials gave shape \(1, 1\), not \(1, 3\)"):
        score_sequences(Wrong(), np.array([2]), np.array([[1, 2, 0]]), with_potentials=True)
