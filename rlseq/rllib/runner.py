"""The environment runner: whole rollouts, and no state but the weights."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from rlseq.models.policy import SequencePolicy
from rlseq.objectives.distribution import SamplingDistribution
from rlseq.rllib.context import Failure, WorkerContext, first_fault, guarded
from rlseq.rllib.module import SequenceModule
from rlseq.training.rollout import Rollout, RolloutRequest, rollout
from rlseq_envs.env import SequenceVectorEnv
from rlseq_envs.scoring import RolloutResult
from rlseq_envs.task import Ints


@dataclass(frozen=True)
class Sampled:
    """What a runner brings back.

    Attributes:
        runner: Its index.
        rollouts: Shard number and rollout of each shard; None: its weights are not the ones asked for.
        score_seconds: Time spent on rewards.
        cpu_seconds: Of its process, on all of it.
    """

    runner: int
    rollouts: list[tuple[int, Rollout]] | None
    score_seconds: float = 0.0
    cpu_seconds: float = 0.0


class SequenceEnvRunner(EnvRunner, Checkpointable):
    """Decodes and scores shards of instances.

    Tokens follow from seed, update and instance alone, so any runner may do any shard, at any time, again and again.
    """

    module: SequenceModule
    env: SequenceVectorEnv

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        """See ``EnvRunner``; index 0 is the runner in the driver."""
        super().__init__(config=config, **kwargs)
        self.context: WorkerContext = self.config.context
        self.device = self.config.runner_device(bool(self.worker_index))
        if self.worker_index:
            torch.set_num_threads(self.context.threads)
        self._weights_seq_no = 0
        self._score_seconds = 0.0
        self.fault: Failure | None = None
        if self.worker_index:
            self.fault = first_fault(("task", self.make_env), ("network", self.make_module))
        else:
            self.make_env()
            self.make_module()

    # ----------------------------------------------------------------------------------------- construction
    def make_env(self) -> None:
        """The registered vector environment; around the driver's own task, in the driver."""
        self.env = self.context.vector_env() if self.worker_index else SequenceVectorEnv(self.context.task())
        self.env.task.signature  # noqa: B018 it names the modules of the user's rewards, which are looked for now

    def make_module(self) -> None:
        """The policy, with weights that the first synchronisation replaces."""
        self.module = self.config.get_default_rl_module_spec().build()
        self.module.to(self.device)

    def get_spaces(self) -> dict[str, Any]:
        """Spaces of the environment, as RLlib asks for them."""
        env = self.env
        single = (env.single_observation_space, env.single_action_space)
        return {
            INPUT_ENV_SPACES: (env.observation_space, env.action_space),
            INPUT_ENV_SINGLE_SPACES: single,
            DEFAULT_MODULE_ID: single,
        }

    def assert_healthy(self) -> None:
        """Fail if construction did not end."""
        assert self.fault is not None or self.module is not None

    def find_fault(self) -> Failure | None:
        """Why there is no environment or no policy; None if there are both."""
        return self.fault

    def stop(self) -> None:
        """Close the environment."""
        if self.fault is None:
            self.env.close()

    # ---------------------------------------------------------------------------------------------- rollouts
    def sample(
        self, *, shards: list[tuple[int, Ints]], decoding: RolloutRequest, policy: SequencePolicy | None = None
    ) -> Sampled:
        """Roll out shards of instances.

        Args:
            shards: Number and ids of each.
            decoding: How.
            policy: To decode with; default: the runner's own.
        """
        policy = self.module.policy if policy is None else policy
        self._score_seconds, started = 0.0, time.process_time()
        rollouts = self._roll_out(policy, [ids for _, ids in shards], decoding)
        numbers = [number for number, _ in shards]
        numbered, seconds = list(zip(numbers, rollouts, strict=True)), time.process_time() - started
        return Sampled(self.worker_index, numbered, self._score_seconds, seconds)

    @guarded
    def sample_with(
        self, *, weights_seq_no: int, shards: list[tuple[int, Ints]], decoding: RolloutRequest
    ) -> Sampled | Failure:
        """``sample`` for the driver, unless the weights are not those of ``weights_seq_no``; see ``guarded``."""
        if self.fault is not None:
            return self.fault
        if weights_seq_no != self._weights_seq_no:
            return Sampled(self.worker_index, None)
        return self.sample(shards=shards, decoding=decoding)

    def _roll_out(self, policy: SequencePolicy, shards: list[Ints], decoding: RolloutRequest) -> list[Rollout]:
        seed, distribution = self.context.config.seed, SamplingDistribution.of(self.context.config.rl)
        return rollout(
            policy,
            self.env.task,
            self._score,
            shards,
            decoding,
            seed=seed,
            distribution=distribution,
            device=self.device,
        )

    def _score(self, ids: Ints, sequences: Ints, with_potentials: bool = False) -> RolloutResult:
        started = time.perf_counter()
        result = self.env.rollout(ids, sequences, with_potentials)
        self._score_seconds += time.perf_counter() - started
        return result

    # ------------------------------------------------------------------------------------------------ state
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The weights and their number."""
        if not self._check_component(COMPONENT_RL_MODULE, components, not_components):
            return {}
        return {COMPONENT_RL_MODULE: self.module.get_state(**kwargs), WEIGHTS_SEQ_NO: self._weights_seq_no}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take weights, unless they are here already.

        Numbers are compared for difference: after a restore, older weights must replace newer ones.
        """
        if COMPONENT_RL_MODULE in state and state[WEIGHTS_SEQ_NO] != self._weights_seq_no:
            weights = {name: torch.from_numpy(value.copy()) for name, value in state[COMPONENT_RL_MODULE].items()}
            self.module.load_state_dict(weights)
            self._weights_seq_no = state[WEIGHTS_SEQ_NO]

    def install(self, state: dict[str, Any]) -> int:
        """``set_state``, answered with the runner's index."""
        self.set_state(state)
        return self.worker_index

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See ``Checkpointable``."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """See ``Checkpointable``."""
        return [(COMPONENT_RL_MODULE, self.module)]
