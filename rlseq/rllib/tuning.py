"""Trials on Ray Tune, of which ASHA stops those that fall behind (Li et al. 2020)."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from rlseq.training.stopping import GivenUp, stop_asked

REDUCTION = 3  # of the trials that reach a rung, the best third goes on
RUNGS = 2  # before the end

Report = Callable[[int, float, str], None]  # updates done; the best validation, more is better, and in words
Trial = Callable[[int, Report], None]  # trains the trial of a number
Tell = Callable[[int, int | None, str | None, str | None], None]  # trial, updates, best validation in words, error


def run_trials(trial: Trial, count: int, *, width: int, cpus: int, updates: int, place: Path, tell: Tell) -> None:
    """Run all trials; ASHA compares those that come to 1/9 and 1/3 of the updates, and stops all but the best third.

    A trial is stopped while it reports, so what it had saved by then is all it did.

    Args:
        trial: Trains one in the process that calls it; pickled, and called in processes of Ray's.
        count: How many there are.
        width: How many run at once.
        cpus: Of each.
        updates: Most of them that a trial can report.
        place: A directory for Tune's own files, which is removed.
        tell: Told what ends and how.

    Raises:
        GivenUp: A stop was asked for; trials go on from their last checkpoints when they are run again.
    """

    def train(point: dict[str, int]) -> None:
        def report(done: int, best: float, words: str) -> None:
            tune.report({"updates": done, "best": best, "words": words})

        trial(point["trial"], report)

    scheduler = ASHAScheduler(
        time_attr="updates",
        metric="best",
        mode="max",
        max_t=updates + 1,  # who comes to the end ends by itself
        grace_period=max(1, updates // REDUCTION**RUNGS),
        reduction_factor=REDUCTION,
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # of trials that fail, ``tell`` is told
    shutil.rmtree(place, ignore_errors=True)
    with _settings():
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": cpus}),
            param_space={"trial": tune.grid_search(list(range(count)))},
            tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=width),
            run_config=tune.RunConfig(
                name="tune", storage_path=str(place.absolute()), verbose=0, callbacks=[_Teller(tell)]
            ),
        )
        tuner.fit()
    shutil.rmtree(place, ignore_errors=True)


class _Teller(tune.Callback):
    """Says what becomes of each trial, and ends all at once if a stop is asked for."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Between Tune's steps, of at most 0.1 s: raised within one, an error may be taken for a trial's.

        Tune's own end of trials takes seconds, and waits for Ray's daemons, which a signal to all may have ended.
        """
        if stop_asked():
            for trial in trials:
                if actor := trial.temporary_state.ray_actor:
                    ray.kill(actor)
            raise GivenUp

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See the base class."""
        last = trial.last_result or {}
        self._tell(int(trial.config["trial"]), last.get("updates"), last.get("words"), None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See the base class."""
        error = trial.get_error()
        cause = getattr(error, "cause", None) or error
        self._tell(int(trial.config["trial"]), None, None, " ".join(str(cause).split()[-40:]))


@contextmanager
def _settings() -> Iterator[None]:
    """Tune writes no logs of its own, leaves Ctrl-C to us, and workers stay in the working directory."""
    wanted = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
