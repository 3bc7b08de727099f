"""No runners, no learners: RLlib in this process, held against the plain loop."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlseq.config.baselines import CriticConfig
from rlseq.config.objectives import MixerConfig, MRTConfig, PPOConfig
from rlseq.rllib import cluster, engine, learner, module
from rlseq.rllib.algorithm import SequenceAlgorithm
from rlseq.rllib.config import SequenceConfig
from rlseq.rllib.context import WorkerContext
from rlseq.training.batch import to_tensors
from rlseq.training.engine import TrainingError
from rlseq.training.rollout import RolloutRequest
from rlseq.training.update import batch_loss
from rlseq_envs.env import SequenceVectorEnv
from tests.rllib.tools import (
    BATCH,
    EVERYTHING,
    assert_equal,
    both_phases,
    config,
    ids,
    make_engine,
    make_plain,
    nan_rewards,
    requests,
    without_times,
)

RECIPES = {
    "everything": EVERYTHING,
    "self_critical": {"baseline": "greedy"},
    "leave_one_out": {"baseline": "leave_one_out", "samples": 3, "entropy": 0.01, "normalize_advantage": "batch"},
    "bf16": {"baseline": "greedy", "precision": "bf16", "sampling_precision": "bf16"},
    "mrt": {"objective": MRTConfig(alpha=0.5), "baseline": "none", "samples": 3, "kl": 0.1},
    "mixer": {"objective": MixerConfig(step=1, every=2), "samples": 2},
    "critic": {
        "baseline": CriticConfig(hidden_size=8),
        "samples": 2,
        "variance_every": 2,
        "cross_entropy": 0.1,
    },
    "actor_critic": {
        "baseline": CriticConfig(shaped=True, gae_lambda=0.9),
        "samples": 2,
        "variance_every": 2,
    },
    "ppo_actor_critic": {
        "objective": PPOConfig(epochs=2),
        "baseline": CriticConfig(shaped=True, gae_lambda=0.5),
    },
    "ppo": {"objective": PPOConfig(epochs=3, clip=0.01), "variance_every": 1, "kl": 0.1, "entropy": 0.01},
    "minibatches": {
        "objective": PPOConfig(epochs=2, minibatches=5, clip=0.01, clip_high=0.02),
        "variance_every": 2,
        "cross_entropy": 0.1,
    },
    "dynamic": {"samples": 3, "baseline": "mean", "dynamic_sampling": 2, "normalize_advantage": "instance"},
    "starts": {"samples": 3, "baseline": "leave_one_out", "starts": "task", "kl": 0.1},
    "all_of_them": {
        "objective": PPOConfig(epochs=2, minibatches=2, ratio="sequence"),
        "samples": 3,
        "baseline": "leave_one_out",
        "dynamic_sampling": 1,
        "variance_every": 1,
        "starts": "task",
    },
    "ppo_bf16": {"objective": PPOConfig(ratio="sequence"), "sampling_precision": "bf16"},
    "in parts": EVERYTHING | {"accumulation": 5, "variance_every": 2},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_updates_of_both_phases_equal_the_plain_loop_to_the_bit(recipe: str) -> None:
    experiment = config(**RECIPES[recipe])
    ours, plain = make_engine(experiment), make_plain(experiment)
    assert without_times(both_phases(ours)) == without_times(both_phases(plain))
    assert_equal(ours.get_state(), plain.get_state())


@pytest.mark.parametrize("recipe", [name for name, keys in RECIPES.items() if "precision" not in str(keys)])
def test_a_step_whose_rows_are_read_in_parts_is_the_step(recipe: str) -> None:
    keys = RECIPES[recipe] | {"dropout": False}
    whole, parts = (make_engine(config(policy_dropout=0.0, **keys | {"accumulation": n})) for n in (1, 5))
    statistics = (without_times(both_phases(each, 3, 2)) for each in (parts, whole))
    for ours, theirs in zip(*statistics, strict=True):
        compared = {"train/loss", "train/nll", "train/value_loss", "train/kl", "train/grad_norm", "train/grad_variance"}
        for tag in ours.keys() & compared:
            assert ours[tag] == pytest.approx(theirs[tag], abs=1e-5, rel=1e-3), tag
    assert_equal(parts.get_state(), whole.get_state(), 5e-5)  # sums in another order, through Adam


def test_instances_are_redrawn_in_the_recipes_that_say_so() -> None:
    for recipe in ("dynamic", "all_of_them"):
        statistics = both_phases(make_engine(config(**RECIPES[recipe])))[4:]
        assert any(row["rollout/drawn_ratio"] > 1 and 0 < row["rollout/kept_frac"] < 1 for row in statistics)
        assert all(row["rollout/drawn_ratio"] == 1 for row in statistics if row["rollout/kept_frac"] == 1)


def test_one_update_a_call_equals_many() -> None:
    one, many = make_engine(config()), make_engine(config())
    statistics = [one.update([request])[0] for request in requests("mle", 0, 4)]
    assert without_times(statistics) == without_times(many.update(requests("mle", 0, 4)))
    assert_equal(one.get_state(), many.get_state())


@pytest.mark.parametrize("averaged", [False, True])
def test_rollouts_equal_the_plain_loops(averaged: bool) -> None:
    ours, plain = make_engine(config()), make_plain(config())
    drawn = []
    for each in (ours, plain):
        each.update(requests("mle", 0, 5))
        drawn.append(each.rollout(ids(3, 10), RolloutRequest(2, True, 7), averaged=averaged))
    for column in ("ids", "sequences", "lengths", "log_probs", "rewards", "truncated"):
        np.testing.assert_array_equal(getattr(drawn[0], column), getattr(drawn[1], column))


def test_averaged_rollouts_use_the_average() -> None:
    ours = make_engine(config())
    ours.update(requests("mle", 0, 5))
    live, averaged = (
        ours.rollout(ids(3), RolloutRequest(1, False, 7), averaged=choice).log_probs for choice in (False, True)
    )
    assert not np.array_equal(live, averaged)


@pytest.mark.parametrize("phase", ["mle", "rl"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(phase: str) -> None:
    experiment = config(**EVERYTHING)
    whole = make_engine(experiment)
    if phase == "rl":
        both_phases(whole)
    else:
        whole.update(requests("mle", 0, 8))
    saved = copy.deepcopy(whole.get_state())
    resumed = make_engine(experiment)
    resumed.set_state(saved, phase)  # type: ignore[arg-type]
    for each in (whole, resumed):
        each.update(requests(phase, 8, 4))  # type: ignore[arg-type]
    assert_equal(resumed.get_state(), whole.get_state())


def test_a_state_is_independent_of_what_happens_after() -> None:
    ours = make_engine(config())
    ours.update(requests("mle", 0, 2))
    state = ours.get_state()
    kept = copy.deepcopy(state)
    ours.update(requests("mle", 2, 2))
    assert_equal(state, kept)


def test_an_older_state_replaces_a_newer_one() -> None:
    """Weights are gated by being other weights, not by being newer ones."""
    ours = make_engine(config())
    ours.update(requests("mle", 0, 2))
    older = ours.get_state()
    drawn = ours.rollout(ids(1), RolloutRequest(1, True, 1), averaged=False)
    ours.update(requests("mle", 2, 6))
    ours.set_state(older, "mle")
    assert_equal(ours.get_state(), older)
    again = ours.rollout(ids(1), RolloutRequest(1, True, 1), averaged=False)
    np.testing.assert_array_equal(again.log_probs, drawn.log_probs)


def test_starting_a_phase_renews_optimiser_average_and_reference() -> None:
    ours = make_engine(config(**EVERYTHING))
    ours.update(requests("mle", 0, 3))
    ours.start_phase("rl")
    state = ours.get_state()
    assert not any(name.startswith("optimizer/") for name in state)
    for name, value in state.items():
        kind, _, parameter = name.partition("/")
        if kind in ("average", "reference"):
            np.testing.assert_array_equal(value, state[f"policy/{parameter}"])


def test_weights_are_replaced_alone() -> None:
    ours, other = make_engine(config()), make_engine(config())
    ours.update(requests("mle", 0, 2))
    other.update(requests("mle", 5, 2))
    before = ours.get_state()
    weights = {n.removeprefix("policy/"): v for n, v in other.get_state().items() if n.startswith("policy/")}
    ours.set_weights(weights)
    after = ours.get_state()
    for name, value in after.items():
        np.testing.assert_array_equal(value, other.get_state()[name] if name.startswith("policy/") else before[name])


def test_times_are_fractions_of_the_update() -> None:
    for stats in both_phases(make_engine(config()))[4:]:
        fractions = [stats[f"time/{part}_frac"] for part in ("sample", "score", "update")]
        assert all(0 <= fraction <= 1 for fraction in fractions)
        assert math.isclose(sum(fractions), 1.0, rel_tol=1e-9)
        assert stats["time/tokens_per_sec"] > 0


# ---------------------------------------------------------------------------------------------------- not finite
def test_a_reward_that_is_nan_stops_before_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = make_engine(config())
    ours.start_phase("rl")
    ours.update(requests("rl", 0, 1))
    before = ours.get_state()
    task: Any = ours.algorithm.task
    monkeypatch.setattr(task, "reward", nan_rewards(task))
    with pytest.raises(TrainingError, match=r"update 3: .*rollout/reward_mean.* is not finite; no step was taken"):
        ours.update(requests("rl", 3, 1))
    assert_equal(ours.get_state(), before)


@pytest.mark.parametrize(
    ("poison", "statistic"),
    [(lambda loss, at: loss * math.nan, "train/loss"), (lambda loss, at: loss + at.sqrt(), "train/grad_norm")],
)
def test_a_loss_or_gradient_that_is_not_finite_stops_before_the_step(
    poison: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], statistic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The square root at 0 is finite and its slope is not. RLlib would step on a gradient with zeros for NaNs."""
    ours = make_engine(config())
    ours.update(requests("mle", 0, 2))
    before, real = ours.get_state(), batch_loss

    def poisoned(policy: Any, *arguments: Any) -> Any:
        parameter = next(policy.parameters())
        loss, parts = real(policy, *arguments)
        loss = poison(loss, (parameter - parameter.detach()).square().sum())
        return loss, parts | {"train/loss": loss.detach()}

    monkeypatch.setattr(module, "batch_loss", poisoned)
    with pytest.raises(TrainingError, match=rf"update 2: .*{statistic}.* is not finite; no step was taken"):
        ours.update(requests("mle", 2, 1))
    assert_equal(ours.get_state(), before)
    monkeypatch.undo()
    ours.update(requests("mle", 3, 1))  # and the engine is still good


