"""A training, from the checked configuration to the final comparison."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rlseq.api.checks import Stopped, blaming_input, check_device, refuse
from rlseq.api.run import Run
from rlseq.config.errors import UserError
from rlseq.config.load import data_files_of, parse_config
from rlseq.config.named_code import named_code
from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.data.tasks import held_out, make_task, signature_difference
from rlseq.evaluation.compare import compare_checkpoints
from rlseq.evaluation.errors import IncomparableError
from rlseq.evaluation.evaluate import evaluate_checkpoint
from rlseq.models.build import build_policy, initial_weights
from rlseq.models.own import try_out
from rlseq.models.policy import SequencePolicy
from rlseq.models.spaces import TaskSpaces
from rlseq.report.loggers.registry import make_loggers
from rlseq.report.reporter import Reporter, default_sinks
from rlseq.report.sink import Sink
from rlseq.rllib.cluster import needs_cluster
from rlseq.rllib.engine import RllibEngine
from rlseq.training.checkpoint import META, Checkpoint, load_checkpoint, load_meta
from rlseq.training.engine import Engine
from rlseq.training.files import write_text
from rlseq.training.finding import resolve_checkpoint
from rlseq.training.fitting import check_fit
from rlseq.training.index import checkpoints_in
from rlseq.training.last_words import last_words
from rlseq.training.remote import RemoteError, display_path, fetched
from rlseq.training.run_directory import RunDirectory
from rlseq.training.status import go_on_command
from rlseq.training.stopping import GivenUp, Interrupted, catching_signals, giving_up
from rlseq.training.trainer import Trainer
from rlseq.training.trust import OWN, Trust, TrustError
from rlseq_envs.task import SequenceTask


@dataclass(frozen=True)
class Following:
    """What follows a training.

    Attributes:
        callbacks: Told of every event.
        loggers: Likewise, as the configuration asks for them.
        console: Whether progress is printed.
        concludes: Whether the phases are compared on held-out instances in the end.
        save_before: Minutes since the process began by when all has to be saved; None: no limit.
        trust: What of the code that checkpoints name may be executed when phases are compared.
    """

    callbacks: Sequence[Sink] = ()
    loggers: Sequence[Sink] = ()
    console: bool = True
    concludes: bool = True
    save_before: float | None = None
    trust: Trust = OWN


# ------------------------------------------------------------------------------------------- three ways to start
def start(config: Config, path: Path | None, following: Following) -> Run:
    """Train from scratch, in a run directory of that path or of a new name."""
    with _stopped_before(following, "the training began; nothing was made"):
        following = _with_loggers(following, config)
        with giving_up():
            task = prepare_task(config)
            check_policy(config, task)
            with blaming_input():
                weights = initial_weights(config.policy)
        run = RunDirectory.create(config, path=path)
        with _removed_if_not_begun(run):
            task.save_artifacts(run.artifacts)
            return _train(config, task, run, lambda trainer: trainer.train(weights), None, following)


def go_on(path: Path, config: Config, following: Following) -> Run:
    """Go on with a run where it stopped; the configuration differs from the run's only in where the work is done."""
    again = go_on_command(Path(display_path(path)))
    with _stopped_before(following, f"the training went on; go on with: {again}"):
        following = _with_loggers(following, config)
        run = RunDirectory.open(path)
        try:
            with giving_up():
                task = prepare_task(config, run.artifacts)
                policy = check_policy(config, task)
                if latest := run.latest():
                    newest = load_checkpoint(latest, resume=True)
                    _check_signature(newest, task)
                    check_fit(newest, policy)
        except BaseException:
            run.close()
            raise
        return _train(config, task, run, Trainer.resume, _forked_from(run), following)


def fork(checkpoint: Checkpoint, config: Config, phase: Phase, path: Path | None, following: Following) -> Run:
    """Start a phase in a new run from the weights of a checkpoint."""
    with _stopped_before(following, "the training began; nothing was made"):
        following = _with_loggers(following, config)
        with giving_up():
            task = prepare_task(config, checkpoint.artifacts)
            policy = check_policy(config, task)
            _check_policy(checkpoint, config, task)
            check_fit(checkpoint, policy)
        run = RunDirectory.create(config, path=path, forked_from=checkpoint.directory)
        with _removed_if_not_begun(run):
            task.save_artifacts(run.artifacts)
            begin: Callable[[Trainer], None] = lambda trainer: trainer.fork(checkpoint, phase)  # noqa: E731
            return _train(config, task, run, begin, checkpoint.directory, following)


