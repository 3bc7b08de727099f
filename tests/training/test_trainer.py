"""The trainer's decisions, against an engine whose quality follows a script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlseq.config.baselines import RunningMeanConfig
from rlseq.objectives.baselines import RunningMean
from rlseq.report.reporter import Reporter
from rlseq.training.checkpoint import CheckpointError, load_checkpoint
from rlseq.training.engine import Tensors, TrainingError, UpdateRequest
from rlseq.training.inspection import inspect_checkpoint
from rlseq.training.run_directory import RunDirectory
from rlseq.training.stopping import GivenUp, Interrupted, catching_signals, giving_up
from rlseq.training.trainer import Trainer
from rlseq_envs.rewards.own import RewardError
from rlseq_envs.task import Ints, Split
from tests.training.scripted import Recorder, ScriptedEngine, ScriptedTask, scripted_config, trainer_of

RATE = 1e-4  # the rl phase's default


def quality(run: RunDirectory, phase: Any, which: Any = "best") -> float:
    return float(load_checkpoint(run.checkpoint(phase, which)).weights["quality"][0])


def trained(path: Path, engine: ScriptedEngine, **sections: Any) -> tuple[Trainer, Recorder]:
    trainer, recorder = trainer_of(scripted_config(**sections), engine, path / "run")
    trainer.train()
    return trainer, recorder


def rises_until(peak: int) -> Any:
    """Quality rises by 1 an update up to ``peak`` updates of the mle phase and falls afterwards; rl changes nothing."""

    def gain(request: UpdateRequest) -> float:
        return 0.0 if request.phase == "rl" else 1.0 if request.phase_update < peak else -1.0

    return gain


def in_rl(gain: Any) -> Any:
    return lambda request: gain(request) if request.phase == "rl" else 0.0


# -------------------------------------------------------------------------------------------------------------- phases
def test_the_best_is_kept_and_rl_starts_from_it_with_a_fresh_optimiser(tmp_path: Path) -> None:
    engine = ScriptedEngine(rises_until(30))
    trainer, recorder = trained(tmp_path, engine, mle={"updates": 60}, rl={"updates": 20})
    assert recorder.scores("mle") == [10, 20, 30, 40, 30, 20, 10]
    assert [event.best for event in recorder.validations[:7]] == [True] * 4 + [False] * 3
    assert quality(trainer.run, "mle") == 40.0 and quality(trainer.run, "mle", "latest") == 10.0
    assert trainer.run.checkpoint("mle", "best").name == "30"
    start = engine.calls.index(("start_phase", "rl", 40.0))
    assert engine.calls[start - 1] == ("set_weights", 40.0) and engine.calls[start + 1] == ("validate", 40.0)
    assert recorder.scores("rl") == [40, 40, 40] and engine.steps == 20
    assert [r.update for r in engine.requests] == list(range(80))  # one x-axis
    assert [r.phase_update for r in engine.requests] == [*range(60), *range(20)]
    assert recorder.finished == 1


def test_further_draws_have_instances_of_their_own_that_follow_from_the_update(tmp_path: Path) -> None:
    """What they cost is counted; the instances of an endless split come once, in whatever draw."""
    engine = ScriptedEngine(lambda request: 0.0)
    update = engine.update
    engine.update = lambda requests: [stats | {"rollout/drawn_ratio": 2.5} for stats in update(requests)]  # type: ignore[method-assign]
    rl = {"updates": 6, "batch_size": 4, "samples": 3, "baseline": "mean", "dynamic_sampling": 2}
    trainer, _ = trained(tmp_path, engine, mle={"updates": 2}, rl=rl)
    of_mle, of_rl = engine.requests[:2], engine.requests[2:]
    assert [request.spare for request in of_mle] == [(), ()]
    draws = [np.stack([request.ids, *request.spare]) for request in of_rl]
    assert {draw.shape for draw in draws} == {(3, 4)}
    assert len(np.unique(draws)) == 6 * 3 * 4
    first = int(draws[0].min())
    for number, request in enumerate(of_rl):
        for further, ids in enumerate(request.spare, 1):
            assert (ids - first).tolist() == list(range(4 * (number + 6 * further), 4 * (number + 6 * further + 1)))
    assert trainer.cost.samples == trainer.cost.reward_calls == 6 * 10 * 3


def test_phases_keep_their_own_learning_rates_and_batch_sizes(tmp_path: Path) -> None:
    schedule = {"warmup": 4, "decay": "linear"}
    engine = ScriptedEngine(lambda request: 0.1)
    trained(
        tmp_path,
        engine,
        mle={"updates": 12, "batch_size": 3, "optimizer": {"learning_rate": 0.8, "schedule": schedule}},
        rl={"updates": 4, "batch_size": 5},
    )
    mle, rl = engine.requests[:12], engine.requests[12:]
    expected = [0.2, 0.4, 0.6, 0.8, *(0.8 * (1 - k / 8) for k in range(8))]
    assert [r.learning_rate for r in mle] == pytest.approx(expected)
    assert {len(r.ids) for r in mle} == {3} and {len(r.ids) for r in rl} == {5}
    assert [r.learning_rate for r in rl] == [RATE] * 4


def test_a_phase_ends_when_patience_does(tmp_path: Path) -> None:
    engine = ScriptedEngine(rises_until(30))
    trainer, recorder = trained(tmp_path, engine, mle={"updates": 200, "patience": 2}, rl={"updates": 0})
    assert recorder.scores("mle") == [10, 20, 30, 40, 30, 20]
    assert recorder.messages == ["no new best for 2 validations: mle ends"]
    assert sum(r.phase == "mle" for r in engine.requests) == 50 and quality(trainer.run, "mle") == 40.0


def test_standing_still_is_no_progress_but_the_newest_of_equals_is_kept(tmp_path: Path) -> None:
    trainer, recorder = trained(tmp_path, ScriptedEngine(lambda r: 0.0), mle={"updates": 90, "patience": 3})
    assert recorder.scores("mle") == [10, 10, 10, 10] and "3 validations" in recorder.messages[0]
    assert trainer.run.checkpoint("mle", "best").name == "30"


def test_the_last_updates_are_validated_too_and_once(tmp_path: Path) -> None:
    _, recorder = trained(tmp_path, ScriptedEngine(lambda r: 1.0), mle={"updates": 25}, rl={"updates": 20})
    assert recorder.scores("mle") == [10, 20, 30, 35]
    assert [event.update for event in recorder.validations] == [0, 10, 20, 25, 25, 35, 45]


def test_phases_of_no_updates(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda r: 1.0)
    trainer, recorder = trained(tmp_path, engine, mle={"updates": 0}, rl={"updates": 10})
    assert recorder.scores("mle") == [10] and recorder.scores("rl") == [10, 20] and quality(trainer.run, "mle") == 10.0
    trainer, recorder = trained(tmp_path / "other", ScriptedEngine(lambda r: 1.0), rl={"updates": 0})
    assert recorder.scores("mle") == [10, 20, 30] and recorder.scores("rl") == []
    assert not list((trainer.run.path / "checkpoints" / "rl").iterdir())


def test_a_metric_that_is_not_a_number_is_never_a_best_after_the_first(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda r: np.nan if r.update == 15 else 1.0)
    trainer, recorder = trained(tmp_path, engine, mle={"updates": 30}, rl={"updates": 0})
    assert [event.best for event in recorder.validations[:4]] == [True, True, False, False]
    assert quality(trainer.run, "mle") == 20.0


# ------------------------------------------------------------------------------------------------------------ collapse
def test_a_collapse_is_noticed_said_and_undone_with_smaller_steps(tmp_path: Path) -> None:
    engine = ScriptedEngine(in_rl(lambda r: 0.5 if r.learning_rate < RATE else -1.0))
    rl = {"updates": 40, "collapse_tolerance": 3.0}
    trainer, recorder = trained(tmp_path, engine, mle={"updates": 10}, rl=rl)
    assert recorder.scores("rl")[:3] == [10.0, 0.0, pytest.approx(14.5)]
    assert recorder.warnings == [
        "accuracy fell from 10.00 to 0.00: back to the best checkpoint (update 10), learning rate × 0.5"
    ]
    assert ("set_state", "rl", 10.0) in engine.calls
    rates = [r.learning_rate for r in engine.requests if r.phase == "rl"]
    assert rates == [RATE] * 10 + [RATE / 2] * 29
    assert quality(trainer.run, "rl") == max(recorder.scores("rl")) > 20.0


class ErrorTask(ScriptedTask):
    """Whose validation score is an error rate."""

    selection_metric = "WER"

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        (score,) = super().corpus_metrics(sequences, lengths, ids).values()
        return {"WER": score}


def test_a_metric_of_which_less_is_better_selects_the_least(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda r: 5.0 if r.phase == "rl" else -0.1 if r.phase_update < 20 else 0.2)
    config = scripted_config(mle={"updates": 30}, rl={"updates": 10, "collapse_tolerance": 3.0, "max_recoveries": 0})
    trainer, recorder = trainer_of(config, engine, tmp_path / "run", ErrorTask())
    trainer.train()
    found = [(event.phase, round(event.metrics["WER"]), event.best) for event in recorder.validations]
    assert found == [
        *[("mle", 10, True), ("mle", 9, True), ("mle", 8, True), ("mle", 10, False)],
        *[("rl", 8, True), ("rl", 58, False)],
    ]
    assert quality(trainer.run, "mle") == quality(trainer.run, "rl") == pytest.approx(8.0)
    assert recorder.warnings == ["WER rose from 8.00 to 58.00: 0 recoveries did not help, rl ends"]
    selected = inspect_checkpoint(trainer.run.checkpoint("mle", "latest"))["selected"]
    assert (selected["metric"], selected["best_value"]) == ("WER", pytest.approx(8.0))


class AveragedEngine(ScriptedEngine):
    """Its moving average lags behind."""

    def get_state(self) -> Tensors:
        return super().get_state() | {"average/quality": np.array([self.quality - 1.0])}


def test_where_weights_are_averaged_rl_starts_and_restarts_from_the_average(tmp_path: Path) -> None:
    engine = AveragedEngine(in_rl(lambda r: -1.0 if r.learning_rate == RATE else 0.0))
    trained(tmp_path, engine, rl={"updates": 30, "collapse_tolerance": 3.0})
    assert [call for call in engine.calls if call[0] in ("set_weights", "set_state")] == [
        ("set_weights", 9.0),
        ("set_state", "rl", 8.0),
    ]


def test_a_dip_within_the_tolerance_is_no_collapse(tmp_path: Path) -> None:
    engine = ScriptedEngine(in_rl(lambda r: -0.25 if r.phase_update < 10 else 0.5))
    _, recorder = trained(tmp_path, engine, rl={"updates": 30, "collapse_tolerance": 3.0})
    assert recorder.warnings == [] and recorder.scores("rl") == [10, 7.5, 12.5, 17.5]


def test_it_gives_up_after_as_many_recoveries_as_allowed_and_keeps_the_best(tmp_path: Path) -> None:
    engine = ScriptedEngine(in_rl(lambda r: -1.0))
    rl = {"updates": 1000, "collapse_tolerance": 3.0, "max_recoveries": 2, "recovery_factor": 0.1}
    trainer, recorder = trained(tmp_path, engine, rl=rl)
    rates = [r.learning_rate for r in engine.requests if r.phase == "rl"]
    assert sorted(set(rates), reverse=True) == pytest.approx([RATE, RATE / 10, RATE / 100])
    assert len(recorder.warnings) == 3 and "2 recoveries did not help, rl ends" in recorder.warnings[-1]
    assert len(rates) < 35 and quality(trainer.run, "rl") == 10.0
    updates = [event.update for event in recorder.validations]
    assert len(updates) == len(set(updates)) + 1  # only where the phases meet is one update validated twice


def test_a_fall_of_the_sampled_reward_brings_the_validation_forward(tmp_path: Path) -> None:
    engine = ScriptedEngine(
        in_rl(lambda r: -1.0 if r.phase_update >= 40 and r.learning_rate == RATE else 0.1),
        reward=lambda r: 0.1 if r.phase_update >= 40 and r.learning_rate == RATE else 0.5,
    )
    rl = {"updates": 120, "validate_every": 1000, "collapse_tolerance": 3.0}
    _, recorder = trained(tmp_path, engine, rl=rl)
    early, undone = recorder.warnings
    assert "sampled reward fell to" in early and "validating early" in early
    assert "back to the best checkpoint" in undone
    noticed = next(event.update for event in recorder.validations if event.phase == "rl" and not event.best) - 20
    assert 40 < noticed <= 55  # within a window and a log line of the fall
    assert recorder.scores("rl")[-1] == pytest.approx(10 + 0.1 * (120 - noticed - 1))


def test_a_suspicion_that_validation_does_not_share_changes_nothing(tmp_path: Path) -> None:
    engine = ScriptedEngine(in_rl(lambda r: 0.1), reward=lambda r: 0.5 if r.phase_update < 40 else 0.1)
    _, recorder = trained(tmp_path, engine, rl={"updates": 80, "collapse_tolerance": 3.0})
    assert recorder.warnings and all("validating early" in warning for warning in recorder.warnings)
    assert engine.steps == 80 and {r.learning_rate for r in engine.requests if r.phase == "rl"} == {RATE}


def test_a_monitor_that_is_to_stop_rl_does_so_where_rl_would_have_gone_back(tmp_path: Path) -> None:
    falls = {"gain": in_rl(lambda r: -1.0 if r.phase_update >= 40 else 0.1)}
    reward = {"reward": lambda r: 0.1 if r.phase_update >= 40 else 0.5}
    rl = {"updates": 120, "validate_every": 1000, "collapse_tolerance": 3.0, "monitors": {"stop": ["collapse"]}}
    trainer, recorder = trained(tmp_path, ScriptedEngine(**falls, **reward), rl=rl)
    assert recorder.messages[-1] == "rl.monitors.stop names collapse: rl ends" and trainer.progress.recoveries == 0
    assert trainer.progress.finished and trainer.progress.phase_update < 60
    assert recorder.validations[-1].update == trainer.progress.update
    flags = [record["monitor/collapse"] for record in trainer.run.read_metrics() if "monitor/collapse" in record]
    assert not any(flags)  # it ended at the update that showed it, before the next log line


def test_a_score_that_is_not_a_number_in_rl_is_a_collapse(tmp_path: Path) -> None:
    engine = ScriptedEngine(in_rl(lambda r: np.nan if r.phase_update == 5 else 0.1))
    trainer, recorder = trained(tmp_path, engine, rl={"updates": 30})
    assert len(recorder.warnings) == 1 and "fell from 10.00 to -inf" in recorder.warnings[0]
    assert quality(trainer.run, "rl") == pytest.approx(10 + 1.9)


def fails_at(*updates: int) -> Any:
    """Raises at these updates, before it changes anything."""

    def gain(request: UpdateRequest) -> float:
        if request.update in updates:
            raise TrainingError(f"update {request.update}: loss is not finite")
        return 0.1

    return gain


def test_a_loss_that_is_not_finite_in_rl_is_recovered_from_and_passed_over(tmp_path: Path) -> None:
    engine = ScriptedEngine(fails_at(33))
    _, recorder = trained(tmp_path, engine, rl={"updates": 30})
    assert len(recorder.warnings) == 1 and "update 33: loss is not finite: back to the best" in recorder.warnings[0]
    assert [r.update for r in engine.requests] == list(range(50))  # tried once
    assert [r.learning_rate for r in engine.requests[33:]] == [RATE, *[RATE / 2] * 16]
    assert recorder.scores("rl")[-1] == pytest.approx(12 + 1.0 + 1.6)


def test_an_update_is_told_the_mean_reward_of_those_before_it_and_a_recovery_forgets_what_came_after(
    tmp_path: Path,
) -> None:
    rewards: dict[int, Any] = {}
    gain = fails_at(33)

    def reward(request: UpdateRequest) -> float:
        return rewards.setdefault(request.update, request.phase_update / 7)

    engine = ScriptedEngine(gain, reward)
    trained(tmp_path, engine, rl={"updates": 20, "baseline": {"type": "running_mean", "decay": 0.5}})
    seen: list[float] = []
    for request in engine.requests[20:]:
        if request.update == 34:
            seen = seen[:10]  # the best checkpoint is that of update 30
        weights = 0.5 ** np.arange(len(seen))[::-1]
        told = RunningMean(RunningMeanConfig(), request.baseline_state).value
        assert told == pytest.approx(np.average(seen, weights=weights) if seen else 0.0)
        seen += [rewards[request.update]] if request.update in rewards else []


def test_losses_that_are_never_finite_end_rl_with_its_start_as_best(tmp_path: Path) -> None:
    trainer, recorder = trained(tmp_path, ScriptedEngine(fails_at(*range(20, 100))), rl={"updates": 30})
    assert len(recorder.warnings) == 4 and "3 recoveries did not help" in recorder.warnings[-1]
    assert quality(trainer.run, "rl") == quality(trainer.run, "mle")


def test_a_loss_that_is_not_finite_in_mle_is_recovered_from_with_the_updates_done_in_one_call_passed_over(
    tmp_path: Path,
) -> None:
    engine = ScriptedEngine(fails_at(13))
    _, recorder = trained(tmp_path, engine, rl={"updates": 0}, mle={"updates": 30})
    assert len(recorder.warnings) == 1 and "update 13: loss is not finite: back to the best" in recorder.warnings[0]
    assert [r.update for r in engine.requests] == [*range(14), *range(15, 30)]
    assert engine.requests[-1].learning_rate == engine.requests[0].learning_rate / 2
    assert recorder.scores("mle") == pytest.approx([10, 11, 11.5, 12.5])


def test_losses_that_are_never_finite_in_mle_end_the_run_with_a_command_that_helps(tmp_path: Path) -> None:
    config, engine = scripted_config(mle={"max_recoveries": 1}), ScriptedEngine(fails_at(*range(11, 40)))
    trainer, recorder = trainer_of(config, engine, tmp_path / "r")
    command = rf"rlseq train --from {tmp_path}/r/checkpoints/mle --phase mle mle\.optimizer\.learning_rate=0\.0001"
    with pytest.raises(TrainingError, match=rf"update 1\d: loss is not finite\. Smaller steps .*: {command}"):
        trainer.train()
    assert recorder.finished == 1 and len(recorder.warnings) == 1 and quality(trainer.run, "mle") == pytest.approx(11.0)
    status = json.loads((trainer.run.path / "report" / "status.json").read_text())
    assert status["state"] == "failed" and status["go_on"] == command.replace("\\", "") and status["saved_update"] == 10


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gains=st.lists(st.integers(-3, 3), min_size=8, max_size=8),
    failures=st.sets(st.integers(20, 60), max_size=3),
    patience=st.sampled_from([None, 1, 2]),
    data=st.data(),
)
def test_whatever_happens_rl_never_ends_below_its_start(
    tmp_path_factory: pytest.TempPathFactory, gains: list[int], failures: set[int], patience: int | None, data: Any
) -> None:
    def gain(request: UpdateRequest) -> float:
        return fails_at(*failures)(request) * gains[request.update // 10 % len(gains)] * 5

    rl = {"updates": 40, "patience": patience, "collapse_tolerance": data.draw(st.sampled_from([1.0, 8.0]))}
    trainer, recorder = trained(tmp_path_factory.mktemp("any"), ScriptedEngine(gain), rl=rl)
    for phase in ("mle", "rl"):
        assert quality(trainer.run, phase) == pytest.approx(max(recorder.scores(phase)), abs=1e-3)
    assert (
        quality(trainer.run, "rl") >= quality(trainer.run, "mle") == pytest.approx(recorder.scores("rl")[0], abs=1e-3)
    )


# --------------------------------------------------------------------------------------------------------------- data
class FiniteTask(ScriptedTask):
    def instances(self, split: Any) -> Split:
        return Split(split, 0, 20)


def test_a_finite_split_is_shuffled_and_every_phase_begins_an_epoch(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda r: 0.1)
    config = scripted_config(mle={"updates": 5, "batch_size": 4}, rl={"updates": 5, "batch_size": 4})
    trainer_of(config, engine, tmp_path / "run", FiniteTask())[0].train()
    for phase in ("mle", "rl"):
        seen = np.concatenate([r.ids for r in engine.requests if r.phase == phase])
        assert np.array_equal(np.sort(seen), np.arange(20)) and not np.array_equal(seen, np.arange(20))


@pytest.mark.parametrize("batch_size", [8, 1024])
def test_every_seed_and_phase_has_instances_of_its_own_in_the_training_split(tmp_path: Path, batch_size: int) -> None:
    seen: list[int] = []
    for seed in (0, 1, 2, 1234, 2047):
        engine = ScriptedEngine(lambda r: 0.1)
        sizes = {"updates": 4, "batch_size": batch_size}
        config = scripted_config(seed=seed, mle=sizes, rl=sizes)
        trainer_of(config, engine, tmp_path / f"{seed}")[0].train()
        seen += np.concatenate([request.ids for request in engine.requests]).tolist()
    assert len(set(seen)) == len(seen) == 5 * 8 * batch_size
    assert max(seen) < 1 << 40 == ScriptedTask().instances("validation").first
    trainer = trainer_of(scripted_config(seed=10**9), ScriptedEngine(lambda r: 0.1), tmp_path / "large")[0]
    trainer.train()
    assert all(request.ids.max() < 1 << 40 for request in trainer.engine.requests)  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------- stopping, forking
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("when", [3, 27])
def test_a_signal_saves_and_stops_after_the_update(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals, when: int
) -> None:
    def gain(request: UpdateRequest) -> float:
        if request.update == when:
            signal.raise_signal(number)
        return 0.25

    engine = ScriptedEngine(gain)
    trainer, recorder = trainer_of(scripted_config(), engine, tmp_path / "run")
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match="stopped at update"):
        trainer.train()
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before
    assert "once more to stop at once" in capfd.readouterr().err and recorder.finished == 1
    saved = trainer.run.latest()
    assert saved is not None and int(saved.name) == len(engine.requests) >= when + 1
    assert float(load_checkpoint(saved).weights["quality"][0]) == engine.quality

    trainer.run.close()
    run = RunDirectory.open(trainer.run.path)
    again = ScriptedEngine(lambda r: 0.25)
    Trainer(run.config, ScriptedTask(), again, run, trainer.reporter).resume()
    assert [r.update for r in engine.requests + again.requests] == list(range(40))
    assert quality(run, "rl") == 20.0


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    def gain(request: UpdateRequest) -> float:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return 0.0

    trainer, _ = trainer_of(scripted_config(), ScriptedEngine(gain), tmp_path / "run")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_fork_takes_the_weights_alone_and_continues_the_axis(tmp_path: Path) -> None:
    source, _ = trained(tmp_path, ScriptedEngine(rises_until(20)), mle={"updates": 30}, rl={"updates": 0})
    checkpoint = load_checkpoint(source.run.checkpoint("mle", "best"))
    engine = ScriptedEngine(lambda r: 0.5)
    engine.quality = -7.0
    trainer, recorder = trainer_of(scripted_config(), engine, tmp_path / "fork")
    trainer.fork(checkpoint, "rl")
    assert engine.calls[:2] == [("set_weights", 30.0), ("start_phase", "rl", 30.0)]
    assert [r.update for r in engine.requests] == list(range(20, 40))
    assert [r.phase_update for r in engine.requests] == list(range(20))
    assert [event.update for event in recorder.validations] == [20, 30, 40] and engine.steps == 20
    assert not list((trainer.run.path / "checkpoints" / "mle").iterdir())


def test_a_fork_of_mle_goes_on_into_rl(tmp_path: Path) -> None:
    source, _ = trained(tmp_path, ScriptedEngine(lambda r: 1.0), mle={"updates": 10}, rl={"updates": 0})
    engine = ScriptedEngine(lambda r: 1.0)
    trainer, _ = trainer_of(scripted_config(rl={"updates": 10}), engine, tmp_path / "fork")
    trainer.fork(load_checkpoint(source.run.checkpoint("mle", "best")), "mle")
    assert [r.update for r in engine.requests] == list(range(10, 40))
    assert [r.phase for r in engine.requests] == ["mle"] * 20 + ["rl"] * 10 and quality(trainer.run, "rl") == 50.0


def test_a_run_that_saved_nothing_cannot_be_resumed(tmp_path: Path) -> None:
    trainer, _ = trainer_of(scripted_config(), ScriptedEngine(lambda r: 0.0), tmp_path / "run")
    with pytest.raises(CheckpointError, match="nothing was saved before it stopped; train it anew"):
        trainer.resume()


# ------------------------------------------------------------------------------------------------------------- rewards
def test_a_reward_that_fails_ends_the_run_with_what_came_before_it_saved(tmp_path: Path) -> None:
    """Smaller steps from the best checkpoint, the answer to a loss that is not finite, would be none to this."""
    failing = True

    def gain(request: UpdateRequest) -> float:
        if failing and request.phase == "rl" and request.phase_update == 7:
            raise RewardError("task.reward: mine:worth gave nan")
        return 0.5

    engine = ScriptedEngine(gain)
    trainer, recorder = trainer_of(scripted_config(mle={"updates": 10}, rl={"updates": 12}), engine, tmp_path / "run")
    with pytest.raises(RewardError, match="mine:worth"):
        trainer.train()
    (told,) = recorder.messages
    assert told == (
        "failed: RewardError: task.reward: mine:worth gave nan; saved at update 17; "
        f"go on with: rlseq train --resume {tmp_path}/run"
    )
    assert recorder.finished == 1
    assert not recorder.warnings and trainer.progress.recoveries == 0
    assert quality(trainer.run, "rl", "latest") == 10 + 17 * 0.5
    trainer.run.close()
    failing, run = False, RunDirectory.open(tmp_path / "run")
    again = Trainer(run.config, ScriptedTask(), engine, run, Reporter([]))
    again.resume()
    assert again.progress.update == 22 and quality(run, "rl", "latest") == 10 + 22 * 0.5


def test_a_second_signal_on_the_command_line_ends_the_process_and_its_children(tmp_path: Path) -> None:
    """Even one that sits in work that nobody can interrupt."""
    program = """
import os, signal, subprocess, threading, time
from rlseq.training import stopping
child = subprocess.Popen(["sleep", "600"])
threading.Thread(target=time.sleep, args=(600,)).start()
stopping.process_is_ours = True
with stopping.catching_signals():
    print(child.pid, flush=True)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 130 and "leaving at once" in ended.stderr
    state, deadline = Path(f"/proc/{int(ended.stdout)}/stat"), time.monotonic() + 60
    while state.exists() and state.read_text().split(")")[1].split()[0] != "Z":
        assert time.monotonic() < deadline, "its child goes on"
        time.sleep(0.1)


def test_a_stop_in_compiled_code_that_hides_it_gives_up_all_the_same() -> None:
    """Ray's waits check for signals, and then give a result: Python makes a SystemError of that."""
    with catching_signals() as asked, pytest.raises(GivenUp), giving_up():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except GivenUp as stop:
            raise SystemError("returned a result with an exception set") from stop
    assert asked.reason == "SIGTERM"
    with catching_signals(), pytest.raises(SystemError, match="another"), giving_up():
        raise SystemError("another")
