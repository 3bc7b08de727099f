"""A run from beginning to end: cross-entropy, then REINFORCE, with validation, checkpoints and recovery.

The trainer owns the update counter, the data position, the schedule and every decision; the engine does the work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from rlseq.config.errors import StorageError, storage_problem
from rlseq.config.phases import PHASES, Phase, PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.config.schema import Config
from rlseq.models.spaces import TaskSpaces
from rlseq.objectives.baselines import build_baseline
from rlseq.report.reporter import Reporter
from rlseq.report.sink import Level
from rlseq.training.checkpoint import META, Checkpoint, CheckpointError, load_checkpoint
from rlseq.training.cost import Cost
from rlseq.training.engine import Engine, Tensors, TrainingError, WorkersFailed
from rlseq.training.monitors.registry import Alarm, Monitors
from rlseq.training.preflight import short_form
from rlseq.training.progress import Progress
from rlseq.training.remedies import beyond_recovery, is_out_of_memory, short_of_memory
from rlseq.training.requests import Requests
from rlseq.training.run_directory import RunDirectory
from rlseq.training.sampling_table import histograms
from rlseq.training.status import State, go_on_command, write_status
from rlseq.training.stopping import GivenUp, Interrupted, catching_signals, giving_up, stop_asked
from rlseq.training.validation import measure
from rlseq_envs.rewards.own import RewardError
from rlseq_envs.settings.metrics import larger_is_better, signed
from rlseq_envs.task import SequenceTask


class Trainer:
    """Trains one run.

    Args:
        config: The experiment.
        task: Its task, prepared.
        engine: Does the updates.
        run: Where everything is kept.
        reporter: Told of everything.

    Raises:
        UserError: The training data cannot be divided into batches as configured.
    """

    def __init__(
        self, config: Config, task: SequenceTask, engine: Engine, run: RunDirectory, reporter: Reporter
    ) -> None:
        self.config, self.task, self.engine, self.run, self.reporter = config, task, engine, run, reporter
        self.progress = Progress()
        self.monitors = Monitors(config.mle)
        self.baseline = build_baseline(config.rl.baseline)
        self.cost = Cost()
        self._requests = Requests(config, task)
        self._saved: int | None = None  # the last update that a checkpoint holds
        self._torn = False  # the engine failed in the midst of an update: its state is of none
        self._pace = 0.0  # seconds an update takes

    # ------------------------------------------------------------------------------------------- entry points
    def train(self, weights: Tensors | None = None) -> None:
        """Train from scratch.

        Args:
            weights: What the policy begins with; None: what was drawn.

        Raises:
            Interrupted: A signal asked to stop; the run can be resumed.
            TrainingError: A loss or gradient was not finite and no way back was left.
            RewardError: A reward of the user's own failed; what was trained before is saved.
        """
        self.reporter.start(self.config, self.run, None)
        if weights is not None:
            self.engine.set_weights(weights)
        self._train_phases()

    def resume(self) -> None:
        """Go on exactly where the newest checkpoint of the run was written; raises as ``train``."""
        latest = self.run.latest()
        if latest is None:
            raise CheckpointError(f"{self.run.path}: nothing was saved before it stopped; train it anew")
        checkpoint = load_checkpoint(latest, resume=True)
        assert checkpoint.state is not None
        self._restore(checkpoint)
        self.run.rewind(self.progress.update, self.progress.phase)
        self.reporter.start(self.config, self.run, self.progress.update)
        for text in self.run.passed_over:
            self.reporter.message(text, "warning")
        if self.progress.best_metrics and self.run.best_update(self.progress.phase) != self.progress.best_update:
            self.reporter.message(
                f"the best checkpoint of {self.progress.phase} is lost: the best is sought anew", "warning"
            )
            self.progress.forget_best()
        self.engine.set_state(checkpoint.state, self.progress.phase)
        self._train_phases()

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Take over counters, monitors and baseline; all of them can be read, or none is taken."""
        saved = checkpoint.meta["trainer"]
        try:
            progress, cost = Progress.from_dict(saved), Cost.from_dict(saved)
            monitors = Monitors.from_dict(self.config.phase(progress.phase), saved.get("monitors", {}))
            self._restore_baseline(checkpoint)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            place = checkpoint.directory / META
            raise CheckpointError(
                f"{place}: trainer cannot be read ({error!r}); copy it again, or delete it"
            ) from error
        self.progress, self.cost, self.monitors = progress, cost, monitors
        self._saved = progress.update

    def fork(self, source: Checkpoint, phase: Phase) -> None:
        """Start ``phase`` from another run's checkpoint: its weights, a new optimiser, a new schedule.

        The x-axis goes on from the checkpoint's update. Raises as ``train``.
        """
        self.reporter.start(self.config, self.run, None)
        self.engine.set_weights(source.weights)
        self.cost = Cost.from_dict(source.meta["trainer"])
        self.progress = Progress(phase=phase, update=int(source.meta["update"]))
        self._train_phases()

    # ------------------------------------------------------------------------------------------------- phases
    def _train_phases(self) -> None:
        """All phases from the one in progress on; however it ends, log and status say so, and nothing done is lost."""
        self._say_status("training")
        try:
            with catching_signals(), self._telling_of_memory():
                for phase in PHASES[PHASES.index(self.progress.phase) :]:
                    if phase == self.progress.phase or self.config.phase(phase).updates:
                        self._phase(phase)
            self._say_status("finished")
        except Interrupted as stop:
            self._say_end("interrupted", str(stop), "info")
            raise
        except Exception as error:
            self._rescue()
            go_on = error.go_on if isinstance(error, TrainingError) else None
            self._say_end("failed", " ".join(f"{type(error).__name__}: {error}".split()), "error", go_on)
            raise
        finally:
            self.reporter.finish()

    def _phase(self, phase: Phase) -> None:
        section = self.config.phase(phase)
        if phase != self.progress.phase:
            self._start_from_best(phase)
        if not self.progress.started:
            self.engine.start_phase(phase)
            self.progress.started = self.progress.validating = True  # what the phase starts from is its first best
            self.monitors, self.baseline = Monitors(section), build_baseline(self.config.rl.baseline)
            self.reporter.phase(phase, section.title, section.updates, 0)
            if isinstance(section, RLConfig):
                self._say_what_samples_show(section)
        else:
            self.reporter.phase(phase, section.title, section.updates, self.progress.phase_update)
        if self.progress.validating:
            self._validate(section)
        while self.progress.phase_update < section.updates and not self.progress.finished:
            self._advance(section)
        if not self.progress.finished:
            self._end_phase()

    def _start_from_best(self, phase: Phase) -> None:
        best = load_checkpoint(self.run.checkpoint(self.progress.phase, "best"))
        self.engine.set_weights(best.weights)
        self.progress = Progress(phase=phase, update=self.progress.update, mle_seconds=self.progress.mle_seconds)

    def _say_what_samples_show(self, section: RLConfig) -> None:
        limit, update = self.config.evaluation.max_instances, self.progress.update
        try:
            with giving_up():
                found = list(short_form(self.task, self.engine, section, limit, update))
        except GivenUp:
            self._stop_now()
        for text, level in found:
            self.reporter.message(text, level)

    def _advance(self, section: PhaseConfig) -> None:
        """A stretch of updates up to the next event, and the event."""
        started, requests = time.perf_counter(), self._requests.next(self.progress, self.baseline.state, self._pace)
        self._torn = True
        try:
            statistics = self.engine.update(requests)
        except GivenUp:
            self._stop_now()
        except (RewardError, WorkersFailed):
            self._torn = False  # the state is that of the update before
            raise
        except TrainingError as error:
            self._recover(section, str(error), passed_over=len(requests))
            return
        self._torn = False
        instances = sum(len(request.ids) for request in requests)
        progress, seconds = self.progress, (time.perf_counter() - started) / instances
        self._pace = seconds * instances / len(requests)
        for stats in statistics:
            progress.count(stats | progress.timed(seconds))
            self.cost.count(progress.phase, stats.get("time/cpu_seconds", 0.0))
            self._watch(section, stats)
        if isinstance(section, RLConfig):
            self.cost.count_rollouts(section, round(instances * statistics[0].get("rollout/drawn_ratio", 1.0)))
        early = self._log() or bool(self.monitors.stopping)
        if early or progress.phase_update % section.validate_every == 0 or progress.phase_update == section.updates:
            self._validate(section)
        if progress.update % self.config.checkpoint.every == 0:
            self._save()
        if (reason := self.reporter.take_stop()) and not progress.finished:
            self.reporter.message(f"{reason}: {progress.phase} ends")
            self._end_phase()
        if stop_asked():
            self._stop_now()

    def _stop_now(self) -> NoReturn:
        """Save what was done until the last update, and leave."""
        self._save()
        raise Interrupted(f"stopped at update {self.progress.update} by {stop_asked()}")

    def _watch(self, section: PhaseConfig, stats: dict[str, float]) -> None:
        if isinstance(section, RLConfig):
            reward = stats["rollout/reward_mean"]
            self.baseline.add(stats.get("rollout/training_reward_mean", reward))
        self._warn(self.monitors.update(stats))

    def _warn(self, alarms: list[Alarm]) -> None:
        for alarm in alarms:
            self.reporter.message(f"monitor {alarm.monitor}: {alarm.text}", "warning")

    def _restore_baseline(self, checkpoint: Checkpoint) -> None:
        saved = checkpoint.meta["trainer"]
        state = saved.get("baseline", saved.get("running_mean", {}))  # its name in earlier versions
        self.baseline = build_baseline(self.config.rl.baseline, state)

    def _log(self) -> bool:
        """Report the means since the last log line, where one is due; True when they call for a validation."""
        progress = self.progress
        if progress.phase_update % self.config.log_every:
            return False
        stats = progress.take_means() | self.monitors.flags()
        self.reporter.updates(progress.phase, progress.update, progress.phase_update, stats)
        return self.monitors.validates_early

    # --------------------------------------------------------------------------------------------- validation
    def _validate(self, section: PhaseConfig) -> None:
        progress = self.progress
        progress.validating = True
        try:
            with giving_up():
                found = measure(self.task, self.engine, self.config.evaluation, self.progress.update)
        except GivenUp:
            self._stop_now()
        except WorkersFailed:
            raise  # smaller steps would not help; who resumes the run validates
        except TrainingError as error:
            progress.validating = False
            self._recover(section, str(error))
            return
        progress.validating = False
        score = found.metrics[self._metric]
        score = -math.inf if math.isnan(score) else signed(self._metric, score)
        best = progress.judge(score)
        if best:
            progress.best_metrics = found.metrics
        phase, update = progress.phase, progress.update
        event = self.reporter.validation(phase, update, found.metrics, best, found.samples, histograms(found.rolled))
        self._warn(self.monitors.validation(found.metrics, len(found.rolled.ids)))
        self._act_on(section, score, best)
        self.reporter.validated(event, self.run.checkpoint(phase, update) if self._saved == update else None)

    @property
    def _metric(self) -> str:
        """The metric that picks the best checkpoint of this phase."""
        return self.task.selects_by(self.progress.phase)

    def _act_on(self, section: PhaseConfig, score: float, best: bool) -> None:
        """What follows from a validation: the best is saved, a collapse is left, the phase may end."""
        progress = self.progress
        if stopping := self.monitors.stopping:
            self.reporter.message(f"rl.monitors.stop names {', '.join(stopping)}: rl ends")
            self._end_phase()
            return
        if best:
            self._save()
        elif isinstance(section, RLConfig) and score < progress.best - section.collapse_tolerance:
            went = "fell" if larger_is_better(self._metric) else "rose"
            before, now = (signed(self._metric, value) for value in (progress.best, score))
            self._recover(section, f"{self._metric} {went} from {before:.2f} to {now:.2f}")
            return
        if section.patience is not None and progress.validations_without_best >= section.patience:
            self.reporter.message(f"no new best for {section.patience} validations: {progress.phase} ends")
            self._end_phase()

    # ----------------------------------------------------------------------------------------------- recovery
    def _recover(self, section: PhaseConfig, why: str, passed_over: int = 1) -> None:
        """Back to the best checkpoint with smaller steps; if that was tried often enough, rl ends, mle with an error.

        Args:
            section: Of the phase.
            why: What is wrong.
            passed_over: How many updates are not tried again.
        """
        progress = self.progress
        given_up = progress.recoveries >= section.max_recoveries
        if not progress.best_metrics or (given_up and not isinstance(section, RLConfig)):
            self._torn = True
            raise beyond_recovery(why, progress.phase, section, self._source())
        if given_up:
            self.reporter.message(f"{why}: {progress.recoveries} recoveries did not help, rl ends", "warning")
            self._return_to_best()
            self._end_phase()
            return
        update = self._return_to_best()
        progress.recoveries += 1
        progress.rate_scale *= section.recovery_factor
        progress.validations_without_best = 0
        progress.skip(passed_over)
        self.monitors = Monitors(section)
        self.reporter.message(
            f"{why}: back to the best checkpoint (update {update}), learning rate × {progress.rate_scale:g}", "warning"
        )

    def _return_to_best(self) -> int:
        """Restore the phase's best checkpoint, weights, optimiser and baseline; its update."""
        phase = self.progress.phase
        checkpoint = load_checkpoint(self.run.checkpoint(phase, "best"), resume=True)
        assert checkpoint.state is not None
        state = checkpoint.state | {f"policy/{name}": value for name, value in checkpoint.weights.items()}
        self.engine.set_state(state, phase)
        self._restore_baseline(checkpoint)
        self._torn = False
        return int(checkpoint.meta["update"])

    def _source(self) -> Path | None:
        """The checkpoints that the phase can begin anew from; None: nothing was saved."""
        phase = self.progress.phase if self.progress.best_metrics else "mle"
        return None if self._saved is None else self.run.path / "checkpoints" / phase

    @contextmanager
    def _telling_of_memory(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            phase, size = self.progress.phase, self.config.compute.shard_size
            raise short_of_memory(error, phase, self.config.phase(phase), size, self._source()) from error

    # -------------------------------------------------------------------------------------------- checkpoints
    def _end_phase(self) -> None:
        self.progress.finished = True
        self._save()

    def _save(self) -> None:
        progress = self.progress
        best = progress.update == progress.best_update
        meta: dict[str, Any] = {
            "config": self.config.model_dump(mode="json"),
            "spaces": TaskSpaces.of(self.task).to_dict(),
            "signature": self.task.signature,
            "phase": progress.phase,
            "update": progress.update,
            "phase_update": progress.phase_update,
            "trainer": progress.to_dict()
            | self.cost.to_dict()
            | {"monitors": self.monitors.to_dict(), "baseline": self.baseline.state},
            "metrics": progress.best_metrics if best else {},
        }
        state = self.engine.get_state()
        for name, value in state.items():
            if not name.startswith("optimizer/") and np.isnan(value).any():
                raise TrainingError(f"update {progress.update}: {name} holds NaN and is not saved")
        try:
            self.run.save(progress.phase, progress.update, state, meta, best=best)
        except OSError as error:
            place = self.run.path / "checkpoints" / progress.phase / str(progress.update)
            text = f"the checkpoint of update {progress.update} cannot be saved: {storage_problem(error, place)}"
            raise StorageError(text) from error
        self._saved = progress.update

    # ------------------------------------------------------------------------------------------------ the end
    def _rescue(self) -> None:
        """Save what was done since the last checkpoint before an error ends the training, if it can be saved."""
        if self._torn or self._saved == self.progress.update or not self.progress.started:
            return
        try:
            self._save()
        except Exception as error:  # the error that ends the training matters more
            self.reporter.message(f"update {self.progress.update} could not be saved: {error}", "warning")

    def _say_end(self, state: State, reason: str, level: Level, go_on: str | None = None) -> None:
        text, command = f"{state}: {reason}; nothing was saved yet", None
        if self._saved is not None:
            command = go_on or go_on_command(self.run.path)
            text = f"{state}: {reason}; saved at update {self._saved}; go on with: {command}"
        self.reporter.message(text, level)
        self._say_status(state, reason, command)

    def _say_status(self, state: State, reason: str = "", go_on: str | None = None) -> None:
        try:
            write_status(self.run.path, state, self.progress.phase, self._saved, reason, go_on)
        except OSError as error:
            self.reporter.message(f"report/status.json cannot be written: {error}", "warning")