def _with_loggers(following: Following, config: Config) -> Following:
    """Loggers are made before anything else: a package may not be installed."""
    return replace(following, loggers=make_loggers(config.report.loggers))


@contextmanager
def _stopped_before(following: Following, what: str) -> Iterator[None]:
    """A stop that is asked for during set-up ends it at once, with a word about what it was before."""
    with catching_signals(following.save_before) as asked:
        try:
            yield
        except GivenUp as stop:
            raise Stopped(f"stopped by {asked.reason} before {what}") from stop


@contextmanager
def _removed_if_not_begun(run: RunDirectory) -> Iterator[None]:
    """Leave no new run directory behind if the training does not begin."""
    try:
        yield
    except BaseException:
        run.close()
        if not (run.path / "train.log").exists():
            run.discard()
        raise


def _forked_from(run: RunDirectory) -> Path | None:
    """The checkpoint that a run started from; one that is gone is told of when it is needed."""
    record = run.environment()["forked_from"]
    try:
        return fetched(record) if record else None
    except UserError:
        return Path(record)


def prepare_task(config: Config, artifacts: Path | None = None) -> SequenceTask:
    """The task with all its data read and checked, and with a vocabulary that was made before where there is one.

    Raises:
        UserError: Its data cannot be used, or there is no such device to train on.
    """
    refuse(check_device(config.compute.device, "compute.device"))
    with blaming_input():
        task = make_task(config.task, artifacts)
        task.prepare()
    return task


def check_policy(config: Config, task: SequenceTask) -> SequencePolicy:
    """A policy as it will be trained, freshly initialised; one with parts of the user's is tried on two instances.

    Raises:
        UserError: It does not fit the task, or a part of the user's cannot be used.
    """
    with blaming_input():
        policy = build_policy(config.policy, TaskSpaces.of(task))
        if config.policy.own_parts:
            train = task.instances("train")
            ids = train.ids(0, 2 if train.size is None else min(2, train.size))
            source = task.source(ids).map(torch.from_numpy)
            try_out(policy, config.policy, source, *map(torch.from_numpy, task.references(ids)))
    return policy


def _check_signature(checkpoint: Checkpoint, task: SequenceTask) -> None:
    if checkpoint.meta["signature"] != task.signature:
        difference = signature_difference(checkpoint.meta["signature"], task.signature)
        raise UserError(f"{checkpoint.directory} was trained for another reward (-) than this one (+):\n{difference}")


def _check_policy(checkpoint: Checkpoint, config: Config, task: SequenceTask) -> None:
    """The weights have to fit the policy that the configuration asks for."""
    before = parse_config(checkpoint.meta["config"], str(checkpoint.directory / META))
    theirs, ours = (dict(_flat(each.policy.model_dump(mode="json"))) for each in (before, config))
    free = config.policy.free_keys
    wrong = [
        f"policy.{key} is {ours.get(key)!r}, in the checkpoint it is {theirs.get(key)!r}"
        for key in dict.fromkeys([*ours, *theirs])
        if key not in free and ours.get(key) != theirs.get(key)
    ]
    if not wrong:
        _check_signature(checkpoint, task)
        spaces = TaskSpaces.from_dict(checkpoint.meta["spaces"])
        wrong = [
            f"the task's {key} is {value}, in the checkpoint it is {was}"
            for key, value, was in TaskSpaces.of(task).differences(spaces)
        ]
    if wrong:
        raise UserError("\n  ".join([f"{checkpoint.directory} does not fit the configuration:", *wrong]))


