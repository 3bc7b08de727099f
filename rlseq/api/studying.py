"""Train mle, rl and controls for several seeds."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlseq.api.checks import Naming, Stopped, beginning_problems, in_python, refuse

if TYPE_CHECKING:
    from rlseq.training.jobs import Launch
    from rlseq.training.study import Job, Study

CONTROLS = ("equal_time", "constant_reward")  # of a study that is not told


class TrainingsFailed(RuntimeError):
    """Trainings of a study failed; the message names each with its log, a line each, and how to go on."""


def study(
    config: Path | str | None = None,
    overrides: Sequence[str] = (),
    *,
    run: Path | str | None = None,
    resume: Path | str | None = None,
    seeds: int | None = None,
    controls: Sequence[str] | None = None,
    equal_time_updates: int | None = None,
    jobs: int = 1,
    console: bool = True,
    trust: bool = False,
) -> Study:
    """Train mle, rl and controls for several seeds, as ``rlseq study`` does.

    Args:
        config: A shipped name, or the path of a YAML file.
        overrides: Keys to change, ``a.b=c`` each; keys of ``mle`` and ``rl`` may have several values, ``a.b=c,d``.
        run: The study's directory, which must not exist.
        resume: Go on with the study in this directory instead; it may be given more seeds and further controls.
        seeds: Runs of each arm; default: 3.
        controls: Some of ``rlseq.config.controls.CONTROLS``; default: equal_time and constant_reward.
        equal_time_updates: Updates of equal_time; default: what takes the time of mle and rl.
        jobs: Trainings side by side.
        console: Whether it is printed what begins and ends.
        trust: Whether code that a resumed study names may be executed though no training of the user's has named it.

    Returns:
        The study: ``path``, ``arms``; ``rlseq.compare([study.path])`` compares them.

    Raises:
        UserError: What is given cannot be used.
        TrainingsFailed: Some did.
        Stopped: Ctrl-C, SIGTERM or SIGHUP ended it; the message says how to go on.
    """
    refuse(study_problems(config, overrides, run, resume, controls or [], equal_time_updates, in_python))

    from rlseq.training.study import Study
    from rlseq.training.trust import Trust, code_of, remember

    given = Trust.given(trust)
    if resume is not None:
        made = Study.open(Path(resume))
        given.check(resume, code_of(*made.configs()))
        made.extend(seeds, controls or [])
    else:
        assert config is not None and run is not None
        made = Study.create(
            Path(run),
            str(config),
            overrides,
            seeds=seeds or 3,
            controls=CONTROLS if controls is None else controls,
            equal_time_updates=equal_time_updates,
            side_by_side=jobs,
        )
    remember(code := code_of(*made.configs()))
    _train(made, jobs, console, given.including(code).variable())
    made.finish()
    return made


def study_problems(
    config: Path | str | None,
    overrides: Sequence[str],
    run: Path | str | None,
    resume: Path | str | None,
    controls: Sequence[str],
    equal_time_updates: int | None,
    called: Naming,
) -> list[str]:
    """Arguments of ``study`` that do not go together, all of them, under the names that ``called`` gives them."""
    from rlseq.config.controls import CONTROLS
    from rlseq.config.errors import did_you_mean

    wrong = beginning_problems("study", config, overrides, run, resume, called)
    if resume is not None and equal_time_updates:
        wrong.append(
            f"{called('equal_time_updates')} cannot change when a study is resumed: leave it out, or begin a new study"
        )
    return wrong + [
        f"{called('controls', name)}: there is no such control{did_you_mean(name, CONTROLS)}; "
        f"give some of {', '.join(CONTROLS)}"
        for name in controls
        if name not in CONTROLS
    ]


def _train(made: Study, jobs: int, console: bool, trusted: str) -> None:
    from rlseq.training.jobs import LocalProcess, run_jobs
    from rlseq.training.stopping import GivenUp, catching_signals, giving_up

    logs, on_cluster, again = made.path / "logs", made.config.compute.address not in (None, "local"), _again(made)
    launch: Launch = lambda arguments, log: LocalProcess(arguments, log, trusted)  # noqa: E731
    if on_cluster:
        from rlseq.rllib import cluster, study_jobs
    tell: Callable[[str], None] = lambda line: print(line, flush=True) if console else None  # noqa: E731
    with catching_signals() as asked:
        try:
            with giving_up():
                if on_cluster:
                    launch = study_jobs.cluster_launch(made.config.compute, trusted)
                failed = run_jobs(made.jobs(), launch, jobs, logs, tell)
        except (GivenUp, KeyboardInterrupt) as stop:
            raise Stopped(f"stopped by {asked.reason or 'Ctrl-C'}; go on with: {again}") from stop
        finally:
            if on_cluster:
                cluster.stop()
    if failed:
        raise TrainingsFailed("\n".join([*(_failure(job, logs) for job in failed), f"once that is mended: {again}"]))


def _again(made: Study) -> str:
    return f"rlseq study --resume {shlex.quote(str(made.path))}"


def _failure(job: Job, logs: Path) -> str:
    log = logs / f"{job.name}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    silent = "it printed nothing; on a cluster, the study's directory has to be on storage that all machines share"
    return f"{job.name}: {lines[-1] if lines else silent} (see {log})"
