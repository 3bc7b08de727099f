"""Rewards of the user's own: what they may give, and every way in which a function can fail."""

from __future__ import annotations

import gc
import itertools
import os
import pickle

import numpy as np
import pytest

from rlseq_envs.rewards import own
from rlseq_envs.rewards.own import OwnReward, RewardError

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
        ("exits", "raised SystemExit: no (MODULE.py, line"),
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
    with pytest.raises(RewardError, match=r"hangs: a call took more than the 2 seconds of task.reward_timeout"):
        reward(*TEXTS)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_module_that_hangs_while_it_is_imported_is_named(write):
    name, _ = write("import time\ntime.sleep(1000)\n")
    assert fault(f"{name}:f", 3.0) == "hangs: its import took more than the 3 seconds of task.reward_timeout"


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
        ("nowhere_at_all.inner:f", "no module 'nowhere_at_all.inner' in the working directory"),
        ("sys:exit", "no module 'sys'"),
    ],
)
def test_a_module_that_is_not_there_is_told_before_anything_runs(path, reason):
    with pytest.raises(RewardError, match=f"task.reward: {path} cannot be imported: {reason}"):
        OwnReward(path, 1.0)(*TEXTS)
    with pytest.raises(RewardError, match="cannot be imported"):
        OwnReward(path, 1.0).signature  # noqa: B018


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


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(module, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    reward = OwnReward(module("size"), 20.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("multiprocessing.connection.Connection.poll", interrupt)
        reward(*TEXTS)
    assert reward(["aaaa"], [("a",)], np.array([0]))[""].tolist() == [4]
