"""Workers that die, hang or fail in the middle of a run, which must end as if nothing had happened, or clearly."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from rlseq.rllib import algorithm, fleet
from rlseq.rllib.engine import RllibEngine
from rlseq.rllib.learner_group import LearnersLost
from rlseq.training.engine import TrainingError
from rlseq.training.rollout import RolloutRequest
from tests.rllib.tools import (
    EVERYTHING,
    assert_equal,
    both_phases,
    broken,
    config,
    ids,
    learner_pids,
    make_engine,
    make_plain,
    requests,
    runner_pids,
)


@pytest.fixture(scope="module")
def runners(ray_cluster: None) -> Iterator[RllibEngine]:
    engine = make_engine(config(2, **EVERYTHING))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def learners(ray_cluster: None) -> Iterator[RllibEngine]:
    engine = make_engine(config(0, 2, **EVERYTHING))
    yield engine
    engine.close()


def wait_for_runners(engine: RllibEngine, count: int) -> None:
    """Until lost ones are back; rollouts are what brings them back."""
    deadline = time.monotonic() + 120
    while engine.algorithm.env_runner_group.num_healthy_remote_env_runners() < count:
        assert time.monotonic() < deadline
        engine.rollout(ids(0), RolloutRequest(1, False, 0), averaged=False)


def run_in_rl(engine: RllibEngine) -> None:
    engine.set_state(make_plain(config(**EVERYTHING)).get_state(), "mle")
    engine.update(requests("mle", 0, 2))
    engine.start_phase("rl")


def plain_run(rl: int) -> dict[str, np.ndarray]:
    plain = make_plain(config(**EVERYTHING))
    both_phases(plain, 2, rl)
    return plain.get_state()


# ------------------------------------------------------------------------------------------------------- runners
def test_a_runner_killed_in_the_middle_of_its_work_changes_nothing(runners: RllibEngine) -> None:
    run_in_rl(runners)
    before = runner_pids(runners)
    killer = threading.Timer(0.1, os.kill, (before[0], signal.SIGKILL))
    killer.start()
    runners.update(requests("rl", 2, 20))
    killer.join()
    assert_equal(runners.get_state(), plain_run(20))
    wait_for_runners(runners, 2)
    assert before[0] not in runner_pids(runners)
    runners.update(requests("rl", 22, 2))  # with the weights that the new runner was sent


def test_all_runners_killed_are_waited_for(runners: RllibEngine) -> None:
    run_in_rl(runners)
    for pid in runner_pids(runners):
        os.kill(pid, signal.SIGKILL)
    runners.update(requests("rl", 2, 2))
    assert_equal(runners.get_state(), plain_run(2))
    wait_for_runners(runners, 2)


def test_a_silent_runner_counts_as_lost(runners: RllibEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_rl(runners)
    runners.update(requests("rl", 2, 1))
    before = runner_pids(runners)
    monkeypatch.setattr(runners.algorithm._fleet, "timeout", 4.0)
    os.kill(before[1], signal.SIGSTOP)
    runners.update(requests("rl", 3, 1))
    monkeypatch.undo()
    assert_equal(runners.get_state(), plain_run(2))
    wait_for_runners(runners, 2)
    assert before[1] not in runner_pids(runners)


def test_runners_that_do_not_come_back_stop_the_run(runners: RllibEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_rl(runners)
    wait_for_runners(runners, 2)
    group = runners.algorithm.env_runner_group
    monkeypatch.setattr(runners.algorithm._fleet, "timeout", 1.0)
    monkeypatch.setattr(group, "probe_unhealthy_env_runners", lambda seconds: time.sleep(seconds) or [])
    for runner in group.healthy_env_runner_ids():
        group._worker_manager.set_actor_state(runner, healthy=False)
    with pytest.raises(TrainingError, match="update 2: no environment runner came back in 1 seconds"):
        runners.update(requests("rl", 2, 1))
    monkeypatch.undo()
    wait_for_runners(runners, 2)


def test_runners_lost_again_and_again_stop_the_run(runners: RllibEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_rl(runners)
    monkeypatch.setattr(runners.algorithm._fleet, "_ask", lambda *arguments: [])
    with pytest.raises(TrainingError, match=f"update 2: environment runners were lost {fleet.ATTEMPTS} times in a row"):
        runners.update(requests("rl", 2, 1))


def test_a_fault_in_the_environment_is_told_at_once(ray_cluster: None) -> None:
    """RLlib would let the runner sleep, end and start again, without end."""
    engine = make_engine(broken(config(1)))
    engine.start_phase("rl")
    try:
        with pytest.raises(TrainingError, match=r"(?s)update 6: an environment runner failed.*no reward today"):
            engine.update(requests("rl", 6, 1))
        assert engine.algorithm.env_runner_group.num_healthy_remote_env_runners() == 1
    finally:
        engine.close()


# ------------------------------------------------------------------------------------------------------ learners
def test_a_learner_killed_in_the_middle_of_its_work_changes_nothing(
    learners: RllibEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learners are built anew from a snapshot some updates back, and those updates are done again."""
    monkeypatch.setattr(algorithm, "SNAPSHOT_EVERY", 3)
    start = make_plain(config(**EVERYTHING)).get_state()
    learners.set_state(start, "mle")
    both_phases(learners, 4, 8)
    uninterrupted = learners.get_state()
    learners.set_state(start, "mle")
    before = learner_pids(learners)
    learners.update(requests("mle", 0, 4))
    learners.start_phase("rl")
    learners.update(requests("rl", 4, 4))
    killer = threading.Timer(0.02, os.kill, (before[1], signal.SIGKILL))
    killer.start()
    statistics = learners.update(requests("rl", 8, 4))
    killer.join()
    learners.get_state()  # notices a death that came too late for the updates
    assert len(statistics) == 4
    assert set(before).isdisjoint(learner_pids(learners))
    assert_equal(learners.get_state(), uninterrupted)


def test_all_learners_dead_never_pass_in_silence(learners: RllibEngine) -> None:
    """RLlib's own update would return an empty list."""
    learners.set_state(make_plain(config(**EVERYTHING)).get_state(), "mle")
    learners.update(requests("mle", 0, 2))
    expected = learners.get_state()
    for pid in learner_pids(learners):
        os.kill(pid, signal.SIGKILL)
    assert_equal(learners.get_state(), expected)
    assert len(learners.update(requests("mle", 2, 2))) == 2


def test_learners_lost_again_and_again_stop_the_run(learners: RllibEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = LearnersLost("gone")

    def lose(*arguments: object) -> None:
        raise lost

    monkeypatch.setattr(learners.algorithm, "_rebuild", lambda error: None)
    monkeypatch.setattr(learners.algorithm, "_do", lose)
    with pytest.raises(TrainingError, match=r"learners were lost 4 times in a row \(gone\)"):
        learners.update(requests("mle", 0, 1))


def test_a_fault_at_a_learner_is_told_with_its_traceback(learners: RllibEngine) -> None:
    """RLlib would take the learner for dead."""
    with pytest.raises(TrainingError, match=r"(?s)learner \d: .*Traceback.*no_such_method"):
        learners.algorithm.learner_group.ask_all("no_such_method")
    assert len(learners.update(requests("mle", 0, 1))) == 1
