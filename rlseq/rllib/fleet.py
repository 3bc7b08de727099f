"""The remote runners: weights sent and acknowledged, shards divided, and divided again when a runner is lost."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from rlseq.rllib.context import Failure
from rlseq.rllib.runner import Sampled
from rlseq.training.engine import Tensors, WorkersFailed
from rlseq.training.rollout import Rollout, RolloutRequest
from rlseq_envs.task import Ints

logger = logging.getLogger(__name__)

ATTEMPTS = 8  # rounds of dividing one rollout's shards before its loss of runners counts as systematic
PROBE_SECONDS = 0.2  # how long a round waits for lost runners to come back


@dataclass(frozen=True)
class PublishedWeights:
    """Weights in the object store, under a number that no other weights have."""

    number: int
    reference: Any

    @classmethod
    def put(cls, number: int, weights: Tensors) -> PublishedWeights:
        """Publish weights, by parameter name of the policy."""
        named = {f"policy.{name}": value for name, value in weights.items()}
        return cls(number, ray.put({COMPONENT_RL_MODULE: named, WEIGHTS_SEQ_NO: number}))


class RunnerGroup(EnvRunnerGroup):
    """RLlib's group, whose runners are given their configuration by value.

    By reference, as RLlib does it, a runner could not start again once the object is lost.
    """

    def _make_worker(self, *, config: Any, **kwargs: Any) -> Any:
        return super()._make_worker(config=self._remote_config, **kwargs)


class RunnerFleet:
    """Has remote runners roll out shards.

    Args:
        group: The runners.
        timeout: Seconds after which a silent runner counts as lost, and after which having none left is an error.
    """

    def __init__(self, group: RunnerGroup, timeout: float) -> None:
        self.group, self.timeout = group, timeout
        self._holding: dict[int, int] = {}  # runner → number of the weights it acknowledged

    def check(self) -> None:
        """Have runners tell why they cannot make their environments or policies.

        Raises:
            UserError: One cannot; most often a module is not there.
        """
        runners = self.group.healthy_env_runner_ids()
        for fault in self._call(runners, "find_fault", [{}] * len(runners)):
            if fault is not None:
                fault.raise_error("an environment runner cannot start: ")

    def sample(
        self, parts: list[Ints], decoding: RolloutRequest, weights: PublishedWeights
    ) -> tuple[list[Rollout], float, float]:
        """Rollouts of ``parts`` in their order, seconds spent on rewards by the slowest runner, CPU seconds of all.

        Raises:
            WorkersFailed: A runner reported an error, or runners are lost again and again.
        """
        done: dict[int, Rollout] = {}
        seconds = cpu_seconds = 0.0
        for _ in range(ATTEMPTS):
            missing = [number for number in range(len(parts)) if number not in done]
            if not missing:
                return [done[number] for number in range(len(parts))], seconds, cpu_seconds
            runners = self._ready(weights, decoding.update)
            for sampled in self._ask(runners, [(number, parts[number]) for number in missing], decoding, weights):
                done |= dict(sampled.rollouts or ())
                seconds, cpu_seconds = max(seconds, sampled.score_seconds), cpu_seconds + sampled.cpu_seconds
        raise WorkersFailed(
            f"update {decoding.update}: environment runners were lost {ATTEMPTS} times in a row; is memory short? "
            "Set compute.runners to 0 to see the cause"
        )

    def _ask(
        self, runners: list[int], jobs: list[tuple[int, Ints]], decoding: RolloutRequest, weights: PublishedWeights
    ) -> list[Sampled]:
        """Divide jobs over runners, in equal numbers; answers of those that did theirs."""
        runners = runners[: len(jobs)]
        divided = [[jobs[i] for i in part] for part in np.array_split(np.arange(len(jobs)), len(runners))]
        answers = self._call(
            runners,
            "sample_with",
            [{"weights_seq_no": weights.number, "shards": part, "decoding": decoding} for part in divided],
        )
        for answer in answers:
            if isinstance(answer, Failure):
                answer.raise_error(f"update {decoding.update}: an environment runner failed: ")
        self._forget(runners, [answer.runner for answer in answers])
        self._holding |= {answer.runner: -1 for answer in answers if answer.rollouts is None}
        return answers

    def _ready(self, weights: PublishedWeights, update: int) -> list[int]:
        """Healthy runners that hold the weights; waits until there is one."""
        deadline = time.monotonic() + self.timeout
        while True:
            self._revive()
            stale = [r for r in self.group.healthy_env_runner_ids() if self._holding.get(r) != weights.number]
            if stale:
                installed = self._call(stale, "install", [{"state": weights.reference}] * len(stale))
                self._holding |= dict.fromkeys(installed, weights.number)
                self._forget(stale, installed)
            ready = [r for r in self.group.healthy_env_runner_ids() if self._holding.get(r) == weights.number]
            if ready:
                return ready
            if time.monotonic() > deadline:
                raise WorkersFailed(f"update {update}: no environment runner came back in {self.timeout:g} seconds")

    def _call(self, runners: list[int], method: str, arguments: list[dict[str, Any]]) -> list[Any]:
        """Answers that came in time; a runner that died is out of service from here on."""
        return self.group.foreach_env_runner(
            [method] * len(runners),
            kwargs=arguments,
            local_env_runner=False,
            remote_worker_ids=runners,
            timeout_seconds=self.timeout,
        )

    def _forget(self, asked: list[int], answered: list[int]) -> None:
        """Take runners that did not answer out of service, and end those that are merely silent."""
        healthy = self.group.healthy_env_runner_ids()
        for runner in sorted(set(asked) - set(answered)):
            logger.warning("environment runner %d was lost; its work goes to the others until it is back", runner)
            self._holding.pop(runner, None)
            if runner in healthy:
                manager = self.group._worker_manager
                ray.kill(manager._actors[runner], no_restart=False)
                manager.set_actor_state(runner, healthy=False)

    def _revive(self) -> None:
        """Put runners that Ray restarted back into service, without waiting for those that are still starting."""
        if self.group.num_healthy_remote_env_runners() < self.group.num_remote_env_runners():
            for runner in self.group.probe_unhealthy_env_runners(PROBE_SECONDS):
                logger.warning("environment runner %d is back", runner)
                self._holding.pop(runner, None)
