"""Sums of rewards: a task's own by name, and the user's by import path."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from rlseq_envs.rewards.mixture import Mixture
from rlseq_envs.rewards.own import OwnReward
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from rlseq_envs.tasks.translation import TranslationTask

FUNCTIONS = """
import numpy as np

from rlseq_envs.task import Reward


def size(hypotheses, references, ids):
    return [len(text) for text in hypotheses]


def parts(hypotheses, references, ids):
    best = np.array([max(map(len, others)) for others in references])
    return Reward(best + ids, {"best": best, "ids": ids})


def nan(hypotheses, references, ids):
    return np.where(np.arange(len(ids)) == 1, np.nan, 0.5)


def short(hypotheses, references, ids):
    return np.zeros(len(ids) - 1)


def few_arguments(hypotheses):
    return np.zeros(len(hypotheses))


def vertices(points, counts, sequences, lengths, ids):
    assert points.dtype == np.float64 and points.shape == (len(ids), counts.max(), 2)
    return (sequences > 0).sum(axis=1) / counts
"""
TEXTS = (["a", "bbb"], [("a", "aa"), ("b",)], np.array([0, 1]))
KNOWN = ("one", "two", "three")
VALUES = {"one": np.array([1.0, 2.0]), "two": np.array([0.5, 0.25]), "three": np.array([9.0, 9.0])}
SMALL: dict[str, Any] = {"cldr_sizes": (60, 8, 8), "units": "character"}
numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of rewards that no other test has imported: ``module("name")`` is the path of a function."""
    name = f"summed{next(numbers)}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda function: f"{name}:{function}"


def test_a_mixture_is_the_weighted_sum_and_names_its_parts(module):
    weights = {"two": 4.0, module("parts"): 0.5, "one": 0, module("size"): 1}
    mixture = Mixture(weights, KNOWN, 20.0, "my_")
    assert mixture.names == ("one", "two")
    reward = mixture.reward(VALUES, TEXTS)
    assert reward.total.tolist() == [4 * 0.5 + 0.5 * 2 + 1, 4 * 0.25 + 0.5 * 2 + 3]
    assert {name: values.tolist() for name, values in reward.components.items()} == {
        "my_one": [1, 2],
        "my_two": [0.5, 0.25],
        "parts": [2, 2],
        "parts_best": [2, 1],
        "parts_ids": [0, 1],
        "size": [1, 3],
    }


def test_the_signature_of_a_mixture_names_weights_and_sources(module):
    described = {name: name.upper() for name in KNOWN}
    mixture = Mixture({module("size"): 0.5, "three": 2, "one": 1}, KNOWN, 20.0)
    assert mixture.signature(described) == f"1*ONE+2*THREE+0.5*{OwnReward(module('size'), 20.0).signature}"


def test_every_problem_of_a_mixture_is_told(module):
    with pytest.raises(ValueError) as caught:
        Mixture({"tow": 1, "one": -1, "two": float("nan"), "a.b": 1, "a b:c": 1}, KNOWN, 0)
    assert str(caught.value).splitlines() == [
        "reward has no component 'tow'; did you mean 'two'?",
        "reward weight of 'one' is -1; give a finite number, 0 or more",
        "reward weight of 'two' is nan; give a finite number, 0 or more",
        "reward has no component 'a.b'; choose from one, two, three",
        "reward has no component 'a b:c'; choose from one, two, three",
        "reward_timeout is 0; give a number of seconds above 0",
    ]
    with pytest.raises(ValueError, match=r"no module 'no1'(.|\n)*no module 'no2'"):
        Mixture({"no1:f": 1, "no2:g": 1}, KNOWN, 1.0).find()
    with pytest.raises(ValueError, match=r"^reward '.*:size' would be logged as 'size' is"):
        Mixture({module("size"): 1}, ("size",), 1.0)


def test_all_functions_are_tried_at_the_start(module):
    mixture = Mixture({module("nan"): 1, module("size"): 1, module("short"): 1}, KNOWN, 20.0)
    with pytest.raises(ValueError, match=r":nan gave nan(.|\n)*:short gave an array of shape"):
        mixture.check(TEXTS)


# ------------------------------------------------------------------------------------------------------------- tasks
def test_translation_sums_its_rewards_and_the_users(module):
    weights = {"bleu": 0.5, "neg_ter": 2.0, module("size"): 0.25}
    task = TranslationTask(**SMALL, reward=weights)
    task.prepare()
    ids = task.instances("validation").ids()
    sequences, lengths = task.references(ids)
    reward = task.reward(sequences[::-1], lengths[::-1], ids)
    assert list(reward.components) == ["sentence_bleu", "sentence_neg_ter", "size"]
    singles = [
        TranslationTask(**SMALL, reward={name: 1.0}).reward(sequences[::-1], lengths[::-1], ids) for name in weights
    ]
    expected = sum(weight * single.total for weight, single in zip(weights.values(), singles, strict=True))
    np.testing.assert_allclose(reward.total, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(reward.components["size"], [*map(len, task.format_outputs(sequences, lengths))][::-1])


def test_hulls_give_the_users_functions_points_and_sequences(module):
    task = ConvexHullTask(reward={"valid": 1.0, module("vertices"): 0.5})
    task.prepare()
    ids = task.instances("test").ids(0, 5)
    reward = task.reward(*task.references(ids), ids)
    share = (task.references(ids)[1] - 1) / task.sizes(ids)
    np.testing.assert_allclose(reward.total, 1 + 0.5 * share)
    assert list(reward.components) == ["valid", "vertices"]
    assert task.signature != ConvexHullTask(reward={"valid": 1.0}).signature


@pytest.mark.parametrize(
    "make", [lambda reward: ConvexHullTask(reward=reward), lambda reward: TranslationTask(**SMALL, reward=reward)]
)
def test_a_task_tries_the_users_functions_when_it_is_prepared(module, make):
    with pytest.raises(ValueError, match=r"task\.reward: summed\d+:few_arguments raised TypeError"):
        make({module("few_arguments"): 1.0}).prepare()


def test_every_option_of_translation_changes_its_signature():
    def signature(**settings):
        return TranslationTask(**SMALL, **settings).signature

    chrf, repetition = {"chrf": 1.0}, {"bleu": 1.0, "neg_repetition": 1.0}
    signatures = [
        signature(),
        signature(reward={"bleu": 2.0}),
        signature(reward=chrf),
        signature(reward=repetition),
        *(signature(reward=chrf, **{key: 3}) for key in ("chrf_char_order", "chrf_word_order", "chrf_beta")),
        signature(reward=repetition, repetition_order=3),
        signature(reward={"gleu": 1.0}),
        signature(reward={"gleu": 1.0}, reward_tokenizer="intl"),
    ]
    assert len(set(signatures)) == len(signatures)
    assert signature(reward={"bleu": 1.0}, reward_timeout=3.0) == signatures[0]
    assert (
        "|reward:sentence_bleu/100|case:mixed|eff:yes|tok:13a|smooth:exp|" in signatures[0]
    )  # since the first version


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward": {"blue": 1.0}}, "no component 'blue'; did you mean 'bleu'"),
        ({"reward": {}}, "give at least one component a weight above 0"),
        ({"chrf_word_order": 2}, "chrf_word_order is 2, but reward has no chrf: add it"),
        ({"reward": {"chrf": 1.0}, "smoothing": "floor"}, "smoothing is floor, but reward has no bleu"),
        ({"reward": {"chrf": 1.0}, "chrf_char_order": 0}, "chrf_char_order is 0; give a whole number above 0"),
    ],
)
def test_rewards_of_translation_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TranslationTask(**SMALL, **settings)
