"""Rewards of the user's own, and sums of them with those of a task; every way in which a function can fail."""

from __future__ import annotations

import gc
import itertools
import os
import pickle

import numpy as np
import pytest

from rlseq_envs.convex_hull import ConvexHullTask
from rlseq_envs.rewards import own
from rlseq_envs.rewards.mixture import Mixture
from rlseq_envs.rewards.own import OwnReward, RewardError
from rlseq_envs.translation import TranslationTask

FUNCTIONS = """
import os
import re
import sys
import time

import numpy as np

from rlseq_envs.task import Reward

LIMIT = 3
calls = 0


def size(hypotheses, references, ids):
    return [len(text) for text in hypotheses]


def parts(hypotheses, references, ids):
    best = np.array([max(map(len, others)) for others in references])
    return Reward(best + ids, {"best": best, "ids": ids})


def batch_size(hypotheses, references, ids):
    return np.full(len(ids), len(ids))


def vertices(points, counts, sequences, lengths, ids):
    assert points.dtype == np.float64 and points.shape == (len(ids), counts.max(), 2)
    return (sequences > 0).sum(axis=1) / counts


def process(hypotheses, references, ids):
    return np.full(len(ids), os.getpid())


def raises(hypotheses, references, ids):
    return [1 / 0 for _ in ids]


def raises_in_numpy(hypotheses, references, ids):
    return np.concatenate([])


def nan(hypotheses, references, ids):
    return np.where(np.arange(len(ids)) == 1, np.nan, 0.5)


def infinite(hypotheses, references, ids):
    return np.full(len(ids), np.inf)


def short(hypotheses, references, ids):
    return np.zeros(len(ids) - 1)


def square(hypotheses, references, ids):
    return np.zeros((len(ids), 2))


def number(hypotheses, references, ids):
    return 0.5


def nothing(hypotheses, references, ids):
    pass


def texts(hypotheses, references, ids):
    return hypotheses


def ragged(hypotheses, references, ids):
    return [[0] * i for i in range(len(ids))]


def sleeps(hypotheses, references, ids):
    return [time.sleep(1000) for _ in ids]


def holds_the_lock(hypotheses, references, ids):
    return [bool(re.match("(a+)+$", "a" * 200 + "b")) for _ in ids]


def ends(hypotheses, references, ids):
    os._exit(7)


def exits(hypotheses, references, ids):
    sys.exit("no")


def crashes(hypotheses, references, ids):
    os.kill(os.getpid(), 11)


def random(hypotheses, references, ids):
    return np.random.random(len(ids))


def counts_calls(hypotheses, references, ids):
    global calls
    calls += 1
    return np.full(len(ids), calls)


def by_place(hypotheses, references, ids):
    return np.arange(len(ids))


def sometimes_parts(hypotheses, references, ids):
    return Reward(np.zeros(len(ids)), {"a": np.zeros(len(ids))} if ids[0] == 0 else {})


def few_arguments(hypotheses):
    return np.zeros(len(hypotheses))


def prints(hypotheses, references, ids):
    print("said")
    return np.zeros(len(ids))
"""
TEXTS = (["a", "bbb"], [("a", "aa"), ("b",)], np.array([0, 1]))
numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of rewards that no other test has imported: ``module("name")`` is the path of a function."""
    name = f"mine{next(numbers)}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda function: f"{name}:{function}"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text, suffix=".py"):
        name = f"mine{next(numbers)}"
        (tmp_path / f"{name}{suffix}").write_text(text)
        return name, tmp_path / f"{name}{suffix}"

    return write


def fault(path, timeout=20.0):
    with pytest.raises(RewardError) as caught:
        OwnReward(path, timeout).check(*TEXTS)
    message = str(caught.value)
    assert message.startswith(f"task.reward: {path} ") and "\n" not in message
    return message.removeprefix(f"task.reward: {path} ")


def test_numbers_of_any_kind_become_a_reward(module):
    found = OwnReward(module("size"), 20.0)(*TEXTS)
    assert found.keys() == {""} and found[""].dtype == np.float64 and found[""].tolist() == [1, 3]


def test_a_reward_may_have_parts(module):
    found = OwnReward(module("parts"), 20.0)(*TEXTS)
    assert {name: values.tolist() for name, values in found.items()} == {"": [2, 2], "best": [2, 1], "ids": [0, 1]}


def test_large_batches_are_cut_and_empty_ones_are_empty(module, monkeypatch):
    monkeypatch.setattr(own, "CALL_ROWS", 4)
    reward = OwnReward(module("batch_size"), 20.0)
    rows = ["a"] * 10, [("a",)] * 10, np.arange(10)
    assert reward(*rows)[""].tolist() == [4] * 8 + [2] * 2
    assert reward([], [], np.arange(0))[""].shape == (0,)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", r"raised ZeroDivisionError: division by zero (MODULE.py, line"),
        ("raises_in_numpy", "raised ValueError: need at least one array to concatenate (MODULE.py, line"),
        ("nan", "gave nan for sequence 1 of 2: give finite numbers"),
        ("infinite", "gave inf for sequence 0 of 2: give finite numbers"),
        ("short", "gave an array of shape (1,) for 2 sequences: give one number a sequence"),
        ("square", "gave an array of shape (2, 2) for 2 sequences"),
        ("number", "gave an array of shape () for 2 sequences"),
        ("nothing", "gave NoneType of type object: give an array of numbers"),
        ("texts", "gave list of type <U3: give an array of numbers"),
        ("ragged", "gave list, which is no array: ValueError"),
        ("ends", "ended its process (exit code 7)"),
        ("exits", "ended its process (exit code 1)"),
        ("crashes", "ended its process (signal SIGSEGV)"),
        ("random", "must follow from its own row alone, and be the same each time"),
        ("counts_calls", "gave [1.0, 1.0] and then, in another order, [2.0, 2.0] for the same sequences"),
        ("by_place", "gave [0.0, 1.0] and then, in another order, [1.0, 0.0] for the same sequences"),
        ("few_arguments", "raised TypeError: few_arguments() takes 1 positional argument but 3 were given"),
        ("LIMIT", "is no function but int: it cannot be called"),
        ("siez", "does not exist: module 'MODULE' has no 'siez'"),
    ],
)
def test_what_is_no_reward_is_named_with_the_reason(module, function, message):
    path = module(function)
    name = path.split(":")[0]
    assert message.replace("MODULE", name) in fault(path)


@pytest.mark.parametrize("function", ["sleeps", "holds_the_lock"])
def test_one_that_hangs_is_stopped(module, function):
    reward = OwnReward(module(function), 60.0)
    reward([], [], np.arange(0))  # its process has started, which may take longer than what follows
    pid = reward._process._process.pid
    reward.timeout = 2.0
    with pytest.raises(RewardError, match=r"hangs: a call took more than reward_timeout 2 seconds"):
        reward(*TEXTS)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_module_that_hangs_while_it_is_imported_is_named(write):
    name, _ = write("import time\ntime.sleep(1000)\n")
    assert fault(f"{name}:f", 3.0) == "hangs: its import took more than reward_timeout 3 seconds"


def test_a_module_that_cannot_be_imported_is_named_with_the_reason(write):
    name, file = write("import nowhere_at_all\n")
    message = (
        f"cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all' ({file.name}, line 1, in <module>)"
    )
    assert fault(f"{name}:f") == message
    name, file = write("def f(:\n")
    assert fault(f"{name}:f").startswith("cannot be imported: SyntaxError")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere_at_all:f", "no module 'nowhere_at_all' in the working directory or on PYTHONPATH"),
        ("nowhere_at_all.inner:f", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("sys:exit", "no module 'sys'"),
    ],
)
def test_a_module_that_is_not_there_is_told_before_anything_runs(path, reason):
    with pytest.raises(RewardError, match=f"task.reward: {path} cannot be imported: {reason}"):
        OwnReward(path, 1.0)


def test_after_a_fault_the_next_call_starts_anew(module):
    reward = OwnReward(module("nan"), 20.0)
    with pytest.raises(RewardError, match="gave nan"):
        reward(*TEXTS)
    assert reward(*(column[:1] for column in TEXTS))[""].tolist() == [0.5]


def test_parts_that_come_and_go_are_refused(module, monkeypatch):
    monkeypatch.setattr(own, "CALL_ROWS", 1)
    with pytest.raises(RewardError, match="gave other components for some sequences"):
        OwnReward(module("sometimes_parts"), 20.0)(*TEXTS)


def test_what_it_prints_goes_to_standard_error(module, capfd):
    OwnReward(module("prints"), 20.0)(*TEXTS)
    gc.collect()
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "said\n")


def test_its_process_ends_with_it_and_stays_behind_when_it_is_pickled(module):
    reward = OwnReward(module("process"), 20.0)
    pid = int(reward(*TEXTS)[""][0])
    copy = pickle.loads(pickle.dumps(reward))
    assert copy.signature == reward.signature and int(copy(*TEXTS)[""][0]) not in (pid, os.getpid())
    os.kill(pid, 0)
    del reward
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# --------------------------------------------------------------------------------------------------------- signature
def test_the_signature_follows_the_source_or_the_version_it_gives_itself(write):
    name, file = write("def f(): pass\n")
    signatures = [OwnReward(f"{name}:f", 1.0).signature, OwnReward(f"{name}:g", 1.0).signature]
    for text in ("def f(): return 1\n", "__version__ = '1'\ndef f(): pass\n", "__version__ = '2'\ndef f(): pass\n"):
        file.write_text(text)
        signatures.append(OwnReward(f"{name}:f", 1.0).signature)
    assert len(set(signatures)) == 5 and signatures[-1] == f"{name}:f@version:2"
    file.write_text("__version__ = '2'\ndef f(): mended\n")
    assert OwnReward(f"{name}:f", 1.0).signature == signatures[-1]


# ----------------------------------------------------------------------------------------------------------- mixture
KNOWN = ("one", "two", "three")
VALUES = {"one": np.array([1.0, 2.0]), "two": np.array([0.5, 0.25]), "three": np.array([9.0, 9.0])}


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
        Mixture({"no1:f": 1, "no2:f": 1}, KNOWN, 1.0)
    with pytest.raises(ValueError, match=r"^reward '.*:size' would be logged as 'size' is"):
        Mixture({module("size"): 1}, ("size",), 1.0)


def test_all_functions_are_tried_at_the_start(module):
    mixture = Mixture({module("nan"): 1, module("size"): 1, module("short"): 1}, KNOWN, 20.0)
    with pytest.raises(ValueError, match=r":nan gave nan(.|\n)*:short gave an array of shape"):
        mixture.check(TEXTS)


# ------------------------------------------------------------------------------------------------------------- tasks
SMALL = {"cldr_sizes": (60, 8, 8), "units": "character"}


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
    share = (task.references(ids)[1] - 1) / task.source(ids)[1]
    np.testing.assert_allclose(reward.total, 1 + 0.5 * share)
    assert list(reward.components) == ["valid", "vertices"]
    assert task.signature != ConvexHullTask(reward={"valid": 1.0}).signature


@pytest.mark.parametrize(
    "make", [lambda reward: ConvexHullTask(reward=reward), lambda reward: TranslationTask(**SMALL, reward=reward)]
)
def test_a_task_tries_the_users_functions_when_it_is_prepared(module, make):
    with pytest.raises(ValueError, match=r"task\.reward: mine\d+:few_arguments raised TypeError"):
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
        ({"reward": {}}, "no positive weight; give for example {bleu: 1.0}"),
        ({"chrf_word_order": 2}, "chrf_word_order is 2, but reward has no chrf: add it"),
        ({"reward": {"chrf": 1.0}, "smoothing": "floor"}, "smoothing is 'floor', but reward has no bleu"),
        ({"reward": {"chrf": 1.0}, "chrf_char_order": 0}, "chrf_char_order must be at least 1"),
    ],
)
def test_rewards_of_translation_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        TranslationTask(**SMALL, **settings)
