"""Scheduled sampling: its schedules, who reads an own token, and that tosses belong to instances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlseq.config.mle import MLEConfig, ScheduledSamplingConfig
from rlseq.models.feeding import PolicyTokens
from rlseq.training.batch import Batch, batch_source, mle_batch, split_batch
from rlseq.training.forcing import DRAWS, FORCED, REPLACED, feeding, reference_probability, sampling_columns
from rlseq.training.update import batch_loss
from tests.support import ReverseTask, attention_policy

IDS = np.arange(600)
LENGTHS = np.full(600, 9)


def config(**keys: Any) -> ScheduledSamplingConfig:
    return ScheduledSamplingConfig.model_validate({"schedule": "linear", "constant": 0.7} | keys)


def columns(settings: ScheduledSamplingConfig, seed: int = 3, update: int = 0, ids: Any = IDS) -> dict[str, Any]:
    return sampling_columns(settings, ids, LENGTHS[: len(ids)], 9, seed, update)


def tensors(batch: Batch) -> dict[str, Tensor]:
    return {name: torch.from_numpy(column) for name, column in batch.items()}


# ------------------------------------------------------------------------------------------------------- the schedules
@pytest.mark.parametrize(
    ("keys", "values"),
    [
        ({"constant": 1.0, "slope": 0.25, "epsilon": 0.1}, [1.0, 0.75, 0.5, 0.25, 0.1, 0.1]),
        ({"constant": 1.5, "slope": 0.25}, [1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
        ({"constant": 0.4, "slope": 0.0}, [0.4] * 5),
        ({"schedule": "exponential", "constant": 0.5}, [1.0, 0.5, 0.25, 0.125]),
        ({"schedule": "inverse_sigmoid", "constant": 2.0}, [2 / 3, 2 / (2 + math.exp(0.5)), 2 / (2 + math.e)]),
        ({"schedule": "none", "constant": 1.0}, [1.0, 1.0]),
    ],
    ids=str,
)
def test_schedules_by_hand(keys: dict[str, Any], values: list[float]) -> None:
    found = [reference_probability(config(**keys), update) for update in range(len(values))]
    assert found == pytest.approx(values, abs=1e-12)


@given(st.floats(1, 1e4), st.integers(0, 10**7))
@settings(max_examples=100, deadline=None)
def test_the_inverse_sigmoid_is_the_papers_and_falls_however_late(k: float, update: int) -> None:
    settings = config(schedule="inverse_sigmoid", constant=k)
    value, after = (reference_probability(settings, number) for number in (update, update + 1))
    assert 0 <= after <= value <= 1
    if update / k < 700:
        assert value == pytest.approx(k / (k + math.exp(update / k)), rel=1e-9, abs=1e-12)


# ---------------------------------------------------------------------------------------------------------- the tosses
@pytest.mark.parametrize("p", [0.0, 0.3, 0.7, 0.95])
def test_the_rate_of_own_tokens_is_one_minus_p(p: float) -> None:
    """Of 4,800 inputs; 4 standard deviations."""
    keys = {"constant": p} if p else {"schedule": "exponential", "constant": 1e-9}
    own = columns(config(**keys), update=0 if p else 9)[REPLACED]
    assert not own[:, 0].any()  # "begin" is nobody's token
    assert own[:, 1:].mean() == pytest.approx(1 - p, abs=4 * math.sqrt(p * (1 - p) / 4800))


def test_a_sequence_is_the_policys_own_as_a_whole_where_asked_for() -> None:
    own = columns(config(per="sequence"))[REPLACED]
    assert (own[:, 1:].all(1) | ~own.any(1)).all()
    assert own[:, 1].mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 600))


def test_nothing_is_replaced_beyond_a_length() -> None:
    own = sampling_columns(config(constant=0.01), IDS, IDS % 9 + 1, 9, 0, 0)[REPLACED]
    assert not own[np.arange(9) >= (IDS % 9 + 1)[:, None]].any() and own.any()


def test_no_columns_without_a_schedule_and_no_tosses_while_p_is_one() -> None:
    assert columns(ScheduledSamplingConfig()) == {}
    found = columns(config(constant=1.5, slope=0.1), update=3)
    assert list(found) == [FORCED] and (found[FORCED] == 1).all()
    assert DRAWS not in columns(config(own="greedy"))


def test_tosses_belong_to_seed_update_and_instance() -> None:
    whole = columns(config())
    some = np.array([40, 7, 300])
    for name, column in columns(config(), ids=some).items():
        np.testing.assert_array_equal(column, whole[name][some])
    for other in (columns(config(), seed=4), columns(config(), update=1)):
        assert (other[REPLACED] != whole[REPLACED]).mean() > 0.2 and (other[DRAWS] != whole[DRAWS]).mean() > 0.9
    own = whole[REPLACED][:, 1:]  # draws know nothing of tosses
    assert whole[DRAWS][:, 1:][own].mean() == pytest.approx(0.5, abs=0.05)


# ------------------------------------------------------------------------------------------------------ in the update
def mle(**keys: Any) -> MLEConfig:
    return MLEConfig.model_validate(
        {"updates": 1, "scheduled_sampling": {"schedule": "linear", "constant": 0.5} | keys}
    )


def test_own_tokens_are_drawn_from_the_distribution_they_follow() -> None:
    """Of 4,000 rows with one distribution, each choice's share is its probability; 4 standard deviations."""
    distribution, rows = torch.tensor([0.5, 0.25, 0.0, 0.2, 0.05]), 4000
    settings = mle().scheduled_sampling
    drawn = sampling_columns(settings, np.arange(rows), np.full(rows, 2), 2, 1, 0)
    batch = {name: torch.from_numpy(column) for name, column in drawn.items()} | {"targets": torch.zeros(rows, 1, 2)}
    read = feeding(batch, mle())
    assert isinstance(read, PolicyTokens)
    at = torch.arange(rows)
    tokens = read.choose(distribution.log().expand(rows, -1), at, 1)
    for choice, share in enumerate(distribution.tolist()):
        assert (tokens == choice).float().mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / rows))
    greedy = feeding({k: v for k, v in batch.items() if k != DRAWS}, mle())
    assert isinstance(greedy, PolicyTokens) and not greedy.choose(distribution.log().expand(3, -1), at[:3], 1).any()


