"""Try settings drawn from distributions, and say what the best of them brought."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rlseq.api.checks import Naming, Stopped, beginning_problems, in_python, refuse
from rlseq.config.load import Given

if TYPE_CHECKING:
    from rlseq.config.schema import Config
    from rlseq.report.sink import Sink
    from rlseq.rllib.tuning import Report
    from rlseq.training.sweep import Sweep


def sweep(
    config: Given | None = None,
    overrides: Sequence[str] = (),
    *,
    run: Path | str | None = None,
    resume: Path | str | None = None,
    trials: int = 20,
    jobs: int = 1,
    console: bool = True,
    trust: bool = False,
) -> Sweep:
    """Train settings drawn from distributions, as ``rlseq sweep`` does, and choose on validation.

    Args:
        config: As of ``train``.
        overrides: Keys to change, ``a.b=c`` each; some of ``mle``, ``rl`` or ``policy`` with a distribution in place of
            the value: ``uniform(low, high)``, ``loguniform(low, high)``, ``randint(low, high)``, high not included, or
            ``choice(a, b, …)``.
        run: The sweep's directory, which must not exist.
        resume: Go on with the sweep in this directory instead.
        trials: How many settings are drawn.
        jobs: How many are trained side by side.
        console: Whether it is printed what becomes of each.
        trust: Whether code that a resumed sweep names may be executed though no training of the user's has named it.

    Returns:
        The sweep: ``path``, ``points``, ``results()``; ``rlseq.compare([sweep.path])`` compares the best with mle.

    Raises:
        UserError: What is given cannot be used, or no trial came to rl.
        Stopped: Ctrl-C, SIGTERM or SIGHUP ended it; the message says how to go on.
    """
    refuse(sweep_problems(config, overrides, run, resume, trials, jobs, in_python))

    from rlseq.training.stopping import GivenUp, catching_signals
    from rlseq.training.sweep import Sweep
    from rlseq.training.trust import Trust, code_of, remember

    if resume is not None:
        made = Sweep.open(Path(resume))
        Trust.given(trust).check(resume, code_of(*made.configs()))
    else:
        assert config is not None and run is not None
        made = Sweep.create(Path(run), config, overrides, trials)
    remember(code_of(*made.configs()))
    with catching_signals() as asked:
        try:
            _train(made, jobs, console)
        except (GivenUp, KeyboardInterrupt, Stopped) as stop:  # the last is of the mle that is shared
            again = f"rlseq sweep --resume {shlex.quote(str(made.path))}"
            raise Stopped(f"stopped by {asked.reason or 'Ctrl-C'}; go on with: {again}") from stop
    made.finish()
    return made


def sweep_problems(
    config: Given | None,
    overrides: Sequence[str],
    run: Path | str | None,
    resume: Path | str | None,
    trials: int,
    jobs: int,
    called: Naming,
) -> list[str]:
    """Arguments of ``sweep`` that do not go together, all of them, under the names that ``called`` gives them."""
    wrong = [
        f"{called(name, count)}: give 1 or more" for name, count in (("trials", trials), ("jobs", jobs)) if count < 1
    ]
    return wrong + beginning_problems("sweep", config, overrides, run, resume, called)


def _train(made: Sweep, jobs: int, console: bool) -> None:
    from rlseq.config.load import parse_config
    from rlseq.config.schema import ComputeConfig
    from rlseq.rllib import cluster
    from rlseq.rllib.tuning import run_trials
    from rlseq.training.checkpoint import load_meta
    from rlseq.training.finding import resolve_checkpoint
    from rlseq.training.stopping import giving_up

    config, begin = made.config, 0
    threads = config.compute.threads or max(1, (os.cpu_count() or 1) // jobs)
    if made.shared:
        _tell_if(console, "mle, which all trials begin with")
        settings = parse_config(config.model_dump(mode="json"), "sweep", ["rl.updates=0", "compute.address=null"])
        _bring_to_end(made.shared, settings, None, [])
        begin = int(load_meta(resolve_checkpoint(made.shared))["update"])
    with giving_up():
        started = cluster.start(config.compute if config.compute.address else ComputeConfig(runners=jobs * threads))
    try:
        run_trials(
            partial(_trial, str(made.path.absolute()), os.getcwd(), threads, begin),
            len(made.points),
            width=jobs,
            cpus=threads,
            updates=config.rl.updates + (0 if made.shared else config.mle.updates),
            place=made.path / "tune",
            tell=partial(_tell, made, console),
        )
    finally:
        if started:
            cluster.stop()


def _trial(path: str, directory: str, threads: int, begin: int, number: int, report: Report) -> None:
    """Train a trial, in a process of Ray's; what it had recorded before it was stopped is reported first."""
    from rlseq.config.load import parse_config
    from rlseq.config.phases import PHASES
    from rlseq.data.tasks import make_task
    from rlseq.report.sink import Sink, Validation
    from rlseq.training.sweep import BestYet, Sweep, validations

    best = BestYet()

    def add(update: int, metric: str, value: float | None) -> None:
        best.add(metric, value)
        report(update - begin, best.score, best.words)

    class Reports(Sink):
        def validation(self, event: Validation) -> None:
            add(event.update, event.metric, event.metrics[event.metric])

    os.chdir(directory)
    made = Sweep.open(Path(path))
    settings = made.settings(number)
    local = ["compute.address=null", f"compute.threads={threads}"]
    run, settings = made.run(number), parse_config(settings.model_dump(mode="json"), f"trial {number}", local)
    if (run / "metrics.jsonl").exists():
        task = make_task(settings.task, run / "artifacts")
        for phase in PHASES:
            for update, value in validations(run, metric := task.selects_by(phase), phase):
                add(update, metric, value)
    _bring_to_end(run, settings, made.shared, [Reports()])


def _bring_to_end(run: Path, settings: Config, source: Path | None, callbacks: Sequence[Sink]) -> None:
    """Train a run, or go on with it; what it comes to on held-out instances is not looked at."""
    from rlseq.api import training
    from rlseq.training.checkpoint import load_checkpoint
    from rlseq.training.finding import resolve_checkpoint
    from rlseq.training.study import goes_on
    from rlseq.training.sweep import is_trained

    following = training.Following(callbacks, console=False, concludes=False)
    if is_trained(run):
        return
    if goes_on(run):
        training.go_on(run, settings, following)
    elif source is None:
        training.start(settings, run, following)
    else:
        training.fork(load_checkpoint(resolve_checkpoint(source)), settings, "rl", run, following)


def _tell(made: Sweep, console: bool, number: int, updates: int | None, best: str | None, error: str | None) -> None:
    came_to = f"failed: {error}" if error else f"{best} at best after {updates} updates"
    _tell_if(console, f"trial {number}, {', '.join(made.points[number])}: {came_to}")


def _tell_if(console: bool, line: str) -> None:
    if console:
        print(line, flush=True)
