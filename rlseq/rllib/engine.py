"""The engine that the trainer uses: RLlib, in one process or in many."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch

from rlseq.config.phases import Phase
from rlseq.config.schema import ComputeConfig, Config
from rlseq.models.spaces import TaskSpaces
from rlseq.rllib import cluster
from rlseq.rllib.algorithm import SequenceAlgorithm
from rlseq.rllib.context import WorkerContext
from rlseq.rllib.luggage import Luggage
from rlseq.rllib.watch import HeadWatch
from rlseq.training.engine import Tensors, UpdateRequest
from rlseq.training.rollout import Rollout, RolloutRequest
from rlseq_envs.env import SequenceVectorEnv
from rlseq_envs.task import Ints, SequenceTask


class RllibEngine:
    """Implements ``Engine`` on RLlib's new API stack; see there for all methods.

    With no runners and no learners everything happens in this process and Ray is not started.

    Args:
        config: The experiment; ``compute`` says where the work is done.
        task: Its task.
        artifacts_dir: Artifacts of the task (a vocabulary), from which workers make theirs; may be empty. Beside it,
            Ray's complaints are kept.

    Raises:
        ValueError: There are more learners than rows in what a step is taken on, or more GPUs are asked for than there
            are.
    """

    def __init__(self, config: Config, task: SequenceTask, artifacts_dir: Path | None = None) -> None:
        _check(config)
        _quieten()
        compute = config.compute
        if compute.threads and not compute.learners:
            torch.set_num_threads(compute.threads)
        self._task = task  # held here: workers in this process borrow it
        self._owns_cluster = False
        self._watch: HeadWatch | None = None
        if cluster.needs_cluster(compute):
            log = None if artifacts_dir is None else artifacts_dir.parent / "ray.log"
            self._owns_cluster, self._watch = cluster.start(compute, log), HeadWatch()
        try:
            self.algorithm = self._build(config, task, artifacts_dir)
        except BaseException:
            self._leave_cluster()
            raise

    def _build(self, config: Config, task: SequenceTask, artifacts_dir: Path | None) -> SequenceAlgorithm:
        compute = config.compute
        luggage = data = None
        if compute.runners or compute.learners:
            luggage = cluster.publish(Luggage.of(config, artifacts_dir))
            shared = task.shared_data()
            data = None if shared is None else cluster.publish(shared)
        context = WorkerContext(config, TaskSpaces.of(task), worker_threads(compute), luggage, data)
        context.lend(task)
        settings = SequenceAlgorithm.get_default_config().for_experiment(context, SequenceVectorEnv(task))
        return SequenceAlgorithm(config=settings)

    def start_phase(self, phase: Phase) -> None:
        """See ``Engine.start_phase``."""
        self.algorithm.start_phase(phase)

    def update(self, requests: list[UpdateRequest]) -> list[dict[str, float]]:
        """See ``Engine.update``; it may raise WorkersFailed."""
        self._check_cluster()
        started, self.algorithm.worker_seconds = time.process_time(), 0.0
        self.algorithm.requests = requests
        self.algorithm.train()
        seconds = (time.process_time() - started + self.algorithm.worker_seconds) / len(requests)
        return [stats | {"time/cpu_seconds": seconds} for stats in self.algorithm.statistics]

    def rollout(self, ids: Ints, decoding: RolloutRequest, *, averaged: bool) -> Rollout:
        """See ``Engine.rollout``; it may raise WorkersFailed."""
        self._check_cluster()
        return self.algorithm.roll_out(ids, decoding, averaged=averaged)

    def get_state(self) -> Tensors:
        """See ``Engine.get_state``."""
        return self.algorithm.pack()

    def set_state(self, state: Tensors, phase: Phase) -> None:
        """See ``Engine.set_state``."""
        self.algorithm.unpack(state, phase)

    def set_weights(self, weights: Tensors) -> None:
        """See ``Engine.set_weights``."""
        self.algorithm.set_policy_weights(weights)

    def close(self) -> None:
        """See ``Engine.close``."""
        self.algorithm.stop()
        self._leave_cluster()

    def _check_cluster(self) -> None:
        if self._watch is not None:
            self._watch.check()

    def _leave_cluster(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        if self._owns_cluster:
            cluster.stop()


def worker_threads(compute: ComputeConfig) -> int:
    """Torch threads of a worker process: as configured, or this process's divided among the workers.

    The number of threads can change a log-probability's last bit. Tokens are drawn alike whoever draws them; for runs
    that are equal to the last bit wherever the work is done, set ``compute.threads``.
    """
    return compute.threads or max(1, torch.get_num_threads() // max(1, compute.runners + compute.learners))


def _quieten() -> None:
    """Ray's warnings are about settings that are meant here; lost workers are reported by ourselves."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.rllib").setLevel(logging.CRITICAL)


def _check(config: Config) -> None:
    compute = config.compute
    for section in (config.mle, config.rl):
        size, parts = section.batch_size, section.minibatches
        if section.batch_type == "instance" and compute.learners > size // parts:
            rows = f"batch_size {size}{f' in {parts} mini-batches' if parts > 1 else ''}"
            raise ValueError(f"compute.learners {compute.learners} is more than {rows} has rows: lower it")
    gpus = compute.learners * compute.learner_gpus + compute.runners * compute.runner_gpus
    if cluster.place_of(compute) is None and gpus > torch.cuda.device_count():
        raise ValueError(
            f"compute asks for {gpus:g} GPUs and this machine has {torch.cuda.device_count()}: "
            "lower learner_gpus or runner_gpus, or give the address of a cluster"
        )
