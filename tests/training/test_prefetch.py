"""Prefetching changes when work is done, and nothing else."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from rlseq.rllib import learner
from rlseq.training import plain
from rlseq.training.prefetch import DEPTH, prefetched
from tests.rllib.tools import both_phases, config, make_engine, make_plain, requests, without_times


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_results_come_in_order_from_another_thread() -> None:
    with prefetched(lambda item: (item, threading.current_thread().name), range(20)) as made:
        results = list(made)
    assert [item for item, _ in results] == list(range(20))
    assert {name for _, name in results} == {"prefetch_0"} and not threads()


def test_it_runs_ahead_by_a_bounded_number_of_steps() -> None:
    started = [threading.Event() for _ in range(20)]
    with prefetched(lambda item: started[item].set(), range(20)) as made:
        for used in range(20 - DEPTH):
            next(made)
            assert started[used + DEPTH].wait(10)
            assert not any(event.is_set() for event in started[used + DEPTH + 1 :])


def breaks_at_three(item: int) -> int:
    return 1 // (3 - item)


def test_an_exception_is_raised_where_its_result_was_to_be_used_with_its_traceback() -> None:
    used: list[int] = []
    with pytest.raises(ZeroDivisionError) as caught, prefetched(breaks_at_three, range(20)) as made:
        used.extend(made)
    assert used == [0, 0, 1] and not threads()
    assert "breaks_at_three" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_thread_ends_with_the_work_however_it_ends(error: type[BaseException]) -> None:
    made_so_far: list[int] = []
    with pytest.raises(error), prefetched(made_so_far.append, range(1000)) as made:
        next(made)
        assert threads()
        raise error
    assert not threads() and len(made_so_far) <= 1 + DEPTH


@contextmanager
def at_once(make: Callable[[Any], Any], items: Any) -> Iterator[Iterator[Any]]:
    yield map(make, items)


@pytest.mark.parametrize("make", [make_engine, make_plain])
def test_updates_are_equal_to_the_bit_with_and_without(make: Callable[..., Any], monkeypatch: Any) -> None:
    ours = make(config())
    statistics = without_times(both_phases(ours))
    for module in (plain, learner):
        monkeypatch.setattr(module, "prefetched", at_once)
    theirs = make(config())
    assert without_times(both_phases(theirs)) == statistics
    for name, value in ours.get_state().items():
        assert np.array_equal(value, theirs.get_state()[name])


@pytest.mark.parametrize("make", [make_engine, make_plain])
def test_a_fault_while_instances_are_read_ends_the_updates_and_the_thread(make: Callable[..., Any]) -> None:
    engine = make(config())
    task = engine.task if make is make_plain else engine.algorithm.task
    read = task.references
    task.references = lambda ids: read(ids) if ids[0] < 1030 else breaks_at_three(3)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        engine.update(requests("mle", 0, 6))
    assert threading.active_count() == before and not threads()
    task.references = read
    assert len(engine.update(requests("mle", 2, 2))) == 2