# ----------------------------------------------------------------------------------------------- construction
def test_nothing_in_other_processes_starts_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "start", lambda compute: pytest.fail("Ray was started"))
    both_phases(make_engine(config()), 1, 1)


def test_no_result_directory_appears_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    both_phases(make_engine(config()), 1, 1)
    assert not list(tmp_path.iterdir())


def test_more_learners_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=rf"compute.learners {BATCH + 1} is more than batch_size {BATCH}"):
        make_engine(config(learners=BATCH + 1))
    with pytest.raises(ValueError, match=rf"compute.learners 3 is more than batch_size {BATCH} in 5 mini-batches"):
        make_engine(config(learners=3, objective=PPOConfig(minibatches=5)))


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would wait for them without end."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    experiment = config(runners=3)
    compute = experiment.compute.model_copy(update={"runner_gpus": 0.5})
    with pytest.raises(ValueError, match=r"compute asks for 1.5 GPUs and this machine has 1"):
        make_engine(experiment.model_copy(update={"compute": compute}))


def test_threads_of_a_worker_are_its_share_of_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    compute = config(runners=2, learners=1).compute
    assert engine.worker_threads(compute) == 2
    assert engine.worker_threads(compute.model_copy(update={"threads": 5})) == 5


def settings(runners: int = 0, **compute: Any) -> SequenceConfig:
    experiment = config(runners)
    experiment = experiment.model_copy(update={"compute": experiment.compute.model_copy(update=compute)})
    ours = make_engine(config())
    context = WorkerContext(experiment, ours.algorithm.config.context.spaces)
    return SequenceAlgorithm.get_default_config().for_experiment(context, SequenceVectorEnv(ours.algorithm.task))