def _flat(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a section with its value."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# -------------------------------------------------------------------------------------------------- training, the end
def _train(
    config: Config,
    task: SequenceTask,
    run: RunDirectory,
    train: Callable[[Trainer], None],
    before: Path | None,
    following: Following,
) -> Run:
    """Train, then compare: the mle phase's best, or the checkpoint the run started from, with the rl phase's."""
    begun = False
    with catching_signals(following.save_before), _brought(run):
        try:
            sinks = [*default_sinks(sys.stdout if following.console else None), *following.loggers]
            reporter = Reporter(sinks, task.selects_by, following.callbacks)
            for line in [*task.data_report(), *_workers(config)]:
                reporter.message(line)
            with _warnings_reported(reporter), _last_words(config, run):
                with giving_up():
                    engine = make_engine(config, task, run.artifacts)
                begun = True
                try:
                    train(Trainer(config, task, engine, run, reporter))
                finally:
                    engine.close()
        except (Interrupted, GivenUp, KeyboardInterrupt) as stop:
            if isinstance(stop, GivenUp) and not begun:
                raise  # whoever set it up says what it was stopped before
            raise Stopped(_stopped(run, str(stop))) from stop
        finally:
            run.close()
        if following.concludes:
            try:
                with giving_up():
                    conclude(config, task, run, before, following.trust)
            except GivenUp as stop:
                raise Stopped(_resumable(run, "trained to the end, but not compared")) from stop
    return Run(run.path)


@contextmanager
def _brought(run: RunDirectory) -> Iterator[None]:
    """All of a run that ended, its report too, is where it is kept."""
    try:
        yield
    except BaseException:
        try:
            run.bring()
        except UserError as error:  # what ended the run matters more
            print(error, file=sys.stderr)
        raise
    try:
        run.bring()
    except RemoteError as error:
        again = go_on_command(run.path)
        raise RemoteError(f"{error}\nthe run is whole in {run.path}; bring it there with: {again}") from error


def _last_words(config: Config, run: RunDirectory) -> AbstractContextManager[None]:
    if not needs_cluster(config.compute):
        return nullcontext()
    ended = "the training's process was ended from outside: it was killed, or Ray was lost on this machine"
    return last_words(_resumable(run, ended), run.path / "train.log")


def _workers(config: Config) -> list[str]:
    """What is said before workers start, which takes some seconds."""
    compute = config.compute
    if not (compute.runners or compute.learners):
        return []
    return [f"starting workers: {compute.runners} runners, {compute.learners} learners"]


class _ToReporter(logging.Handler):
    """Passes log records on to a reporter."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """See the base class."""
        self._reporter.message(record.getMessage(), "error" if record.levelno >= logging.ERROR else "warning")


@contextmanager
def _warnings_reported(reporter: Reporter) -> Iterator[None]:
    """What is logged deep inside, such as the loss of a worker, reaches the console and the run's log."""
    logger, handler = logging.getLogger("rlseq"), _ToReporter(reporter)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def make_engine(config: Config, task: SequenceTask, artifacts: Path) -> Engine:
    """RLlib, in this process or in many.

    Raises:
        UserError: The ``compute`` section cannot be met: too many learners, no cluster at the address.
    """
    with blaming_input():
        return RllibEngine(config, task, artifacts)


def _stopped(run: RunDirectory, message: str) -> str:
    if run.latest() is None:
        return f"{message or 'interrupted'}; nothing was saved yet"
    return _resumable(run, message or "interrupted")


def _resumable(run: RunDirectory, message: str) -> str:
    return f"{message}; go on with: {go_on_command(Path(display_path(run.path)))}"


def conclude(
    config: Config,
    task: SequenceTask,
    run: RunDirectory,
    before: Path | None,
    trust: Trust = OWN,
) -> None:
    """Score what the run achieved on held-out instances of its configuration, into ``report/``."""
    best = [path for path in (_best(run, "mle"), _best(run, "rl")) if path]
    if before and not before.is_dir():
        print(f"{before}, which this run started from, is gone: its best is evaluated alone", file=sys.stderr)
        before = None
    if before:  # of a run that was resumed, whatever its environment.json says
        try:
            trust.check(before, [each for each in named_code(load_meta(before)["config"]) if each.use != "train"])
        except TrustError as error:
            print(f"{error}\nthe best of this run is evaluated alone", file=sys.stderr)
            before = None
    arms = [before, *best] if before and len(best) == 1 else best
    split, limit = held_out(task)
    options: dict[str, Any] = {"split": split, "max_instances": limit, "device": config.compute.device, "trust": trust}
    options["data"] = data_files_of(config)
    try:
        if len(arms) > 1:
            name, result = "comparison", compare_checkpoints(arms, **options).to_json()
    except IncomparableError as error:  # what it started from was trained for another task
        print(f"{error}\nthe best of this run is evaluated alone", file=sys.stderr)
        arms = best
    if len(arms) == 1:
        name, result = "evaluation", evaluate_checkpoint(arms[0], **options).to_json()
    write_text(run.path / "report" / f"{name}.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def _best(run: RunDirectory, phase: Phase) -> Path | None:
    place = run.path / "checkpoints" / phase
    return resolve_checkpoint(place) if checkpoints_in(place) else None