@pytest.mark.parametrize("own", ["sample", "greedy"])
@pytest.mark.parametrize("feed_context", [False, True])
def test_shares_of_learners_sum_to_the_whole_batch(own: str, feed_context: bool) -> None:
    model, settings = attention_policy(vocabulary=9, feed_context=feed_context), mle(own=own, per="token")
    batch = mle_batch(ReverseTask(), np.arange(7), settings, seed=5)
    assert batch[REPLACED].any()

    def gradient(part: Batch) -> Tensor:
        loss, stats = batch_loss(model, None, tensors(part), settings)
        assert float(stats["train/teacher_forcing"]) == 0.5
        found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
        return torch.cat([each.flatten() for each in found])

    shares = torch.stack([gradient(part) for part in split_batch(batch, 3)]).mean(0)
    torch.testing.assert_close(shares, gradient(batch), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "keys", [{"scheduled_sampling": {"schedule": "linear", "constant": 0.5}}, {"feed": "distribution"}]
)
def test_half_precision_is_near_full_precision(keys: dict[str, Any]) -> None:
    model = attention_policy(vocabulary=9)
    losses = []
    for precision in ("fp32", "bf16"):
        settings = MLEConfig.model_validate({"updates": 1, "precision": precision} | keys)
        loss = batch_loss(model, None, tensors(mle_batch(ReverseTask(), np.arange(7), settings, 5)), settings)[0]
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_while_p_is_one_it_is_teacher_forcing_to_the_bit() -> None:
    model, plain = attention_policy(vocabulary=9), MLEConfig(updates=1)
    settings = mle(constant=2.0, slope=0.1)
    losses = [
        batch_loss(model, None, tensors(mle_batch(ReverseTask(), np.arange(7), kind, 5, phase_update=9)), kind)[0]
        for kind in (plain, settings)
    ]
    assert torch.equal(*losses)


# ----------------------------------------------------------------------------------------------------- regularisation
@pytest.mark.parametrize("feed_context", [False, True])
@pytest.mark.parametrize("normalization", ["token", "sequence"])
def test_the_regulariser_is_added_as_the_loss_is_normalised(feed_context: bool, normalization: Any) -> None:
    model = attention_policy(vocabulary=9, feed_context=feed_context)
    model.learn_attention_target()
    settings = MLEConfig(updates=1, attention_regularization=0.3, normalization=normalization)
    batch = tensors(mle_batch(ReverseTask(), np.arange(7), settings, 5))
    loss, stats = batch_loss(model, None, batch, settings)
    plain = batch_loss(model, None, batch, MLEConfig(updates=1, normalization=normalization))[0]
    memory = model.encode(batch_source(batch))
    mask = model.attention_mask(memory)
    total = torch.zeros(())
    for row, length in enumerate(batch["target_lengths"][:, 0].tolist()):
        state, tokens = model.initial_state(memory), torch.zeros(7, dtype=torch.int64)
        given = torch.zeros(mask.shape[1])
        for step in range(length):
            _, state, attention = model.step(tokens, step, state, memory)
            given, tokens = given + attention[row], batch["targets"][:, 0, step]
        total = total + (1.0 - given)[mask[row]].square().sum()
    expected = total / (float(batch["target_lengths"].sum()) if normalization == "token" else 7)
    torch.testing.assert_close(stats["train/attention_regularization"], expected.detach())
    torch.testing.assert_close(loss, plain + 0.3 * expected)
    assert float(stats["train/attention_target"]) == 1.0
    ours, theirs = (
        torch.autograd.grad(value, [*model.decoder.attention.parameters(), *model.encoder.parameters()])
        for value in (loss, plain + 0.3 * expected)
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-3)
