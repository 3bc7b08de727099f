"""RLlib's configuration of an experiment: fixed where a setting is a trap, filled from ours elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rlseq.rllib.context import WorkerContext, driver_device
from rlseq.rllib.learner import SequenceLearner
from rlseq.rllib.learner_group import SequenceLearnerGroup
from rlseq.rllib.module import SequenceModule
from rlseq.rllib.runner import SequenceEnvRunner
from rlseq_envs.env import SequenceVectorEnv


class SequenceConfig(AlgorithmConfig):
    """The settings that RLlib's parts are built with.

    Attributes:
        context: What every worker is built from.
    """

    context: WorkerContext

    def __init__(self, algo_class: type | None = None) -> None:
        """Fix what does not depend on the experiment."""
        super().__init__(algo_class=algo_class)
        self.env_runner_cls = SequenceEnvRunner
        self.torch_skip_nan_gradients = False  # would let them through; the learner refuses them itself
        self.max_requests_in_flight_per_env_runner = 8  # beyond it, requests are dropped without a word
        self.delay_between_env_runner_restarts_s = 1.0  # the default has a failing runner sleep for a minute
        self.restart_failed_env_runners = True
        # Runners have no connectors whose states were to be merged and sent round.
        self._dont_auto_sync_env_runner_states = True
        # RLlib builds no runners for an algorithm that is not "online". The algorithm builds its own, so that with
        # none in other processes no Ray cluster is needed.
        self._is_online = False
        self.debugging(log_level="CRITICAL", log_sys_usage=False)

    def for_experiment(self, context: WorkerContext, env: SequenceVectorEnv) -> SequenceConfig:
        """Fill in an experiment; ``env`` gives the spaces."""
        compute = context.config.compute
        self.context = context
        self.environment(observation_space=env.single_observation_space, action_space=env.single_action_space)
        self.env_runners(
            num_env_runners=compute.runners, num_cpus_per_env_runner=1, num_gpus_per_env_runner=compute.runner_gpus
        )
        # A learner in the driver takes its device from us: asked for a GPU, RLlib would start a Ray cluster of its own.
        self.learners(
            num_learners=compute.learners, num_gpus_per_learner=compute.learner_gpus if compute.learners else 0
        )
        return self

    def runner_device(self, remote: bool) -> torch.device:
        """Where a runner decodes; RLlib's own runner in the driver would always take the CPU."""
        if remote:
            return torch.device("cuda" if self.num_gpus_per_env_runner else "cpu")
        return driver_device(self.context.config.compute.device)

    def get_default_learner_class(self) -> type[SequenceLearner]:
        """See ``AlgorithmConfig``."""
        return SequenceLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """See ``AlgorithmConfig``."""
        return RLModuleSpec(
            module_class=SequenceModule,
            observation_space=self.observation_space,
            action_space=self.action_space,
            model_config={"context": self.context},
        )

    def build_learner_group(self, *, rl_module_spec: Any = None, **kwargs: Any) -> SequenceLearnerGroup:
        """See ``AlgorithmConfig``."""
        return SequenceLearnerGroup(config=self.copy(), module_spec=rl_module_spec)
