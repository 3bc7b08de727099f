"""One update's numbers: weights, normalisations, terms of the loss, and its division among learners."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical
from torch.distributions import kl_divergence as torch_kl
from torch.nn import functional as F

from rlseq.config.baselines import CriticConfig
from rlseq.config.mle import MLEConfig
from rlseq.config.rl import RLConfig
from rlseq.models.critic import Critic
from rlseq.models.policy import SequencePolicy, length_mask
from rlseq.training.batch import Batch, batch_source, mle_batch, rl_batch, split_batch, to_tensors
from rlseq.training.rollout import Rollout
from rlseq.training.update import batch_loss, flat_gradient
from tests.support import attention_policy, padded, sources

SOURCE_LENGTHS = [3, 1, 4]
REFERENCES = [[1, 2, 0], [3, 0], [2, 2, 1, 3, 0]]
SAMPLES = [[[1, 0], [2, 3, 0]], [[0], [3, 3, 3]], [[1, 1, 0], [2, 0]]]
REWARDS = [[1.0, 0.0], [0.5, 0.5], [0.25, 1.0]]
GREEDY = [0.5, 0.5, 1.0]
POTENTIALS = np.random.default_rng(0).normal(size=(3, 3, 3))


def policy(**keys: Any) -> SequencePolicy:
    return attention_policy(vocabulary=4, **keys)


def task() -> Any:
    source = sources(policy(), SOURCE_LENGTHS)
    arrays = source.map(lambda values: values.numpy())
    references = tuple(column.numpy() for column in padded(REFERENCES))
    return SimpleNamespace(
        source=lambda ids: arrays.select(ids),
        references=lambda ids: tuple(column[ids] for column in references),
        training_pairs=lambda ids, seed: (arrays.select(ids), *(column[ids] for column in references)),
    )


def rollout(rewards: Any = REWARDS, greedy: bool = True) -> Rollout:
    rows, lengths = padded([row for instance in SAMPLES for row in [*instance, *([[0]] if greedy else [])]])
    each = 3 if greedy else 2
    columns = np.column_stack([rewards, GREEDY]) if greedy else np.asarray(rewards)
    truncated = np.zeros((3, each), np.bool_)
    truncated[1, 1] = True
    return Rollout(
        np.arange(3),
        task().source(np.arange(3)),
        rows.view(3, each, -1).numpy(),
        lengths.view(3, each).numpy(),
        -np.arange(3.0 * each).reshape(3, each),
        columns,
        {},
        truncated,
        greedy,
    )


def rl(**keys: Any) -> RLConfig:
    return RLConfig.model_validate({"updates": 1, "samples": 2} | keys)


def tensors(batch: Batch) -> dict[str, Tensor]:
    return {name: torch.from_numpy(column) for name, column in batch.items()}


def gradient(policy: SequencePolicy, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def nll(policy: SequencePolicy, instances: list[int], sequences: list[list[int]], temperature: float = 1.0) -> Tensor:
    """−log p of each whole sequence, through ``forward``."""
    source = sources(policy, SOURCE_LENGTHS)
    rows, row_lengths = padded(sequences)
    distribution = policy(source.select(torch.tensor(instances)), rows, row_lengths)
    if temperature != 1.0:
        distribution = (distribution / temperature).log_softmax(-1)
    taken = distribution.gather(2, rows[:, :, None])[:, :, 0]
    return -(taken * length_mask(row_lengths, rows.shape[1])).sum(1)


# ----------------------------------------------------------------------------------------------------- normalisation
def test_normalisers_by_hand() -> None:
    for kind, expected in (("token", 30.0), ("sequence", 6.0), ("constant", 24.0)):
        assert rl(normalization=kind, normalizer=4.0).loss_divisor(rows=6, tokens=30) == expected


@pytest.mark.parametrize(("kind", "divisor"), [("token", 10.0), ("sequence", 3.0), ("constant", 6.0)])
def test_cross_entropy_is_normalised_as_asked(kind: str, divisor: float) -> None:
    config = MLEConfig.model_validate({"updates": 1, "normalization": kind, "normalizer": 2.0})
    model = policy()
    batch = mle_batch(task(), np.arange(3), config, 0)
    np.testing.assert_allclose(batch["weights"], np.full((3, 1, 5), 1 / divisor), rtol=1e-6)
    loss, stats = batch_loss(model, None, tensors(batch), config)
    total = nll(model, [0, 1, 2], REFERENCES).sum()
    torch.testing.assert_close(loss, total / divisor)
    torch.testing.assert_close(stats["train/nll"], total.detach() / 10)
    torch.testing.assert_close(stats["train/loss"], loss.detach())


def test_label_smoothing_reaches_the_loss_but_not_the_reported_likelihood() -> None:
    config = MLEConfig(updates=1, label_smoothing=0.2)
    model = policy()
    batch = tensors(mle_batch(task(), np.arange(3), config, 0))
    loss, stats = batch_loss(model, None, batch, config)
    rows, lengths = padded(REFERENCES)
    real = length_mask(lengths, rows.shape[1])
    distribution = model(batch_source(batch), rows, lengths)[real]
    torch.testing.assert_close(loss, F.cross_entropy(distribution, rows[real], label_smoothing=0.2))
    torch.testing.assert_close(stats["train/nll"], F.cross_entropy(distribution, rows[real]).detach())


@pytest.mark.parametrize(("kind", "divisor"), [("token", 14.0), ("sequence", 6.0), ("constant", 12.0)])
def test_rewards_become_weights_by_hand(kind: str, divisor: float) -> None:
    config = rl(normalization=kind, normalizer=2.0)
    batch, stats = rl_batch(task(), rollout(), config)
    rows = [[[0.5, 0.5, 0], [-0.5, -0.5, -0.5]], [[0, 0, 0], [0, 0, 0]], [[-0.75, -0.75, -0.75], [0, 0, 0]]]
    np.testing.assert_allclose(batch["weights"], np.array(rows) / divisor, rtol=1e-6)
    np.testing.assert_allclose(batch["state_weights"], np.full((3, 2), 1 / divisor), rtol=1e-6)
    assert batch["targets"].shape == (3, 2, 3) and batch["target_lengths"].tolist() == [[2, 3], [1, 3], [3, 2]]
    expected = {
        "rollout/reward_mean": 3.25 / 6,
        "rollout/reward_std": np.std(REWARDS),
        "rollout/baseline_mean": (9 * 0.5 + 5 * 1.0) / 14,
        "rollout/advantage_mean": (2 * 0.5 - 3 * 0.5 - 3 * 0.75) / 14,
        "rollout/advantage_std": np.std([0.5] * 2 + [-0.5] * 3 + [-0.75] * 3 + [0] * 6),
        "rollout/length_mean": 14 / 6,
        "rollout/truncated_frac": 1 / 6,
        "rollout/distinct_frac": 1.0,
        "rollout/repetition": 1 / 8,
        "rollout/zero_advantage_frac": 6 / 14,
        "rollout/greedy_reward_mean": 2 / 3,
        "train/entropy": (0 + 1 + 3 + 4 + 6 + 7) / 14,
    }
    assert stats == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sequences", "repeated", "bigrams"),
    [
        ([[1, 1, 1, 1, 1, 1]], 4, 5),  # no END
        ([[1, 2, 1, 2, 1, 0]], 2, 5),  # 1 2 and 2 1 come again
        ([[3, 1, 2, 0]], 0, 3),  # a permutation repeats nothing
        ([[0]], 0, 1),
        ([[2, 2, 2, 0], [1, 0], [2, 2, 0]], 1, 6),  # other sequences and what is beyond END do not count
    ],
)
def test_repetition_by_hand(sequences: list[list[int]], repeated: int, bigrams: int) -> None:
    rows, lengths = padded(sequences)
    drawn = Rollout(
        np.arange(1), task().source(np.arange(1)), rows[None].numpy(), lengths[None].numpy(),
        np.zeros((1, len(rows))), np.zeros((1, len(rows))), {}, np.zeros((1, len(rows)), np.bool_), False,
    )  # fmt: skip
    stats = rl_batch(task(), drawn, rl(samples=len(sequences), baseline="none"))[1]
    assert stats["rollout/repetition"] == pytest.approx(repeated / bigrams)


def test_distinct_outputs_are_those_of_first_samples_of_different_sources() -> None:
    drawn = rollout()
    for taken, expected in (([0, 1, 2], 1.0), ([0, 0, 2], 2 / 3), ([1, 1, 1], 1 / 3)):
        same = replace(drawn, sequences=drawn.sequences[taken], lengths=drawn.lengths[taken])
        assert rl_batch(task(), same, rl())[1]["rollout/distinct_frac"] == pytest.approx(expected)


def test_a_sample_drawn_twice_is_scored_once_with_the_weights_of_both() -> None:
    config = rl(baseline="none")
    drawn = replace(rollout(), sequences=rollout().sequences[:, [0, 0, 2]], lengths=rollout().lengths[:, [0, 0, 2]])
    batch, _ = rl_batch(task(), drawn, config)
    np.testing.assert_allclose(batch["weights"][0, 0], np.array([1.0, 1.0, 0.0]) / 6, rtol=1e-6)
    np.testing.assert_allclose(batch["state_weights"], np.array([[2, 0]] * 3) / 6, rtol=1e-6)
    assert not batch["weights"][:, 1].any()


# ------------------------------------------------------------------------------------------------- terms of the loss
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_policy_loss_is_advantage_times_log_likelihood(temperature: float) -> None:
    model, config = policy(), rl(temperature=temperature)
    batch, _ = rl_batch(task(), rollout(), config)
    loss, stats = batch_loss(model, None, tensors(batch), config)
    values = nll(model, [0, 0, 1, 1, 2, 2], [row for instance in SAMPLES for row in instance], temperature)
    expected = (values * torch.tensor([0.5, -0.5, 0, 0, -0.75, 0])).sum() / 6
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(stats["train/policy_loss"], expected.detach())
    torch.testing.assert_close(gradient(model, loss), gradient(model, expected), atol=1e-6, rtol=1e-5)


def test_a_batch_of_several_epochs_is_copied_once_and_never_shares_read_only_memory() -> None:
    batch = mle_batch(task(), np.arange(3), MLEConfig(updates=1), 0)
    batch["weights"].flags.writeable = False
    first, second, other = to_tensors([batch, batch, dict(batch)], "cpu")
    assert first is second and first is not other and first.keys() == batch.keys()
    first["weights"] += 1.0
    assert (first["weights"].numpy() == batch["weights"] + 1.0).all()


def test_rows_of_zero_advantage_are_skipped_unless_another_term_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, counted = policy(), []
    forced = model.forced
    monkeypatch.setattr(
        model, "forced", lambda memory, rows, lengths: counted.append(len(rows)) or forced(memory, rows, lengths)
    )
    for config in (rl(), rl(entropy=0.1)):
        batch_loss(model, None, tensors(rl_batch(task(), rollout(), config)[0]), config)
    assert counted == [3, 6]


def test_a_critic_reads_the_states_of_the_pass_that_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    model, config, counted = policy(), rl(baseline="critic"), []
    assert config.critic is not None
    model.critic = Critic(8, config.critic)
    forced = model.forced
    monkeypatch.setattr(
        model, "forced", lambda memory, rows, lengths: counted.append(len(rows)) or forced(memory, rows, lengths)
    )
    loss, stats = batch_loss(model, None, tensors(rl_batch(task(), rollout(greedy=False), config)[0]), config)
    assert counted == [6] and "train/value_loss" in stats
    gradient(model, loss)


@pytest.mark.parametrize("feed", [False, True])
@pytest.mark.parametrize("extra", [{}, {"cross_entropy": 0.3}, {"kl": 0.1}, {"entropy": 0.1}])
def test_an_update_without_any_advantage_is_no_accident(feed: bool, extra: dict[str, float]) -> None:
    model, config = policy(feed_context=feed), rl(**extra)
    batch, _ = rl_batch(task(), rollout(np.column_stack([GREEDY, GREEDY])), config)
    loss, stats = batch_loss(model, policy(feed_context=feed, seed=5), tensors(batch), config)
    loss.backward()
    grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert torch.isfinite(grads).all() and bool(grads.any()) == bool(extra) and stats["train/policy_loss"] == 0.0


def states(model: SequencePolicy, config: RLConfig) -> tuple[Categorical, Tensor]:
    """The distribution at each token of each sample, and the number of samples."""
    source = sources(model, SOURCE_LENGTHS)
    rows, row_lengths = padded([row for instance in SAMPLES for row in instance])
    instances = torch.tensor([0, 0, 1, 1, 2, 2])
    distribution = model(source.select(instances), rows, row_lengths)[length_mask(row_lengths, rows.shape[1])]
    return Categorical(logits=distribution / config.temperature), torch.tensor(6.0)


def test_kl_and_entropy_are_summed_over_the_sampled_states() -> None:
    model, reference = policy(), policy(seed=5)
    plain, config = rl(temperature=0.8), rl(temperature=0.8, kl=0.25, entropy=0.5)
    batch = tensors(rl_batch(task(), rollout(), config)[0])
    base, loss = (batch_loss(model, reference, batch, c)[0] for c in (plain, config))
    distribution, rows = states(model, config)
    kl = torch_kl(distribution, states(reference, config)[0]).sum() / rows
    torch.testing.assert_close(loss, base + 0.25 * kl - 0.5 * distribution.entropy().sum() / rows)
    stats = batch_loss(model, reference, batch, config)[1]
    torch.testing.assert_close(stats["train/kl"], kl.detach())
    loss.backward()
    assert all(p.grad is None for p in reference.parameters()) and all(p.grad is not None for p in model.parameters())


def test_a_share_of_cross_entropy_is_that_of_the_references() -> None:
    model = policy()
    for kind, divisor in (("sequence", 3.0), ("token", 10.0)):
        config = rl(cross_entropy=0.3, normalization=kind)
        batch = tensors(rl_batch(task(), rollout(), config)[0])
        loss, stats = batch_loss(model, None, batch, config)
        total = nll(model, [0, 1, 2], REFERENCES).sum()
        torch.testing.assert_close(loss, stats["train/policy_loss"] + 0.3 * total / divisor)
        torch.testing.assert_close(stats["train/nll"], total.detach() / 10)


# --------------------------------------------------------------------------------------------------------- precision
def test_samples_of_another_distribution_are_weighted_by_its_ratio_and_no_more_than_the_cap() -> None:
    model, config = policy(), rl(sampling_precision="bf16", objective={"type": "reinforce", "importance_cap": 1.5})
    values, drawn = (
        nll(model, [0, 0, 1, 1, 2, 2], [row for instance in SAMPLES for row in instance]),
        drawn_under(model),
    )
    log_ratio = np.array([0.2, 0.0, -0.3, -1.0, 2.0, 0.1])  # the fifth is cut
    drawn.log_probs[:, :2] -= log_ratio.reshape(3, 2)
    batch = tensors(rl_batch(task(), drawn, config)[0])
    loss, stats = batch_loss(model, None, batch, config)
    ratio = torch.tensor(np.minimum(np.exp(log_ratio), 1.5), dtype=torch.float32)
    expected = (values * ratio * torch.tensor([0.5, -0.5, 0, 0, -0.75, 0])).sum() / 6
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(model, loss), gradient(model, expected), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(stats["train/importance_mean"], ratio[[0, 1, 4]].mean())


def drawn_under(model: SequencePolicy) -> Rollout:
    """The samples, with the log-probabilities that the model gives them."""
    flat = -nll(model, [0, 0, 1, 1, 2, 2], [row for instance in SAMPLES for row in instance]).detach().numpy()
    drawn = rollout()
    drawn.log_probs[:, :2] = flat.reshape(3, 2)
    return drawn


@pytest.mark.parametrize("phase", ["mle", "rl"])
@pytest.mark.parametrize("feed", [False, True])
@pytest.mark.parametrize("match", ["additive", "bilinear", "cosine"])
def test_bf16_updates_are_fp32_ones_but_for_rounding(match: str, feed: bool, phase: str) -> None:
    model, found = policy(match=match, feed_context=feed), []
    for precision in ("fp32", "bf16"):
        mle = MLEConfig(updates=1, label_smoothing=0.1, precision=precision)
        config: Any = mle if phase == "mle" else rl(kl=0.1, precision=precision)
        batch = (
            mle_batch(task(), np.arange(3), mle, 0)
            if phase == "mle"
            else rl_batch(task(), drawn_under(model), config)[0]
        )
        found.append(gradient(model, batch_loss(model, policy(seed=5), tensors(batch), config)[0]))
    error = float((found[1] - found[0]).norm() / found[0].norm())
    assert found[1].dtype == torch.float32 and 1e-5 < error < 0.05


# -------------------------------------------------------------------------------------------------- several learners
def shaken_critic() -> Critic:
    critic = Critic(8, CriticConfig(hidden_size=4))
    torch.nn.init.normal_(cast(Tensor, critic[2].weight), generator=torch.Generator().manual_seed(0))
    return critic


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("phase", ["mle", "rl", "mrt", "critic", "actor_critic"])
def test_the_mean_of_the_shares_gradients_is_the_whole_gradient(world: int, phase: str) -> None:
    model, reference = policy(), policy(seed=5)
    keys: dict[str, dict[str, Any]] = {
        "rl": {"kl": 0.2, "entropy": 0.1, "cross_entropy": 0.3},
        "mrt": {"objective": {"type": "mrt", "alpha": 0.5, "reference": False}, "baseline": "none", "kl": 0.2},
        "critic": {"baseline": "critic", "normalization": "token"},
        "actor_critic": {"baseline": {"type": "critic", "shaped": True, "gae_lambda": 0.5}},
    }
    config: Any = MLEConfig(updates=1) if phase == "mle" else rl(**keys[phase])
    if "critic" in phase:
        model.critic = shaken_critic()
    drawn = replace(rollout(), potentials=POTENTIALS) if phase == "actor_critic" else rollout()
    batch = mle_batch(task(), np.arange(3), config, 0) if phase == "mle" else rl_batch(task(), drawn, config)[0]
    whole_loss, whole_stats = batch_loss(model, reference, tensors(batch), config)
    whole, expected = gradient(model, whole_loss), {name: float(value) for name, value in whole_stats.items()}
    shares = split_batch(batch, world)
    assert [len(share["targets"]) for share in shares] == {1: [3], 2: [2, 1], 3: [1, 1, 1]}[world]
    parts = [gradient(model, batch_loss(model, reference, tensors(share), config)[0]) for share in shares]
    torch.testing.assert_close(torch.stack(parts).mean(0), whole, atol=1e-6, rtol=1e-5)
    for name, column in batch.items():
        joined = np.concatenate([share[name] for share in shares])
        assert joined.dtype == column.dtype
        np.testing.assert_allclose(joined, column * world if name.endswith("weights") else column, rtol=1e-6)

    for accumulation in (2, 3, 50):  # more parts than rows: as many as rows
        model.zero_grad(set_to_none=True)
        settings = config.model_copy(update={"accumulation": accumulation * world})
        loss, stats = batch_loss(model, reference, tensors(batch), settings, learners=world)
        loss.backward()
        torch.testing.assert_close(flat_gradient(model), whole, atol=1e-6, rtol=1e-5)
        assert {name: float(value) for name, value in stats.items()} == pytest.approx(expected, rel=1e-4)


# ---------------------------------------------------------------------------------------------- truncated distributions
def in_support(distribution: Tensor, config: RLConfig, drawn: Tensor) -> Tensor:
    """Log-probabilities (tokens, choices), cut to the ``top_k`` likeliest choices and what was drawn."""
    kept = F.one_hot(drawn, distribution.shape[1]).bool()
    for row, likeliest in enumerate(distribution.argsort(1, descending=True)[:, : config.top_k].tolist()):
        kept[row, likeliest] = True
    return (distribution / config.temperature).masked_fill(~kept, -1e30).log_softmax(-1)


@pytest.mark.parametrize("extra", [{}, {"entropy": 0.5}, {"kl": 0.25}])
def test_samples_are_scored_and_entropy_is_read_under_the_truncated_distribution_but_kl_under_the_whole(
    extra: Any,
) -> None:
    model, reference, config = policy(), policy(seed=5), rl(top_k=2, temperature=0.7, **extra)
    batch = tensors(rl_batch(task(), rollout(), config)[0])
    source = sources(model, SOURCE_LENGTHS)
    rows, row_lengths = padded([row for instance in SAMPLES for row in instance])
    instances, real = torch.tensor([0, 0, 1, 1, 2, 2]), length_mask(row_lengths, rows.shape[1])
    whole, other = (part(source.select(instances), rows, row_lengths)[real] for part in (model, reference))
    distribution = in_support(whole, config, rows[real])
    taken = distribution.gather(1, rows[real][:, None])[:, 0]
    advantage = torch.repeat_interleave(torch.tensor([0.5, -0.5, 0, 0, -0.75, 0]), row_lengths)
    expected = -(advantage * taken).sum() / 6
    if config.entropy:
        expected = expected - config.entropy * Categorical(logits=distribution).entropy().sum() / 6
    if config.kl:
        tempered = (Categorical(logits=part / config.temperature) for part in (whole, other.detach()))
        expected = expected + config.kl * torch_kl(*tempered).sum() / 6
    loss, _ = batch_loss(model, reference, batch, config)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(model, loss), gradient(model, expected), atol=1e-6, rtol=1e-5)
