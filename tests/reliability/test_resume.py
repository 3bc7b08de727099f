"""Runs that a signal stops, wherever they are, and that go on to the very weights of the run nobody stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from rlseq.config.phases import PHASES, Phase
from rlseq.config.schema import Config
from rlseq.training.plain import PlainEngine
from rlseq.training.run_directory import RunDirectory
from rlseq.training.stopping import Interrupted
from rlseq.training.trainer import Trainer
from tests.small_runs import digest, trained_alone, trainer_in
from tests.support import HULL, SMALL_ATTENTION, SMALL_POINTER, tiny_config

SUITE = "Resume"
HOLDS_WHEN = (
    "a signal at that place ends the training with what was done saved, and the run that goes on has, to the bit, "
    "the weights and the state of the optimiser of a run that nobody stopped"
)

TEXT = {
    "type": "translation",
    "vocabulary_size": 120,
    "cldr_sizes": [24, 4, 4],
    "max_length": 20,
    "max_source_length": 20,
}
METHODS: dict[str, dict[str, Any]] = {
    "greedy": {"baseline": "greedy", "samples": 1},
    "running mean": {"baseline": "running_mean"},
    "critic": {"baseline": "critic", "critic": {"shaped": True, "gae_lambda": 0.9}},
    "ppo": {"baseline": "mean", "objective": {"type": "ppo", "minibatches": 2}},
    "averaged": {"average": 0.5, "kl": 0.1},
    "redrawn": {"baseline": "mean", "dynamic_sampling": 2},
}
PLACES = ("an update", "a reward", "a validation", "saving", "the change of phase", "the end of a phase")
PHASE_OF: dict[str, Phase] = {"a reward": "rl", "the change of phase": "rl", "the end of a phase": "mle"}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Case:
    task: str
    method: str
    place: str
    phase: str
    signal: signal.Signals


def _cases() -> dict[str, Case]:
    """Every method on each task, every place in each phase, every signal: about as often."""
    found: dict[str, Case] = {}
    for number, method in enumerate(METHODS):
        for offset, task in enumerate(("hull", "text")):
            for turn in range(5 - offset):
                place = PLACES[(number + turn + 3 * offset) % len(PLACES)]
                phase = PHASE_OF.get(place, PHASES[(number + turn) % 2])
                case = Case(task, method, place, phase, SIGNALS[(number + turn + offset) % 3])
                found[f"{task}, {method}: {case.signal.name} in {place} of {phase}"] = case
    return found


CASES = _cases()


def settings(task: str, method: str) -> Config:
    common = {"batch_size": 4, "validate_every": 3, "optimizer": {"learning_rate": 0.02}}
    average = {"average": METHODS[method].get("average", 0.0)}
    texts = TEXT | ({"subword_dropout": 0.2} if method in ("greedy", "averaged") else {})
    return tiny_config(
        HULL if task == "hull" else texts,
        SMALL_POINTER if task == "hull" else SMALL_ATTENTION,
        log_every=2,
        mle=common | {"updates": 7} | average,
        rl=common | {"updates": 7, "samples": 2} | METHODS[method],
        evaluation={"max_instances": 4, "samples_shown": 1},
        checkpoint={"every": 4, "keep": 2},
    )


def raising(function: Callable[..., Any], number: signal.Signals, when: Callable[[], bool], after: bool) -> Any:
    """The function, which once sends this process a signal before or after it works."""
    sent: list[int] = []

    def call(*args: Any, **keys: Any) -> Any:
        found = function(*args, **keys) if after else None
        if not sent and when():
            sent.append(1)
            os.kill(os.getpid(), number)
        return found if after else function(*args, **keys)

    return call


def set_trap(case: Case, trainer: Trainer, engine: PlainEngine) -> None:
    """Have the signal come at the case's place."""
    progress: Callable[[], Any] = lambda: trainer.progress  # noqa: E731
    any_, engine_ = trainer, engine  # type: Any, Any

    def under_way() -> bool:
        return bool(progress().phase == case.phase and progress().phase_update in (2, 3))

    def of_phase() -> bool:
        return bool(progress().phase == case.phase)

    if case.place == "an update":
        engine_.trainee.step = raising(engine.trainee.step, case.signal, under_way, after=False)
    elif case.place == "a reward":
        score: Any = engine.score
        engine_.score = raising(score, case.signal, under_way, after=False)
    elif case.place == "a validation":
        task: Any = trainer.task
        task.corpus_metrics = raising(task.corpus_metrics, case.signal, under_way, after=False)
    elif case.place == "saving":
        run: Any = trainer.run
        run.save = raising(run.save, case.signal, of_phase, after=True)
    elif case.place == "the change of phase":
        engine_.start_phase = raising(engine.start_phase, case.signal, lambda: True, after=False)
    else:
        any_._end_phase = raising(any_._end_phase, case.signal, of_phase, after=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    """The digest of the run that nobody stopped, trained when it is first asked for."""
    known: dict[tuple[str, str], str] = {}

    def of(task: str, method: str) -> str:
        if (task, method) not in known:
            known[task, method] = trained_alone(settings(task, method), tmp_path_factory.mktemp("whole") / "run")
        return known[task, method]

    return of


@pytest.mark.cases(CASES, sample=6)
def test_stopped_and_resumed_to_the_same_bits(case: Case, whole: Callable[[str, str], str], tmp_path: Path) -> None:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}  # a test runner may ignore some
    try:
        run = RunDirectory.create(settings(case.task, case.method), path=tmp_path / "run")
        trainer, engine = trainer_in(run)
        set_trap(case, trainer, engine)
        with pytest.raises(Interrupted):
            trainer.train()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    run.close()
    torch.manual_seed(7)  # what a new process would begin with is nothing that counts
    again = RunDirectory.open(tmp_path / "run")
    trainer_in(again)[0].resume()
    assert digest(again.path) == whole(case.task, case.method)
    again.close()