def test_the_driver_decodes_on_the_device_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """RLlib's own runner in the driver would always take the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert settings(device="auto").runner_device(remote=False).type == "cuda"
    assert settings(device="cpu").runner_device(remote=False).type == "cpu"
    assert settings(runners=1, runner_gpus=0.5).runner_device(remote=True).type == "cuda"
    assert settings(runners=1, device="auto").runner_device(remote=True).type == "cpu"


def test_the_learner_in_the_driver_is_where_asked_for_and_asks_ray_for_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """RLlib starts a Ray cluster, with all defaults, to look for the GPU of a learner in the driver."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert settings(device="auto").num_gpus_per_learner == 0
    made = make_engine(config())
    monkeypatch.setattr(learner, "driver_device", lambda device: torch.device("meta"))
    assert made.algorithm.learner_group._learner._device.type == "meta"


def test_settings_hold_no_data_and_survive_copies_and_pickling() -> None:
    """RLlib copies its configuration again and again, and refuses arrays in it."""
    ours = settings()
    for twin in (ours.copy(), pickle.loads(pickle.dumps(ours)), SequenceConfig().from_state(ours.get_state())):
        assert twin.context == ours.context
        assert not twin.torch_skip_nan_gradients
        assert twin.delay_between_env_runner_restarts_s == 1.0
    assert len(pickle.dumps(ours.context)) < 20_000


def test_the_module_is_stateless_and_no_column_is_named_like_rllibs_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either would have RLlib slice batches by sequence."""
    ours = make_engine(config())
    local = ours.algorithm.learner_group.local
    assert local is not None
    assert not local.module["default_policy"].is_stateful()
    names: set[str] = set()
    real = to_tensors
    monkeypatch.setattr(
        learner, "to_tensors", lambda batches, device: (names.update(*batches), real(batches, device))[1]
    )
    both_phases(ours, 1, 1)
    assert names and "seq_lens" not in names


def test_the_runner_takes_other_weights_and_keeps_equal_ones() -> None:
    runner = make_engine(config()).algorithm._runner
    assert runner is not None
    state = runner.get_state()
    assert runner.get_state(not_components="rl_module") == {}
    ones = {name: np.ones_like(value) for name, value in state["rl_module"].items()}
    runner.set_state({"rl_module": ones, "weights_seq_no": 5})
    runner.set_state({"rl_module": state["rl_module"], "weights_seq_no": 5})
    assert_equal(runner.get_state()["rl_module"], ones)
    runner.set_state({"rl_module": state["rl_module"], "weights_seq_no": 4})
    assert_equal(runner.get_state()["rl_module"], state["rl_module"])
    decoding = RolloutRequest(1, False, 0)
    assert runner.sample_with(weights_seq_no=5, shards=[(0, ids(0))], decoding=decoding).rollouts is None
    assert len(runner.sample_with(weights_seq_no=4, shards=[(0, ids(0))], decoding=decoding).rollouts) == 1
