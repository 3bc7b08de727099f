"""``rlseq study``."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlseq.api.checks import Stopped, refuse
from rlseq.cli.common import FAILED, Debug, console, guarded, write_json
from rlseq.cli.train import ControlName

if TYPE_CHECKING:
    from rlseq.training.jobs import Launch
    from rlseq.training.study import Job, Study

DEFAULT_CONTROLS = "equal_time,constant_reward"
EXAMPLES = [
    "rlseq study hull --seeds 3 --controls equal_time,constant_reward --run runs/hull-study",
    "rlseq study hull rl.optimizer.learning_rate=3e-4,1e-3 --jobs 2 --run runs/hull-rates",
    "rlseq study --resume runs/hull-study --seeds 5",
]


@guarded
def study(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A shipped name (see `rlseq configs`) or a YAML file.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="a.b=c",
            help="Keys of the configuration to change. Keys of mle and rl may have several values, a.b=c,d: "
            "the best on validation is taken.",
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", metavar="DIR", help="The study's directory.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with a study where it stopped.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, metavar="S", help="Runs of each arm; default: 3.")] = None,
    controls: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help=f"Some of {', '.join(ControlName)}, separated by commas, or none; default: {DEFAULT_CONTROLS}.",
        ),
    ] = None,
    equal_time_updates: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Updates of equal_time; default: what takes the time of mle and rl."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Trainings side by side.")] = 1,
    debug: Debug = False,
) -> None:
    """Train mle, rl and controls for several seeds, and say what the reward brought.

    Each arm of each seed is a run of its own inside DIR. The report compares all of them on held-out instances.
    A study that is resumed may be given more seeds and further controls.
    """
    asked = controls or ("none" if resume else DEFAULT_CONTROLS)
    names = [] if asked == "none" else list(dict.fromkeys(asked.split(",")))
    refuse(_problems(config, overrides, run, resume, names, equal_time_updates))

    from rlseq.training.study import Study

    if resume:
        made = Study.open(resume)
        made.extend(seeds, names)
    else:
        assert config is not None and run is not None
        made = Study.create(
            run,
            config,
            overrides or [],
            seeds=seeds or 3,
            controls=names,
            equal_time_updates=equal_time_updates,
            side_by_side=jobs,
        )
    _train(made, jobs)
    report(made)


def _problems(
    config: str | None,
    overrides: list[str] | None,
    run: Path | None,
    resume: Path | None,
    names: list[str],
    equal_time_updates: int | None,
) -> list[str]:
    from rlseq.config.errors import did_you_mean

    wrong = []
    if resume and (config or overrides or run):
        wrong.append("--resume takes the configuration from the study: leave out CONFIG, its keys and --run")
    if resume and equal_time_updates:
        wrong.append("--equal-time-updates cannot change when a study is resumed: leave it out, or begin a new study")
    if not resume and not config:
        wrong.append("give a CONFIG, such as hull; `rlseq configs` lists the shipped ones")
    if not resume and not run:
        wrong.append("give the study a directory with --run DIR")
    known = [control.value for control in ControlName]
    wrong += [
        f"--controls {name}: there is no such control{did_you_mean(name, known)}; give some of {', '.join(known)}"
        for name in names
        if name not in known
    ]
    return wrong


def _train(made: Study, jobs: int) -> None:
    from rlseq.training.jobs import LocalProcess, run_jobs

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the trainings save and end
    logs, on_cluster, again = made.path / "logs", made.config.compute.address not in (None, "local"), _again(made)
    launch: Launch = LocalProcess
    if on_cluster:
        from rlseq.rllib import cluster, study_jobs

        launch = study_jobs.cluster_launch(made.config.compute)
    try:
        failed = run_jobs(made.jobs(), launch, jobs, logs, lambda line: print(line, flush=True))
    except KeyboardInterrupt as stop:
        raise Stopped(f"interrupted; go on with: {again}") from stop
    finally:
        if on_cluster:
            cluster.stop()
    if failed:
        print(*(_failure(job, logs) for job in failed), f"once that is mended: {again}", sep="\n", file=sys.stderr)
        raise typer.Exit(FAILED)
    made.finish()


def _again(made: Study) -> str:
    return f"rlseq study --resume {shlex.quote(str(made.path))}"


def _failure(job: Job, logs: Path) -> str:
    log = logs / f"{job.name}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    silent = "it printed nothing; on a cluster, the study's directory has to be on storage that all machines share"
    return f"{job.name}: {lines[-1] if lines else silent} (see {log})"


def report(made: Study) -> None:
    """Compare the arms on held-out instances; a page and JSON are written into the study's directory."""
    from rlseq.cli.closing import curves_command
    from rlseq.data.tasks import held_out, make_task
    from rlseq.evaluation.arms import study_arms
    from rlseq.evaluation.compare import compare
    from rlseq.evaluation.evaluate import display_path
    from rlseq.report.comparison import comparison_report
    from rlseq.report.page import comparison_page

    config, arms, place, screen = made.config, study_arms(made.path), made.path / "report", console()
    split, limit = held_out(make_task(config.task, made.artifacts()))
    result = compare(arms, split=split, max_instances=limit, device=config.compute.device).to_json()
    place.mkdir(exist_ok=True)
    write_json(place / "comparison.json", result)
    (place / "comparison.html").write_text(comparison_page(result), encoding="utf-8")
    screen.print(*comparison_report(result), sep="\n")
    screen.print(f"report: {display_path(place / 'comparison.html')}", soft_wrap=True)
    screen.print(curves_command(made.path), soft_wrap=True)
