"""The algorithm: hands updates to learners and rollouts to runners, and survives the loss of either."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, TypeVar

import torch
from ray.rllib.algorithms.algorithm import Algorithm

from rlseq.config.errors import UserError
from rlseq.config.phases import Phase
from rlseq.rllib.config import SequenceConfig
from rlseq.rllib.fleet import PublishedWeights, RunnerFleet, RunnerGroup
from rlseq.rllib.learner_group import LearnersLost, SequenceLearnerGroup
from rlseq.rllib.room import await_room
from rlseq.rllib.runner import SequenceEnvRunner
from rlseq.training.batch import Batch
from rlseq.training.draw import Drawn, draw
from rlseq.training.engine import Tensors, TrainingError, UpdateRequest, WorkersFailed, not_finite, update_seed
from rlseq.training.rollout import Rollout, RolloutRequest, shards
from rlseq.training.stopping import giving_up
from rlseq.training.update import RESAMPLED
from rlseq_envs.task import Ints

logger = logging.getLogger(__name__)
T = TypeVar("T")

SNAPSHOT_EVERY = 50  # updates between snapshots of remote learners: what is computed again when one dies
MAX_REBUILDS = 3  # times in a row that the learners are built anew for the same work


class SequenceAlgorithm(Algorithm):
    """Cross-entropy and REINFORCE on sequences.

    ``training_step`` does the updates in ``requests`` and leaves their statistics in ``statistics``; the driver that
    fills them owns the data position, so that lost workers, restarts and other numbers of workers change nothing.

    Attributes:
        requests: What the next training step is to do.
        statistics: Of the last training step, update by update.
        worker_seconds: CPU seconds that other processes spent on updates; added to, never reset here.
    """

    config: SequenceConfig
    learner_group: SequenceLearnerGroup
    requests: list[UpdateRequest]
    statistics: list[dict[str, float]]
    worker_seconds: float

    @classmethod
    def get_default_config(cls) -> SequenceConfig:
        """See ``Algorithm``."""
        return SequenceConfig(algo_class=cls)

    def setup(self, config: SequenceConfig) -> None:
        """Build learners and runners."""
        await_room(config.context.config.compute, runners=True)
        super().setup(config)
        self.requests, self.statistics, self.worker_seconds = [], [], 0.0
        self._phase: Phase = "mle"
        self._snapshot: tuple[Tensors, Phase] | None = None
        self._since_snapshot: list[UpdateRequest] = []
        self._published: dict[bool, PublishedWeights] = {}
        self._weights_number = 0
        self.task = self.config.context.task()
        self.experiment = self.config.context.config
        self._fleet: RunnerFleet | None = None
        self._runner: SequenceEnvRunner | None = None
        if self.config.num_env_runners:
            self.env_runner_group = RunnerGroup(config=self.config, local_env_runner=False)
            self._fleet = RunnerFleet(self.env_runner_group, self.experiment.compute.timeout)
            self._fleet.check()
        else:
            self._runner = SequenceEnvRunner(config=self.config, worker_index=0)
        self._take_snapshot()

    def _setup_logdir(self) -> None:
        """No result directory in the user's home: the run directory holds everything."""
        self._logdir = ""

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """None: they hold a copy of the whole configuration, which takes longer than a small policy's step."""
        return {}

    # ---------------------------------------------------------------------------------------------- updates
    def training_step(self) -> None:
        """Do the requested updates.

        Raises:
            TrainingError: See ``Engine.update``; or workers are lost again and again.
        """
        requests, self.requests, self.statistics = self.requests, [], []
        for stretch in _stretches(requests):
            self.statistics += self._surviving(lambda stretch=stretch: self._do(stretch))  # type: ignore[misc]
            self._remember(stretch)

    def _do(self, stretch: list[UpdateRequest]) -> list[dict[str, float]]:
        self._published.clear()
        if stretch[0].phase == "mle":
            return [self._finish(stats, stats["seconds"]) for stats in self.learner_group.work(stretch, None)]
        return [self._do_rl(stretch[0])]

    def _do_rl(self, request: UpdateRequest) -> dict[str, float]:
        """Rollout → reward → advantage → loss → step."""
        started = time.perf_counter()
        in_one_process = self._runner is not None and self.learner_group.local is not None
        drawn, score_seconds = self._draw(request, self.experiment.rl.encodes_once and in_one_process)
        _check_finite(drawn.stats, request.update)
        sampled = time.perf_counter()
        stats = self.learner_group.work([request], drawn.batch, drawn.memory, self._resampled(request))[0]
        self._published.clear()
        seconds = time.perf_counter() - started
        return (
            drawn.stats
            | self._finish(stats, seconds)
            | {
                "time/sample_frac": (sampled - started - score_seconds) / seconds,
                "time/score_frac": score_seconds / seconds,
                "time/update_frac": (started + seconds - sampled) / seconds,
            }
        )

    def _resampled(self, request: UpdateRequest) -> Batch | None:
        """The batch of the same instances with other samples, where the gradient's variance is to be estimated."""
        if not self.experiment.rl.estimates_variance(request.phase_update):
            return None
        return self._draw(request, with_graph=False, shift=RESAMPLED)[0].batch

    def _draw(self, request: UpdateRequest, with_graph: bool, shift: int = 0) -> tuple[Drawn, float]:
        """What a request trains on, and the seconds spent on rewards; with a shift, other samples."""
        config, seconds = self.experiment.rl, [0.0]

        def roll_out(ids: Ints, number: int) -> Rollout:
            decoding = RolloutRequest.for_update(config, number, request.phase_update, with_graph)
            rollout, spent = self._roll_out(ids, decoding, averaged=False)
            seconds.append(spent)
            return rollout

        seed = update_seed(self.experiment.seed, 0, request.update)
        with giving_up():
            return draw(self.task, roll_out, request, config, seed, shift), sum(seconds)

    def _finish(self, stats: dict[str, float], seconds: float) -> dict[str, float]:
        """Replace counts by rates."""
        self.worker_seconds += stats.pop("worker_seconds")
        counts = {name: stats.pop(name) for name in ("tokens", "reference_tokens", "seconds")}
        rates = {"tokens_per_sec": counts["tokens"] / seconds, "update_frac": counts["seconds"] / seconds}
        return stats | {f"time/{name}": value for name, value in rates.items()}

    # --------------------------------------------------------------------------------------------- rollouts
    def roll_out(self, ids: Ints, decoding: RolloutRequest, *, averaged: bool) -> Rollout:
        """See ``Engine.rollout``."""
        return self._surviving(lambda: self._roll_out(ids, decoding, averaged))[0]

    def _roll_out(self, ids: Ints, decoding: RolloutRequest, averaged: bool) -> tuple[Rollout, float]:
        parts = shards(ids, self.experiment.compute.shard_size)
        if self._fleet is not None:
            rollouts, score_seconds, worker_seconds = self._fleet.sample(parts, decoding, self._publish(averaged))
            self.worker_seconds += worker_seconds
            return Rollout.concatenate(rollouts), score_seconds
        assert self._runner is not None
        sampled = self._runner.sample(shards=list(enumerate(parts)), decoding=decoding, policy=self._policy(averaged))
        assert sampled.rollouts is not None
        return Rollout.concatenate([part for _, part in sampled.rollouts]), sampled.score_seconds

    def _policy(self, averaged: bool) -> Any:
        """For the runner in the driver: the local learner's policy itself, or a copy of the remote learners'."""
        learner = self.learner_group.local
        if learner is not None:
            return learner.trainee.chosen(averaged)
        assert self._runner is not None
        policy = self._runner.module.policy
        policy.load_state_dict(_tensors(self.learner_group.ask_first("weights", averaged=averaged)))
        return policy

    def _publish(self, averaged: bool) -> PublishedWeights:
        """The current weights for remote runners, put into the object store once."""
        if averaged not in self._published:
            self._weights_number += 1
            weights = self.learner_group.ask_first("weights", averaged=averaged)
            self._published[averaged] = PublishedWeights.put(self._weights_number, weights)
        return self._published[averaged]

    # ------------------------------------------------------------------------------------------------ state
    def start_phase(self, phase: Phase) -> None:
        """See ``Engine.start_phase``."""
        self._change("start_phase", phase, {"phase": phase})

    def pack(self) -> Tensors:
        """See ``Engine.get_state``."""
        return self._surviving(lambda: self.learner_group.ask_first("pack"))

    def unpack(self, state: Tensors, phase: Phase) -> None:
        """See ``Engine.set_state``."""
        self._change("unpack", phase, {"state": state, "phase": phase})

    def set_policy_weights(self, weights: Tensors) -> None:
        """See ``Engine.set_weights``."""
        self._change("set_weights", self._phase, {"weights": weights})

    def _change(self, method: str, phase: Phase, arguments: dict[str, Any]) -> None:
        """Change the state of all learners, and note the result as the point to come back to."""
        self._surviving(lambda: self.learner_group.ask_all(method, **arguments))
        self._published.clear()
        self._phase = phase
        self._surviving(self._take_snapshot)

    # --------------------------------------------------------------------------------------------- survival
    def _surviving(self, work: Callable[[], T]) -> T:
        """Do ``work``; when learners are lost, build them anew, bring them to where they were, and do it again."""
        lost: LearnersLost | None = None
        for _ in range(MAX_REBUILDS + 1):
            try:
                if lost is not None:
                    self._rebuild(lost)
                return work()
            except LearnersLost as error:
                lost = error
        raise WorkersFailed(f"learners were lost {MAX_REBUILDS + 1} times in a row ({lost}); is memory short?")

    def _rebuild(self, lost: LearnersLost) -> None:
        assert self._snapshot is not None
        logger.warning("%s; building the learners anew, %d updates back", lost, len(self._since_snapshot))
        try:
            self.learner_group.shutdown()
        except Exception:  # a group with dead members cannot always end in order
            logger.debug("the old learners did not shut down", exc_info=True)
        self._await_room_again()
        spec = self.config.get_multi_rl_module_spec(spaces=self.spaces, inference_only=False)
        self.learner_group = self.config.build_learner_group(rl_module_spec=spec)
        state, phase = self._snapshot
        self.learner_group.ask_all("unpack", state=state, phase=phase)
        self._published.clear()
        for stretch in _stretches(self._since_snapshot):
            self._do(stretch)

    def _await_room_again(self) -> None:
        try:
            await_room(self.experiment.compute, runners=False)
        except UserError as error:
            raise WorkersFailed(f"learners were lost and cannot be built anew: {error}") from error

    def _remember(self, stretch: list[UpdateRequest]) -> None:
        if self.learner_group.local is None:
            self._since_snapshot += stretch
            if len(self._since_snapshot) >= SNAPSHOT_EVERY:
                self._surviving(self._take_snapshot)

    def _take_snapshot(self) -> None:
        """Keep the state of remote learners in the driver; one in the driver lives and dies with it."""
        if self.learner_group.local is None:
            self._snapshot = self.learner_group.ask_first("pack"), self._phase
            self._since_snapshot = []


def _stretches(requests: list[UpdateRequest]) -> Iterator[list[UpdateRequest]]:
    """What learners can do in one call: consecutive mle updates, or one rl update."""
    for phase, group in groupby(requests, key=lambda request: request.phase):
        together = list(group)
        yield from [together] if phase == "mle" else [[request] for request in together]


def _check_finite(stats: dict[str, float], update: int) -> None:
    bad = {name: value for name, value in stats.items() if not math.isfinite(value)}
    if bad:
        raise TrainingError(not_finite(update, bad))


def _tensors(weights: Tensors) -> dict[str, Any]:
    return {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
