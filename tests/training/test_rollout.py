"""Rollouts: the same tokens whoever does which shards, scored as the environment scores them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rlseq.data.tasks import make_vector_env
from rlseq.models.build import build_policy
from rlseq.models.layers.linear import fast_matmul
from rlseq.models.policy import SequencePolicy, length_mask
from rlseq.models.spaces import TaskSpaces
from rlseq.objectives.distribution import POLICY, SamplingDistribution
from rlseq.training.batch import source_columns
from rlseq.training.rollout import Rollout, RolloutRequest, encode, rollout, shards
from rlseq_envs.env import SequenceVectorEnv
from rlseq_envs.settings import ConvexHullSettings, CustomTaskSettings
from tests.support import HULL, REVERSE, SMALL_ATTENTION, SMALL_POINTER, policy_config, shaken


def hull() -> tuple[SequenceVectorEnv, SequencePolicy]:
    env = make_vector_env(ConvexHullSettings(**HULL | {"max_points": 9}))
    config = policy_config(SMALL_POINTER, dropout=0.5)
    return env, shaken(build_policy(config, TaskSpaces.of(env.task)))


def reverse() -> tuple[SequenceVectorEnv, SequencePolicy]:
    env = make_vector_env(CustomTaskSettings(**REVERSE))
    config = policy_config(SMALL_ATTENTION, dropout=0.5)
    return env, shaken(build_policy(config, TaskSpaces.of(env.task)))


both_tasks = pytest.mark.parametrize("make", [hull, reverse])
Make = Callable[[], tuple[SequenceVectorEnv, SequencePolicy]]


def rolled(
    env: SequenceVectorEnv,
    policy: SequencePolicy,
    ids: Any,
    seed: int = 0,
    distribution: SamplingDistribution = POLICY,
    shard_size: int = 4,
    **keys: Any,
) -> Rollout:
    parts, decoding = shards(np.asarray(ids), shard_size), replace(RolloutRequest(3, True, 7), **keys)
    return Rollout.concatenate(
        rollout(policy, env.task, env.rollout, parts, decoding, seed=seed, distribution=distribution)
    )


def assert_same(ours: Rollout, theirs: Rollout) -> None:
    """To the bit."""
    for name in Rollout.__dataclass_fields__:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if name == "source":
            mine, other = source_columns(mine), source_columns(other)
        if isinstance(mine, dict):
            assert mine.keys() == other.keys() and all(np.array_equal(mine[key], other[key]) for key in mine)
        else:
            assert np.array_equal(mine, other), name


@both_tasks
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_shards_give_the_same_tokens_whoever_does_them(make: Make, workers: int) -> None:
    env, policy = make()
    ids = np.arange(14)
    whole = rolled(env, policy, ids, with_attention=True)
    hands: list[list[np.ndarray]] = [shards(ids, 4)[worker::workers] for worker in range(workers)]
    parts = {int(part[0]): rolled(env, policy, part, with_attention=True) for hand in reversed(hands) for part in hand}
    assert_same(Rollout.concatenate([parts[first] for first in sorted(parts)]), whole)


def test_shards_are_consecutive_and_of_one_size() -> None:
    assert [part.tolist() for part in shards(np.arange(10, 17), 3)] == [[10, 11, 12], [13, 14, 15], [16]]
    assert shards(np.arange(0), 3) == []


@both_tasks
def test_tokens_depend_on_seed_update_instance_and_sample(make: Make) -> None:
    env, policy = make()
    ids = np.arange(8)
    base = rolled(env, policy, ids)
    changes: list[dict[str, Any]] = [{"seed": 1}, {"update": 8}]
    for other in changes:
        changed = rolled(env, policy, ids, **other)
        assert not np.array_equal(changed.lengths[:, :3], base.lengths[:, :3]) or not np.array_equal(
            changed.sequences[:, :3], base.sequences[:, :3]
        )
        assert np.array_equal(changed.lengths[:, 3], base.lengths[:, 3])  # greedy draws nothing
    few = rolled(env, policy, ids, num_samples=2, greedy=False)
    assert np.array_equal(few.sequences, base.sequences[:, :2, : few.sequences.shape[2]])
    assert len({row.tobytes() for row in base.sequences[:, :3].reshape(24, -1)}) > 8


@both_tasks
def test_rewards_are_those_of_the_environment_and_the_greedy_sequence_comes_last(make: Make) -> None:
    env, policy = make()
    ids = np.arange(8)
    out = rolled(env, policy, ids)
    for column in range(4):
        scored = env.rollout(ids, out.sequences[:, column])
        assert np.array_equal(out.rewards[:, column], scored.rewards)
        assert np.array_equal(out.lengths[:, column], scored.lengths)
        assert np.array_equal(out.truncated[:, column], scored.truncated)
        for name, values in scored.components.items():
            assert np.array_equal(out.components[name][:, column], values)
    assert out.num_samples == 3 and out.greedy
    alone = rolled(env, policy, ids, num_samples=0)
    assert alone.num_samples == 0 and np.array_equal(alone.rewards[:, 0], out.rewards[:, 3])
    ends = out.sequences[np.arange(8)[:, None], np.arange(4), out.lengths - 1] == 0
    assert np.array_equal(ends, ~out.truncated)


@pytest.mark.parametrize("score_greedy", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probabilities_are_of_whole_sequences_under_the_distribution_they_were_drawn_from(
    temperature: float, score_greedy: bool
) -> None:
    env, policy = reverse()
    ids = np.arange(4)
    out = rolled(env, policy, ids, distribution=SamplingDistribution(temperature), score_greedy=score_greedy)
    source = env.task.source(ids).map(torch.from_numpy)
    for column, scale in ((0, temperature), (3, 1.0)):
        rows, lengths = torch.from_numpy(out.sequences[:, column]), torch.from_numpy(out.lengths[:, column])
        with torch.no_grad():
            logits = policy.token_logits(policy.encode(source), rows, lengths) / scale
        taken = logits.log_softmax(-1).gather(1, rows[length_mask(lengths, rows.shape[1])][:, None])[:, 0]
        expected = [float(part.sum()) for part in taken.split(lengths.tolist())]
        asked = column < 3 or score_greedy
        np.testing.assert_allclose(out.log_probs[:, column], expected if asked else 0.0, atol=1e-5)


@both_tasks
@pytest.mark.parametrize("sampled", [1, 3])
def test_sequences_begin_as_their_references_where_only_ends_are_sampled(make: Make, sampled: int) -> None:
    env, policy = make()
    ids = np.arange(9)
    ours = rolled(env, policy, ids, sampled_tokens=sampled)
    references, lengths = env.task.references(ids)
    assert ours.given is not None and ours.token_log_probs is not None
    np.testing.assert_array_equal(ours.given, np.tile((lengths - sampled).clip(0)[:, None], 4))
    policy.eval()
    source = env.task.source(ids).map(torch.from_numpy)
    for column in range(4):
        rows, counts = torch.from_numpy(ours.sequences[:, column]), torch.from_numpy(ours.lengths[:, column])
        scored = policy(source, rows, counts).gather(2, rows[:, :, None])[:, :, 0].detach().numpy()
        for row, given in enumerate(ours.given[:, column]):
            assert (ours.sequences[row, column, :given] == references[row, :given]).all()
            assert ours.lengths[row, column] > given and not ours.token_log_probs[row, column, :given].any()
            np.testing.assert_allclose(ours.token_log_probs[row, column, given:], scored[row, given:], atol=1e-5)
    np.testing.assert_allclose(ours.token_log_probs.sum(2), ours.log_probs, atol=1e-5)


@pytest.mark.parametrize("greedy", [False, True])
def test_samples_begin_with_the_tasks_starts_and_the_greedy_sequence_as_it_likes(greedy: bool) -> None:
    env, policy = hull()
    ids = np.arange(9)
    ours, plain = (rolled(env, policy, ids, greedy=greedy, task_starts=starts) for starts in (True, False))
    starts = env.task.starts(ids, 3)
    np.testing.assert_array_equal(ours.sequences[:, :3, 0], starts)
    assert ours.given is not None and ours.token_log_probs is not None
    assert ours.given[:, :3].all() and not ours.given[:, 3:].any()
    assert len({tuple(row) for row in (starts - starts[:, :1]).tolist()}) > 1  # an instance has several
    if greedy:
        time = min(ours.sequences.shape[2], plain.sequences.shape[2])
        np.testing.assert_array_equal(ours.sequences[:, 3, :time], plain.sequences[:, 3, :time])
    policy.eval()
    source = env.task.source(ids).map(torch.from_numpy)
    for column in range(3):
        rows, counts = torch.from_numpy(ours.sequences[:, column]), torch.from_numpy(ours.lengths[:, column])
        scored = policy(source, rows, counts).gather(2, rows[:, :, None])[:, :, 0].detach().numpy()
        scored[:, 0] = 0.0
        np.testing.assert_allclose(ours.token_log_probs[:, column], scored, atol=1e-5)
        np.testing.assert_allclose(ours.log_probs[:, column], scored.sum(1), atol=1e-5)


def test_a_part_of_a_rollout_is_the_rollout_of_its_instances() -> None:
    env, policy = hull()
    ids, rows = np.arange(12), np.array([7, 2, 3])
    whole = rolled(env, policy, ids, shard_size=1, with_potentials=True, task_starts=True, with_attention=True)
    part = whole.select(rows)
    assert part.memory is None and part.greedy and part.num_samples == 3
    alone = rolled(env, policy, ids[rows], shard_size=1, with_potentials=True, task_starts=True, with_attention=True)
    for name in ("ids", "lengths", "log_probs", "rewards", "truncated", "given"):
        np.testing.assert_array_equal(getattr(part, name), getattr(alone, name))
    for name in ("sequences", "token_log_probs", "potentials", "attention"):
        ours, theirs = getattr(part, name), getattr(alone, name)
        np.testing.assert_array_equal(ours[tuple(map(slice, theirs.shape))], theirs)
    assert part.components.keys() == alone.components.keys()


@both_tasks
def test_potentials_are_the_tasks_and_come_where_asked_for(make: Make) -> None:
    env, policy = make()
    ids = np.arange(9)
    ours = rolled(env, policy, ids, with_potentials=True)
    assert_same(replace(ours, potentials=None), rolled(env, policy, ids))
    assert ours.potentials is not None and ours.potentials.shape == ours.sequences.shape
    for column in range(4):
        expected = env.task.potentials(ours.sequences[:, column], ours.lengths[:, column], ids)
        np.testing.assert_array_equal(ours.potentials[:, column], expected)
        ends = ours.potentials[np.arange(9), column, ours.lengths[:, column] - 1]
        np.testing.assert_array_equal(ends, ours.rewards[:, column])
    assert (np.diff(ours.potentials) != 0).any()


def test_sampling_more_than_there_is_is_sampling_all() -> None:
    env, policy = reverse()
    plain, ours = (rolled(env, policy, np.arange(9), sampled_tokens=count) for count in (None, 100))
    np.testing.assert_array_equal(ours.sequences, plain.sequences)
    assert not ours.given.any()


@both_tasks
def test_a_rollouts_memory_is_that_of_the_shards_and_carries_their_graph(make: Make) -> None:
    env, policy = make()
    policy.eval()
    out = rolled(env, policy, np.arange(10), with_graph=True)
    source = env.task.source(np.arange(10)).map(torch.from_numpy)
    with fast_matmul():
        again = encode(policy, source, 4)
    gradients = []
    for memory in (out.memory, again):
        assert memory is not None
        policy.zero_grad()
        memory.banks["source"].values.square().sum().backward()
        gradients.append([p.grad.clone() for p in policy.parameters() if p.grad is not None])
        ours, theirs = memory.banks["source"], again.banks["source"]
        assert torch.equal(ours.keys[0], theirs.keys[0]) and torch.equal(ours.mask, theirs.mask)
    assert gradients[0] and all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    assert rolled(env, policy, np.arange(10)).memory is None


@both_tasks
def test_dropout_is_off_and_the_policys_mode_is_kept(make: Make) -> None:
    env, policy = make()
    calm = rolled(env, policy.eval(), np.arange(6))
    assert not policy.training
    assert_same(rolled(env, policy.train(), np.arange(6)), calm)
    assert policy.training

    def fails(ids: Any, sequences: Any) -> Any:
        raise RuntimeError("no reward")

    with pytest.raises(RuntimeError, match="no reward"):
        rollout(policy, env.task, fails, [np.arange(2)] * 3, RolloutRequest(1, False, 0), seed=0)
    assert policy.training


@both_tasks
def test_bf16_decodes_a_distribution_beside_and_says_which(make: Make) -> None:
    env, policy = make()
    exact, half = (rolled(env, policy, np.arange(24), precision=kind) for kind in ("fp32", "bf16"))
    time = min(exact.sequences.shape[2], half.sequences.shape[2])
    same = (exact.sequences[:, :, :time] == half.sequences[:, :, :time]).all(-1) & (exact.lengths == half.lengths)
    assert same.mean() > 0.5
    difference = np.abs(exact.log_probs - half.log_probs)[same]
    assert 0 < difference.max() < 0.2


def test_shards_of_different_lengths_are_padded_with_end_when_joined() -> None:
    env, policy = hull()
    ids = np.arange(12)
    whole = rolled(env, policy, ids, shard_size=1, with_attention=True)
    alone = [rolled(env, policy, [instance], with_attention=True) for instance in ids]
    assert len({part.sequences.shape[2] for part in alone}) > 1
    assert whole.attention is not None and whole.sequences.shape[2] == max(part.sequences.shape[2] for part in alone)
    for row, part in enumerate(alone):
        time = part.sequences.shape[2]
        assert np.array_equal(whole.sequences[row, :, :time], part.sequences[0])
        assert not whole.sequences[row, :, time:].any() and not whole.attention[row, :, time:].any()


def test_rollouts_travel_between_processes() -> None:
    env, policy = hull()
    out = rolled(env, policy, np.arange(5), with_attention=True)
    assert_same(pickle.loads(pickle.dumps(out)), out)
