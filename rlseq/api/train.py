"""Train, and go on with what was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlseq.api.checks import Naming, data_problems, in_python, refuse
from rlseq.api.run import Run
from rlseq.config.controls import CONTROLS
from rlseq.config.errors import did_you_mean
from rlseq.config.load import Given, names_data
from rlseq.config.phases import PHASES
from rlseq.training.remote import exists, fetched, uri_of

if TYPE_CHECKING:
    from rlseq.report.sink import Sink


MOST_MINUTES = 10**6  # two years


def train(
    config: Given | None = None,
    overrides: Sequence[str] = (),
    *,
    source: Path | str | None = None,
    phase: str | None = None,
    control: str | None = None,
    run: Path | str | None = None,
    callbacks: Sequence[Sink] = (),
    console: bool = True,
    save_before: float | None = None,
    trust: bool = False,
) -> Run:
    """Train with cross-entropy, then REINFORCE, and compare the two, as ``rlseq train`` does.

    Args:
        config: A shipped name, the path of a YAML file, or a mapping with the keys of one; may be left out if there is
            a ``source``, whose configuration is taken then.
        overrides: Keys to change, ``a.b=c`` each.
        source: Start rl (or ``phase="mle"``) anew from this checkpoint or run.
        phase: "mle" or "rl": the only phase to train; rl needs a ``source``.
        control: Train this control instead; see ``rlseq.config.controls``.
        run: The run directory, which must not exist, or a URI such as s3://bucket/runs/hull; default:
            ``<output>/<name>-<time>``.
        callbacks: Told of every event; any of them may stop the phase.
        console: Whether progress is printed.
        save_before: Minutes since the process began by when all is saved, for queues with a time limit; None: no limit.
        trust: Whether code that ``source`` names may be executed though no training of the user's has named it. What
            ``config`` names is the user's.

    Raises:
        UserError: What is given cannot be used; all that is wrong is told at once.
        Stopped: Ctrl-C or SIGTERM ended it; the message says how to go on.
    """
    refuse(
        train_problems(config, overrides, source, phase, control, run, in_python)
        + save_before_problems(save_before, in_python)
    )

    from rlseq.api.settings import checkpoint_settings, forked_settings, new_settings
    from rlseq.training.finding import held_checkpoint
    from rlseq.training.trust import Trust, code_of, remember

    mle_only, path = phase == "mle", None if run is None else Path(run)
    if source is None:
        assert config is not None
        settings = new_settings(config, overrides, control, mle_only=mle_only)
        remember(code := code_of(settings))

        from rlseq.api import training  # torch and ray: once nothing is wrong

        trusted = Trust.given(trust).including(code)
        following = training.Following(callbacks, console=console, save_before=save_before, trust=trusted)
        return training.start(settings, path, following)
    with held_checkpoint(Path(source)) as checkpoint:
        settings = forked_settings(checkpoint, config, overrides, control, mle_only=mle_only)
        code = code_of(settings)
        theirs = [each for each in code_of(checkpoint_settings(checkpoint)) if each.use != "train" or each in code]
        trusted = Trust.given(trust).including(code if config is not None else set(code).difference(theirs))
        trusted.check(checkpoint.directory, theirs)
        remember([*code, *theirs])

        from rlseq.api import training

        trusted = trusted.including([*code, *theirs])
        following = training.Following(callbacks, console=console, save_before=save_before, trust=trusted)
        return training.fork(checkpoint, settings, "mle" if mle_only else "rl", path, following)


def resume(
    run: Path | str,
    overrides: Sequence[str] = (),
    *,
    callbacks: Sequence[Sink] = (),
    console: bool = True,
    save_before: float | None = None,
    trust: bool = False,
) -> Run:
    """Go on with a run exactly where it stopped, as ``rlseq train --resume`` does.

    Args:
        run: The run directory, or its URI.
        overrides: Keys of ``compute`` to change, ``compute.a=c`` each, and data files that lie elsewhere now,
            ``task.train_file=FILE``.
        callbacks: As of ``train``.
        console: As of ``train``.
        save_before: As of ``train``.
        trust: Whether code that the run names may be executed though no training of the user's has named it.

    Raises:
        UserError: It cannot be gone on with.
        Stopped: As of ``train``.
    """
    refuse(resume_problems(overrides, in_python) + save_before_problems(save_before, in_python))

    from rlseq.api.settings import resumed_settings
    from rlseq.training.run_directory import run_config
    from rlseq.training.trust import Trust, code_of, remember

    run = fetched(run)  # once, if it is a URI: its copy is read from here on
    settings, trusted = resumed_settings(run, overrides), Trust.given(trust)
    code, before = code_of(settings), code_of(run_config(run))
    trusted.check(run, [each for each in code if each in before])
    remember(code)

    from rlseq.api import training

    trusted = trusted.including(code)
    following = training.Following(callbacks, console=console, save_before=save_before, trust=trusted)
    return training.go_on(run, settings, following)


def train_problems(
    config: Given | None,
    overrides: Sequence[str],
    source: Path | str | None,
    phase: str | None,
    control: str | None,
    run: Path | str | None,
    called: Naming,
) -> list[str]:
    """Arguments of ``train`` that do not go together, all of them, under the names that ``called`` gives them."""
    wrong = []
    if config is None and source is None:
        wrong.append("give a CONFIG, such as hull; `rlseq configs` lists the shipped ones")
    for name, value, known in (("phase", phase, list(PHASES)), ("control", control, list(CONTROLS))):
        if value is not None and value not in known:
            wrong.append(f"{called(name, value)}: give one of {', '.join(known)}{did_you_mean(str(value), known)}")
    if phase == "rl" and source is None:
        wrong.append(f"{called('phase', 'rl')} starts from a checkpoint: give one with {called('source')}")
    if control == "equal_time" and source is not None:
        wrong.append(f"{called('control', control)} trains from scratch: leave out {called('source')}")
    if control == "equal_time" and not any(key.startswith("mle.updates=") for key in overrides):
        wrong.append(
            f"{called('control', control)} is cross-entropy for the time of mle and rl together: say how long with "
            "mle.updates=N, or let rlseq study find it"
        )
    if control and phase:
        wrong.append(f"{called('control', control)} says which phase it trains: leave out {called('phase')}")
    if run is not None and exists(run):
        where = uri_of(run) or run
        wrong.append(f"{called('run', where)}: exists and is not overwritten; resume it, or give another directory")
    return wrong


def resume_problems(overrides: Sequence[str], called: Naming) -> list[str]:
    """Keys that cannot change when a run is resumed, and data files that are not there."""
    data = [each for each in overrides if names_data(each)]
    foreign = [each for each in overrides if each not in data and not each.startswith("compute.")]
    return [
        f"{override}: only compute.* can change when a run is resumed, and where data files lie; use {called('source')}"
        for override in foreign
    ] + data_problems(data)


def save_before_problems(minutes: float | None, called: Naming) -> list[str]:
    """What is wrong with a time limit."""
    if minutes is None or 0 < minutes <= MOST_MINUTES:
        return []
    return [f"{called('save_before', minutes)}: give minutes above 0, at most {MOST_MINUTES:,}"]
