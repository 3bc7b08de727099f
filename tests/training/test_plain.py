"""The plain loop: continues to the bit, refuses what is not finite, and keeps its phases apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlseq.config.phases import Phase
from rlseq.config.schema import Config
from rlseq.data.tasks import make_vector_env
from rlseq.evaluation.likelihood import likelihood
from rlseq.evaluation.loading import load_policy
from rlseq.objectives.distribution import SamplingDistribution
from rlseq.training import plain, trainee
from rlseq.training.batch import rl_batch
from rlseq.training.engine import Tensors, TrainingError, UpdateRequest, policy_weights
from rlseq.training.plain import PlainEngine
from rlseq.training.rollout import RolloutRequest
from rlseq.training.trust import Trust
from rlseq.training.update import RESAMPLED, batch_loss
from rlseq.training.validation import measure
from rlseq_envs.env import SequenceVectorEnv
from tests.support import HULL, REVERSE, SMALL_ATTENTION, SMALL_POINTER, ReverseTask, tiny_config
from tests.training.scripted import scripted_config, trainer_of

RL = {"samples": 2, "kl": 0.1, "entropy": 0.01, "cross_entropy": 0.1, "average": 0.9, "dropout": True}
MLE = {"average": 0.5, "label_smoothing": 0.1}


def config(task: str = "hull", **sections: Any) -> Config:
    kind = (HULL | {"max_points": 7}, SMALL_POINTER) if task == "hull" else (REVERSE, SMALL_ATTENTION)
    return tiny_config(*kind, **({"mle": MLE, "rl": RL} | sections))


def engine(settings: Config, score: Any = None) -> PlainEngine:
    env = make_vector_env(settings.task)
    return PlainEngine(settings, env.task, score or env.rollout)


def requests(phase: Phase, updates: range, rate: float = 3e-3, first: int = 0) -> list[UpdateRequest]:
    return [
        UpdateRequest(phase, first + number, number, np.arange(8) + 8 * (first + number), rate) for number in updates
    ]


def untimed(statistics: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{tag: value for tag, value in stats.items() if not tag.startswith("time/")} for stats in statistics]


def assert_same(ours: Tensors, theirs: Tensors) -> None:
    """To the bit."""
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []


@pytest.fixture(params=["hull", "reverse"])
def settings(request: pytest.FixtureRequest) -> Config:
    return config(request.param)


# ------------------------------------------------------------------------------------------------ sampling distribution
@pytest.mark.parametrize("keys", [{"top_k": 2, "temperature": 0.8}, {"top_p": 0.7}])
def test_samples_are_of_the_configured_distribution_and_train_under_it(keys: dict[str, Any]) -> None:
    settings = config("reverse", rl=RL | {"baseline": "leave_one_out", "samples": 4} | keys)
    trained, ids = engine(settings), np.arange(8)
    out = trained.rollout(ids, RolloutRequest(4, False, 0), averaged=False)
    source = trained.task.source(ids.repeat(4)).map(torch.from_numpy)
    rows, lengths = torch.from_numpy(out.sequences).flatten(0, 1), torch.from_numpy(out.lengths).flatten()
    with torch.no_grad():
        policy = trained.trainee.policy.eval()
        logits = policy.token_logits(policy.encode(source), rows, lengths)
    distribution, real = (
        SamplingDistribution(keys.get("temperature", 1.0), keys.get("top_k"), keys.get("top_p", 1.0)),
        lengths.tolist(),
    )
    tokens = torch.cat([row[:length] for row, length in zip(rows, real, strict=True)])
    taken = distribution.logits(logits).log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    expected = [float(part.sum()) for part in taken.split(real)]
    np.testing.assert_allclose(out.log_probs.flatten(), expected, atol=1e-5)
    before = policy_weights(trained.get_state())
    trained.start_phase("rl")
    assert all(np.isfinite(list(stats.values())).all() for stats in trained.update(requests("rl", range(2))))
    after = policy_weights(trained.get_state())
    assert any(not np.array_equal(before[name], after[name]) for name in before)


# ------------------------------------------------------------------------------------------------------ continuation
@pytest.mark.parametrize("phase", ["mle", "rl"])
def test_a_restored_engine_continues_to_the_bit(settings: Config, phase: Phase) -> None:
    straight = engine(settings)
    straight.update(requests("mle", range(3)))
    straight.start_phase(phase)
    straight.update(requests(phase, range(3), first=3))
    saved = {name: value.copy() for name, value in straight.get_state().items()}
    after = straight.update(requests(phase, range(3, 6), first=3))

    restored = engine(settings)
    restored.update(requests("mle", range(1), rate=0.1))  # whatever it did before
    torch.rand(5)
    restored.set_state(saved, phase)
    assert_same(restored.get_state(), saved)
    assert untimed(restored.update(requests(phase, range(3, 6), first=3))) == untimed(after)
    assert_same(restored.get_state(), straight.get_state())
    kinds = {name.split("/")[0] for name in saved}
    assert kinds == {"policy", "average", "optimizer"} | ({"reference"} if phase == "rl" else set())


def test_a_saved_state_is_a_copy(settings: Config) -> None:
    ours = engine(settings)
    ours.update(requests("mle", range(1)))
    saved = ours.get_state()
    before = {name: value.copy() for name, value in saved.items()}
    ours.update(requests("mle", range(1, 3)))
    assert_same(saved, before)
    ours.set_state(saved, "mle")
    ours.update(requests("mle", range(3, 4)))
    assert_same(saved, before)


def test_updates_in_one_call_or_several_and_whatever_else_draws_random_numbers(settings: Config) -> None:
    first, second = engine(settings), engine(settings)
    together = first.update(requests("mle", range(4)))
    apart = []
    for request in requests("mle", range(4)):
        torch.manual_seed(request.update + 99)
        second.rollout(np.arange(3), RolloutRequest(1, True, 0), averaged=True)
        apart += second.update([request])
    assert untimed(together) == untimed(apart)
    assert_same(first.get_state(), second.get_state())


def test_the_seed_of_the_run_changes_weights_samples_and_dropout() -> None:
    def after(seed: int, weights: Tensors | None = None) -> tuple[Tensors, dict[str, float]]:
        ours = engine(config(seed=seed))
        if weights:
            ours.set_weights(weights)
        ours.start_phase("rl")
        stats = ours.update(requests("rl", range(1)))[0]
        return policy_weights(ours.get_state()), stats

    start = policy_weights(engine(config(seed=0)).get_state())
    (ours, stats), (theirs, others) = after(0, start), after(1, start)
    assert stats["train/entropy"] != others["train/entropy"]
    assert any(not np.array_equal(ours[name], theirs[name]) for name in ours)


# ------------------------------------------------------------------------------------------------------------ phases
def test_a_phase_starts_with_a_fresh_optimiser_its_weights_as_reference_and_average(settings: Config) -> None:
    ours = engine(settings)
    ours.update(requests("mle", range(3)))
    trained = {name: value for name, value in ours.get_state().items() if name.startswith("policy/")}
    ours.start_phase("rl")
    state = ours.get_state()
    assert not any(name.startswith("optimizer/") for name in state)
    for prefix in ("policy", "average", "reference"):
        found = {name.replace(prefix, "policy", 1): v for name, v in state.items() if name.startswith(f"{prefix}/")}
        assert_same(found, trained)
    ours.update(requests("rl", range(2), rate=0.05))
    moved = ours.get_state()
    for name, value in trained.items():
        assert np.array_equal(moved[name.replace("policy", "reference", 1)], value)
    assert any(not np.array_equal(moved[name], value) for name, value in trained.items())


def test_a_task_that_asks_is_told_how_likely_its_references_are(tmp_path: Path) -> None:
    task = ReverseTask()
    task.validates_likelihood = True
    settings = scripted_config(
        mle={"updates": 2}, rl={"updates": 0}, evaluation={"max_instances": 6, "samples_shown": 0}
    )
    ours = PlainEngine(settings, task, SequenceVectorEnv(task).rollout)
    trainer, recorder = trainer_of(settings, ours, tmp_path / "run", task)
    trainer.train()
    event = next(event for event in reversed(recorder.validations) if event.best)
    loaded = load_policy(tmp_path / "run", trust=Trust(everything=True))
    expected = likelihood(loaded, split="validation", max_instances=6).means
    for name, value in expected.items():
        assert math.isclose(event.metrics[name], value, rel_tol=1e-5)
    assert ours.rollout(np.arange(2), RolloutRequest(0, True, 0), averaged=True).reference_nats is None


class LikelyTask(ReverseTask):
    """Chosen by likelihood in mle, by accuracy in rl; validations look at samples."""

    selection_metric = "nats_per_sequence"
    validates_likelihood = decodes_samples = True

    def selects_by(self, phase: str) -> str:
        return "accuracy" if phase == "rl" else self.selection_metric


def test_a_phase_is_judged_by_its_metric_and_the_least_nats_are_the_best(tmp_path: Path) -> None:
    task = LikelyTask()
    settings = scripted_config(
        mle={"updates": 12, "validate_every": 3, "optimizer": {"learning_rate": 0.01}},
        rl={"updates": 4, "validate_every": 2, "collapse_tolerance": 100.0},
        evaluation={"max_instances": 20, "samples_shown": 0},
    )
    trainer, recorder = trainer_of(
        settings, PlainEngine(settings, task, SequenceVectorEnv(task).rollout), tmp_path / "run", task
    )
    trainer.train()
    for phase, metric, sign in (("mle", "nats_per_sequence", -1), ("rl", "accuracy", 1)):
        events = [event for event in recorder.validations if event.phase == phase]
        scores = [sign * event.metrics[metric] for event in events]
        assert [event.best for event in events] == [score == max(scores[: i + 1]) for i, score in enumerate(scores)]
    nats = [event.metrics["nats_per_sequence"] for event in recorder.validations if event.phase == "mle"]
    assert nats[-1] < nats[0]


def test_a_rise_of_nats_is_a_collapse_and_is_said_to_be_one(tmp_path: Path) -> None:
    task = LikelyTask()
    task.selects_by = lambda phase: "nats_per_sequence"  # type: ignore[method-assign]
    settings = scripted_config(
        mle={"updates": 30, "optimizer": {"learning_rate": 0.01}},
        rl={"updates": 4, "validate_every": 2, "collapse_tolerance": 1.0, "optimizer": {"learning_rate": 1.0}},
        evaluation={"max_instances": 20, "samples_shown": 0},
    )
    trainer, recorder = trainer_of(
        settings, PlainEngine(settings, task, SequenceVectorEnv(task).rollout), tmp_path / "run", task
    )
    trainer.train()
    assert any("nats_per_sequence rose from" in warning for warning in recorder.warnings)


def test_a_task_that_asks_is_validated_on_samples(settings: Config) -> None:
    ours = engine(settings)
    task = ours.task
    for samples in (False, True):
        task.decodes_samples = samples
        found = measure(task, ours, settings.evaluation, 0)
        ids = task.instances("validation").ids(0, len(found.rolled.ids))
        expected = ours.rollout(ids, RolloutRequest(int(samples), not samples, 0), averaged=True)
        np.testing.assert_array_equal(found.rolled.sequences, expected.sequences)
        assert found.rolled.greedy is not samples


def test_the_average_lies_between_and_is_what_is_validated_and_kept(settings: Config) -> None:
    ours = engine(settings)
    start = ours.get_state()
    ours.update(requests("mle", range(1), rate=0.05))
    state = ours.get_state()
    names = [name for name in state if name.startswith("policy/")]
    for name in names:  # the first update's decay is 1 / 10
        expected = start[name] + 0.9 * (state[name] - start[name])
        np.testing.assert_allclose(state[name.replace("policy", "average", 1)], expected, atol=1e-6)
    kept = policy_weights(state)
    assert {f"policy/{name}" for name in kept} == set(names)
    ids = np.arange(16)
    averaged = ours.rollout(ids, RolloutRequest(1, True, 0), averaged=True)
    ours.set_weights(kept)
    assert np.array_equal(ours.rollout(ids, RolloutRequest(1, True, 0), averaged=False).log_probs, averaged.log_probs)


def test_without_averaging_there_is_none() -> None:
    ours = engine(config(mle={"average": 0.0}, rl={"kl": 0.0, "average": 0.0}))
    ours.update(requests("mle", range(1)))
    assert {name.split("/")[0] for name in ours.get_state()} == {"policy", "optimizer"}
    ours.start_phase("rl")
    assert {name.split("/")[0] for name in ours.get_state()} == {"policy"}


def test_the_learning_rate_is_the_requests(settings: Config) -> None:
    ours = engine(settings)
    before = ours.get_state()
    stats = ours.update(requests("mle", range(1), rate=1e-12))
    assert stats[0]["train/learning_rate"] == 1e-12
    for name, value in ours.get_state().items():
        if name.startswith("policy/"):
            np.testing.assert_allclose(value, before[name], atol=1e-9)


def test_gradients_are_clipped_to_the_norm_asked_for_and_reported_unclipped() -> None:
    moments, norms = [], []
    for limit in (None, 1e-3):
        ours = engine(config(mle={"optimizer": {"clip_norm": limit}, "average": 0.0}))
        norms.append(ours.update(requests("mle", range(1)))[0]["train/grad_norm"])
        first = [v for n, v in ours.get_state().items() if n.endswith("/exp_avg")]
        moments.append(10 * float(np.sqrt(sum((value**2).sum() for value in first))))  # β₁ = 0.9: a tenth of it
    assert norms[0] == norms[1] > 1e-2
    assert moments == pytest.approx([norms[0], 1e-3], rel=1e-3)


@pytest.mark.parametrize("dropout", [False, True])
def test_dropout_while_scoring_is_a_choice_and_never_while_decoding(dropout: bool) -> None:
    settings = config(rl=RL | {"dropout": dropout, "average": 0.0})
    ours = engine(settings)
    ours.start_phase("rl")
    seen: dict[str, list[bool]] = {"step": [], "forced": []}
    for name, modes in seen.items():
        kept = getattr(ours.trainee.policy, name)

        def spy(*args: Any, kept: Callable[..., Any] = kept, modes: list[bool] = modes) -> Any:
            modes.append(ours.trainee.policy.training)
            return kept(*args)

        setattr(ours.trainee.policy, name, spy)
    ours.update(requests("rl", range(2)))
    assert set(seen["step"]) == {False} and set(seen["forced"]) == {dropout}


# -------------------------------------------------------------------------------------------------- what is not finite
def assert_refused(ours: PlainEngine, phase: Phase, named: str) -> None:
    before = ours.get_state()
    with pytest.raises(TrainingError, match=f"update 7: .*{named}.* not finite; no step was taken"):
        ours.update(requests(phase, range(7, 9)))
    assert_same(ours.get_state(), before)
    assert all(parameter.grad is None for parameter in ours.trainee.policy.parameters())


@pytest.mark.parametrize("phase", ["mle", "rl"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(phase: Phase, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = engine(config())
    ours.update(requests("mle", range(2)))
    ours.start_phase(phase)
    ours.update(requests(phase, range(2)))
    kept = batch_loss

    def spoilt(*args: Any) -> Any:
        loss, stats = kept(*args)
        return loss * value, stats | {"train/loss": loss.detach() * value}

    with monkeypatch.context() as patch:
        patch.setattr(plain, "batch_loss", spoilt)
        assert_refused(ours, phase, "train/loss")
    ours.update(requests(phase, range(8, 9)))  # it can go on


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = engine(config())
    ours.update(requests("mle", range(2)))
    kept = batch_loss

    def spoilt(*args: Any) -> Any:
        loss, stats = kept(*args)
        loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss, stats

    monkeypatch.setattr(plain, "batch_loss", spoilt)
    assert_refused(ours, "mle", "train/grad_norm")


def test_a_reward_that_is_not_finite_is_refused() -> None:
    settings = config(rl={"samples": 2, "kl": 0.0})
    env = make_vector_env(settings.task)

    def score(ids: Any, sequences: Any) -> Any:
        result = env.rollout(ids, sequences)
        result.rewards[0] = np.nan
        return result

    ours = PlainEngine(settings, env.task, score)
    ours.start_phase("rl")
    assert_refused(ours, "rl", "rollout/reward_mean")


def test_an_epoch_that_is_not_finite_says_that_steps_were_taken_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, calls = engine(config("reverse", rl=PPO)), []
    ours.start_phase("rl")
    kept = batch_loss

    def spoilt(*args: Any) -> Any:
        loss, stats = kept(*args)
        calls.append(loss)
        return (loss * torch.nan if len(calls) == 2 else loss), stats

    monkeypatch.setattr(plain, "batch_loss", spoilt)
    with pytest.raises(TrainingError, match=r"update 0: .*grad_norm.* is not finite; no further step was taken"):
        ours.update(requests("rl", range(1)))
    assert {int(value) for name, value in ours.get_state().items() if name.endswith("/step")} == {1}


# ------------------------------------------------------------------------------------------------------------ epochs
PPO = {"objective": {"type": "ppo", "epochs": 3}, "baseline": "running_mean", "average": 0.9}


def test_an_update_has_as_many_steps_as_epochs_and_moves_the_average_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, moved = engine(config("reverse", rl=PPO)), []
    ours.start_phase("rl")
    monkeypatch.setattr(trainee, "update_average", lambda *args: moved.append(args[-1]))
    stats = ours.update(requests("rl", range(2)))
    assert {int(value) for name, value in ours.get_state().items() if name.endswith("/step")} == {6}
    assert moved == [0, 1]
    assert all(row["train/approx_kl"] > 0 and 0 <= row["train/clip_frac"] <= 1 for row in stats)


def test_mini_batches_are_steps_of_their_own_and_the_average_moves_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, moved = engine(config("reverse", rl=PPO | {"objective": {"type": "ppo", "epochs": 2, "minibatches": 3}})), []
    ours.start_phase("rl")
    monkeypatch.setattr(trainee, "update_average", lambda *args: moved.append(args[-1]))
    ours.update(requests("rl", range(2)))
    assert {int(value) for name, value in ours.get_state().items() if name.endswith("/step")} == {12}
    assert moved == [0, 1]


def test_one_epoch_is_reinforce_but_for_rounding() -> None:
    found = []
    for keys in ({"objective": {"type": "ppo", "epochs": 1}}, {}):
        ours = engine(config("reverse", rl={"samples": 2, "optimizer": {"clip_norm": None}} | keys))
        ours.start_phase("rl")
        found.append(ours.update(requests("rl", range(1)))[0])
    assert found[0]["train/grad_norm"] == pytest.approx(found[1]["train/grad_norm"], rel=1e-4)
    assert found[0]["train/clip_frac"] == 0 and found[0]["train/approx_kl"] == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------------------------------- the gradient's variance
def test_estimating_the_gradients_variance_leaves_the_training_as_it_is() -> None:
    plainly, watched = (engine(config(rl=RL | {"variance_every": every})) for every in (0, 2))
    for each in (plainly, watched):
        each.start_phase("rl")
    ours, theirs = (untimed(each.update(requests("rl", range(5)))) for each in (watched, plainly))
    assert ["train/grad_variance" in row for row in ours] == [True, False, True, False, True]
    assert [{n: v for n, v in row.items() if n != "train/grad_variance"} for row in ours] == theirs
    assert_same(watched.get_state(), plainly.get_state())


def test_the_gradients_variance_is_half_the_squared_distance_of_two_batches() -> None:
    settings = config("reverse", rl={"samples": 2, "variance_every": 1})
    ours = engine(settings)
    ours.update(requests("mle", range(3)))
    ours.start_phase("rl")
    (request,), gradients = requests("rl", range(1)), []
    ours.trainee.policy.eval()
    for update in (request.update, request.update + RESAMPLED):
        drawn = ours.rollout(request.ids, RolloutRequest(2, True, update), averaged=False)
        batch = {n: torch.from_numpy(column) for n, column in rl_batch(ours.task, drawn, settings.rl)[0].items()}
        loss = batch_loss(ours.trainee.policy, None, batch, settings.rl)[0]
        gradients.append(torch.autograd.grad(loss, list(ours.trainee.policy.parameters()), allow_unused=True))
    squares = [(a - b).square().sum() for a, b in zip(*gradients, strict=True) if a is not None and b is not None]
    found = ours.update([request])[0]["train/grad_variance"]
    assert found > 0 and found == pytest.approx(0.5 * float(torch.stack(squares).sum()), rel=1e-3)


# -------------------------------------------------------------------------------------------------------- statistics
def test_statistics_carry_the_tags_of_their_phase(settings: Config) -> None:
    ours = engine(settings)
    stats = ours.update(requests("mle", range(1)))[0]
    common = {"train/loss", "train/nll", "train/grad_norm", "train/learning_rate"}
    timed = {"time/sample_frac", "time/update_frac", "time/tokens_per_sec", "time/cpu_seconds"}
    assert set(stats) == common | timed
    assert stats["time/sample_frac"] + stats["time/update_frac"] == pytest.approx(1.0)
    ours.start_phase("rl")
    rolled = {"reward_mean", "reward_std", "baseline_mean", "advantage_std", "length_mean", "truncated_frac"}
    rolled |= {"zero_advantage_frac", "greedy_reward_mean", "advantage_mean", "distinct_frac", "repetition"}
    more = {"train/policy_loss", "train/entropy", "train/kl"} | {f"rollout/{name}" for name in rolled}
    assert set(ours.update(requests("rl", range(1)))[0]) == common | timed | more


def test_rl_rolls_out_what_its_baseline_needs() -> None:
    for baseline, columns in (("greedy", 3), ("leave_one_out", 2)):
        ours = engine(config(rl={"samples": 2, "baseline": baseline}))
        ours.start_phase("rl")
        seen: list[Any] = []
        kept = ours.score
        ours.score = lambda ids, rows, kept=kept, seen=seen: seen.append(len(ids)) or kept(ids, rows)
        ours.update(requests("rl", range(1)))
        assert seen == [8 * columns]
