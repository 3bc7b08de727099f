"""Every environment: Gymnasium's own checks, determinism, and whole sequences scored as by stepping."""

import warnings
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

import rlseq_envs
from rlseq_envs.env import SequenceEnv, SequenceVectorEnv, score_sequences
from rlseq_envs.source import Source, source_sizes
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import END, Rendering, Reward, SequenceTask, Split
from rlseq_envs.tasks.convex_hull import ConvexHullTask
from tests.support import only

COPY = "test/Copy-v0"
OURS = (
    *("rlseq/ConvexHull-v0", "rlseq/Tape-v0", "rlseq/Translation-v0", "rlseq/Story-v0", "rlseq/Caption-v0"),
    *("rlseq/Speech-v0", "rlseq/Pixels-v0"),
)
SENTENCES = ["a b c", "b a", "c c a b", "b", "a c b a", "c b"]


class CopyTask(SequenceTask):
    """Repeat the source, whose instance i reads i in base 3, digits 1 to 3: a user's task in as few lines as can be."""

    selection_metric = "matches"
    signature = "copy|version:1"

    def __init__(self, digits=4):
        self.digits = digits
        self.sources = {"digits": Space.of_tokens(4, digits)}
        self.choices = Choices(digits + 2, 4)

    def instances(self, split):
        return Split(split, 0 if split == "train" else 1000, None if split == "train" else 5)

    def source(self, ids):
        lengths = ids % self.digits + 1
        digits = ids[:, None] // 3 ** np.arange(lengths.max(initial=0)) % 3 + 1
        return Source.of(digits=(np.where(np.arange(digits.shape[1]) < lengths[:, None], digits, 0), lengths))

    def references(self, ids):
        source, lengths = only(self.source(ids))
        return np.pad(source, ((0, 0), (0, 1))), lengths + 1

    def length_limits(self, sizes):
        return sizes + 2

    def reward(self, sequences, lengths, ids):
        references, reference_lengths = self.references(ids)
        width = min(references.shape[1], sequences.shape[1])
        counts = np.arange(width) < np.minimum(lengths, reference_lengths)[:, None]
        matches = ((references[:, :width] == sequences[:, :width]) & counts).sum(axis=1)
        return Reward(matches / np.maximum(lengths, reference_lengths), {"matches": matches.astype(float)})

    def corpus_metrics(self, sequences, lengths, ids):
        return {"matches": float(self.reward(sequences, lengths, ids).total.mean())}

    def render(self, instance_id, sequence):
        source, _ = only(self.source(np.array([instance_id])))
        return Rendering(str(source[0].tolist()), str(source[0].tolist()), str(sequence.tolist()))


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Constructor arguments under which each environment can be made here."""
    folder = tmp_path_factory.mktemp("corpus")
    files = {}
    for split in ("train", "validation", "test"):
        for side in ("source", "target"):
            files[f"{split}_{side}"] = str(folder / f"{split}.{side}")
            (folder / f"{split}.{side}").write_text("\n".join(SENTENCES) + "\n")
    if COPY not in gym.registry:
        rlseq_envs.register(COPY, CopyTask, digits=3)
    return {
        "rlseq/ConvexHull-v0": {"max_points": 8, "reward": {"valid": 1.0, "edge_f1": 0.5, "coverage": 0.25}},
        "rlseq/Tape-v0": {"lengths": (1, 4), "repeats": (1, 2), "bits": 3, "reward": {"bits": 1.0, "exact": 0.5}},
        "rlseq/Translation-v0": {**files, "units": "word", "max_length": 6, "max_source_length": 8},
        "rlseq/Story-v0": {"reward": {"exact_match": 1.0, "f1": 0.5}, "memory": 6, "sentences": (3, 8)},
        "rlseq/Caption-v0": {"sizes": (60, 8, 8), "picture_size": 12, "captions": 2, "max_length": 26},
        "rlseq/Speech-v0": {
            **{"speakers": (2, 1, 1), "takes": 1, "max_seconds": 3.0, "bands": 10, "max_length": 6},
            "reward": {"exact_match": 1.0, "neg_wer": 0.5},
        },
        "rlseq/Pixels-v0": {"sizes": (60, 8, 8), "side": 4, "reward": {"digit": 1.0, "match": 0.5}},
        COPY: {},
    }


def task_of(env: gym.Env[Any, Any]) -> SequenceTask:
    return cast(SequenceEnv, env.unwrapped).task


@pytest.fixture(scope="module", params=[*OURS, COPY])
def made(request, arguments):
    """An environment's id and arguments."""
    return request.param, arguments[request.param]


@pytest.fixture(scope="module")
def task(made):
    return task_of(gym.make(made[0], **made[1]))


def test_every_registered_environment_is_tested_here():
    assert {name for name in gym.registry if name.startswith("rlseq/")} == set(OURS)


def test_gymnasium_finds_nothing_to_warn_of(made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(made[0], **made[1], render_mode="ansi")
        check_env(env.unwrapped)
        vector = gym.make_vec(made[0], num_envs=3, **made[1])
    assert isinstance(vector, SequenceVectorEnv) and vector.unwrapped.num_envs == 3
    observations, _ = vector.reset(seed=0)
    assert vector.observation_space.contains(observations)
    vector.action_space.seed(0)
    for _ in range(20):
        observations, *_ = vector.step(vector.action_space.sample())
        assert vector.observation_space.contains(observations)


def test_names_with_a_module_are_made():
    assert task_of(gym.make("rlseq_envs:rlseq/ConvexHull-v0", max_points=8)).sources["points"].largest == (8, 2)
    vector = gym.make_vec("rlseq_envs:rlseq/ConvexHull-v0", num_envs=2, max_points=6, split="test")
    assert vector.unwrapped.task.choices.longest == 7 and vector.unwrapped.split.name == "test"


def step_through(env, instance, sequence):
    """Reward, length, truncation and components of one sequence, one step at a time."""
    env.reset(options={"ids": instance})
    for length, token in enumerate(sequence, start=1):
        observation, reward, terminated, truncated, info = env.step(token)
        assert observation["length"] == length
        assert observation["tokens"][:length].tolist() == list(sequence[:length])
        assert not observation["tokens"][length:].any()
        if terminated or truncated:
            return reward, length, truncated, info["reward_components"]
        assert reward == 0 and "reward_components" not in info
    raise AssertionError("the episode did not end by its limit")


@st.composite
def batches(draw):
    """How to build a batch: per row, a position, whether to take the reference, noise to lay over it, how much."""
    row = st.tuples(
        st.integers(0, 5), st.booleans(), st.lists(st.floats(0, 1, exclude_max=True), min_size=12, max_size=12),
        st.integers(0, 12),
    )  # fmt: skip
    return draw(st.lists(row, min_size=1, max_size=6))


def build(task, rows):
    ids = task.instances("train").ids(0, 6)[[row[0] for row in rows]]
    references, _ = task.references(ids)
    choices = np.full(len(ids), task.choices.size) if task.choices.size else task.sizes(ids) + 1
    sequences = np.zeros((len(rows), task.choices.longest), np.int64)
    for i, (_, from_reference, noise, kept) in enumerate(rows):
        drawn = (np.resize(noise, task.choices.longest) * choices[i]).astype(int)
        sequences[i] = drawn
        if from_reference:
            width = min(references.shape[1], task.choices.longest)
            sequences[i, :width] = references[i, :width]
            sequences[i, kept:] = drawn[kept:]
    return ids, sequences


@given(rows=batches())
@settings(deadline=None, max_examples=60)
def test_rollout_returns_what_stepping_returns(task, rows):
    ids, sequences = build(task, rows)
    vector = SequenceVectorEnv(task, num_envs=len(rows), autoreset_mode=AutoresetMode.DISABLED)
    whole = vector.rollout(ids, sequences)
    env = SequenceEnv(task)
    for i, (instance, sequence) in enumerate(zip(ids, sequences, strict=True)):
        stepped = step_through(env, instance, sequence)
        components = {name: part[i] for name, part in whole.components.items()}
        assert stepped == (whole.rewards[i], whole.lengths[i], whole.truncated[i], components)
    vector.reset(options={"ids": ids})
    total = np.zeros(len(rows))
    for tokens in sequences.T:
        observations, rewards, terminated, truncated, info = vector.step(tokens)
        total += rewards
        for name, part in info.get("reward_components", {}).items():
            if not name.startswith("_"):
                rows_with = info["_reward_components"]
                assert (part[rows_with] == whole.components[name][rows_with]).all()
    assert (total == whole.rewards).all() and (truncated == whole.truncated).all() and (terminated != truncated).all()
    assert (observations["length"] == whole.lengths).all()


def test_references_roll_out_to_their_own_length(task):
    ids = task.instances("train").ids(0, 6)
    references, lengths = task.references(ids)
    result = score_sequences(task, ids, references)
    assert (result.lengths == lengths).all() and not result.truncated.any()
    assert (result.rewards > 0).all()


def test_nothing_after_end_or_the_limit_counts(task):
    ids = task.instances("train").ids(0, 6)
    references, lengths = task.references(ids)
    extended = np.pad(references, ((0, 0), (0, 40)))
    extended[np.arange(extended.shape[1]) >= lengths[:, None]] = 10**6
    a, b = score_sequences(task, ids, references), score_sequences(task, ids, extended)
    assert (a.rewards == b.rewards).all() and (a.lengths == b.lengths).all() and not b.truncated.any()
    endless = np.ones((6, 60), np.int64)
    result = score_sequences(task, ids, endless)
    assert (result.lengths == task.length_limits(task.sizes(ids))).all()
    assert (result.truncated == task.choices.ends).all()


def test_sizes_are_those_of_the_sources(task):
    for split in ("train", "validation"):
        ids = task.instances(split).ids(0, 5)[[3, 0, 3, 4]]
        sizes = task.sizes(ids)
        assert sizes.dtype == np.int64 and sizes.tolist() == source_sizes(task.source(ids)).tolist()


@pytest.mark.parametrize("name", OURS)
def test_scoring_reads_a_source_once_for_all_its_sequences(name, arguments, monkeypatch):
    task = task_of(gym.make(name, **arguments[name]))
    ids = np.repeat(task.instances("train").ids(0, 4), 5)
    sequences, read, source = task.references(ids)[0], [], task.source
    monkeypatch.setattr(task, "source", lambda asked: (read.extend(asked.tolist()), source(asked))[1])
    score_sequences(task, ids, sequences)
    assert len(read) == len(set(read)) <= 4


def test_a_sequence_that_stops_short_is_truncated_and_worth_what_is_there():
    task = CopyTask()
    ids = np.array([3])
    source, _ = only(task.source(ids))
    result = score_sequences(task, ids, source[:, :2])
    assert result.truncated.tolist() == [True] and result.lengths.tolist() == [2]
    assert result.rewards.tolist() == [2 / 5] and result.components["matches"].tolist() == [2]


@pytest.mark.parametrize(
    ("ids", "sequences", "problem"),
    [
        ([0, 1], [[1, 0]], "expected ids"),
        ([0], [1, 0], "expected ids"),
        ([0], [[]], "expected ids"),
        ([0.0], [[1, 0]], "must be integers"),
        ([0], [[1.0, 0.0]], "must be integers"),
        ([0], [[4, 0]], "leave the action space 0 … 3"),
        ([0], [[-1, 0]], "leave the action space 0 … 3"),
    ],
)
def test_batches_that_do_not_fit_are_refused(ids, sequences, problem):
    with pytest.raises(ValueError, match=problem):
        score_sequences(CopyTask(), ids, sequences)


def play(env, steps, seed):
    """All that a vector environment returns under seeded actions."""
    rng = np.random.default_rng(seed)
    trace = [env.reset(seed=seed)]
    for _ in range(steps):
        actions = rng.integers(0, env.single_action_space.n, env.num_envs)
        trace.append(env.step(np.where(rng.random(env.num_envs) < 0.3, END, actions)))
    return trace


def test_the_vector_environment_is_the_single_one_side_by_side(made):
    ours = gym.make_vec(made[0], num_envs=3, **made[1])
    theirs = gym.make_vec(made[0], num_envs=3, vectorization_mode="sync", **made[1])
    a, b = play(ours, 40, seed=5), play(theirs, 40, seed=5)
    np.testing.assert_equal(a, b)
    assert sum(step[2].sum() for step in a[1:]) > 5
    np.testing.assert_equal(play(ours, 40, seed=5), a)
    with pytest.raises(AssertionError):
        np.testing.assert_equal(play(ours, 40, seed=6), a)


def test_instances_come_from_the_chosen_split(made):
    for split in ("train", "validation", "test"):
        env = gym.make(made[0], split=split, **made[1]).unwrapped
        chosen = task_of(env).instances(split)
        ids = {env.reset(seed=seed)[1]["instance_id"] for seed in range(30)}
        assert len(ids) > 3 and min(ids) >= chosen.first
        assert chosen.size is None or max(ids) < chosen.first + chosen.size


def test_finished_sequences_stay_finished_until_reset_when_autoreset_is_disabled():
    env = SequenceVectorEnv(CopyTask(), num_envs=3, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0, options={"ids": [0, 1, 2]})
    env.step(np.array([END, 1, 1]))
    observations, rewards, terminated, truncated, info = env.step(np.array([1, END, 1]))
    assert terminated.tolist() == [True, True, False] and not truncated.any()
    assert observations["length"].tolist() == [1, 2, 2] and observations["tokens"][0].tolist() == [0] * 6
    assert rewards[0] == 0 and info["_reward_components"].tolist() == [False, True, False]
    mask = np.array([False, True, False])
    observations, info = env.reset(options={"reset_mask": mask, "ids": [7, 8, 9]})
    assert observations["length"].tolist() == [1, 0, 2]
    assert info["instance_id"].tolist() == [0, 8, 0] and info["_instance_id"].tolist() == mask.tolist()
    _, _, terminated, _, info = env.step(np.array([1, 1, END]))
    assert terminated.tolist() == [True, False, True] and info["instance_id"].tolist() == [0, 8, 2]


def test_a_masked_reset_is_gymnasiums():
    ours = SequenceVectorEnv(CopyTask(), num_envs=3, autoreset_mode=AutoresetMode.DISABLED)
    theirs = gym.vector.SyncVectorEnv([lambda: SequenceEnv(CopyTask())] * 3, autoreset_mode=AutoresetMode.DISABLED)
    traces = []
    for env in (ours, theirs):
        mask = np.array([False, True, True])
        trace = [env.reset(seed=3), env.step(np.array([2, END, 1])), env.reset(options={"reset_mask": mask})]
        traces.append([*trace, env.step(np.array([1, 1, END])), env.reset(seed=[None, 8, None])])
    np.testing.assert_equal(traces[0], traces[1])


def test_seeds_may_be_given_a_row():
    env = SequenceVectorEnv(ConvexHullTask(), num_envs=3)
    by_list = env.reset(seed=[4, None, 6])[1]["instance_id"]
    by_number = env.reset(seed=4)[1]["instance_id"]
    assert by_list[[0, 2]].tolist() == by_number[[0, 2]].tolist()
    unseeded = env.reset()[1]["instance_id"]
    assert (unseeded != by_number).all()


def test_the_action_mask_marks_the_points_there_are():
    env = SequenceEnv(ConvexHullTask(min_points=3, max_points=9))
    for instance in range(20):
        observation, info = env.reset(options={"ids": [instance]})
        assert info["instance_id"] == instance and info["action_mask"].dtype == np.int8
        assert info["action_mask"].tolist() == [1] * (observation["points_length"] + 1) + [0] * (
            9 - observation["points_length"]
        )


def test_an_unmasked_choice_is_allowed_and_worthless():
    env = SequenceEnv(ConvexHullTask(min_points=3, max_points=9))
    instance = next(i for i in range(99) if only(env.task.source(np.array([i])))[1] == 3)
    env.reset(options={"ids": instance})
    env.step(9)
    assert env.step(END)[1] == 0


def test_rendering_shows_source_output_and_reference():
    env = SequenceEnv(CopyTask(), render_mode="ansi")
    env.reset(options={"ids": 1})
    env.step(3)
    assert env.render() == "source    [2, 1]\noutput    [3]\nreference [2, 1]"
    vector = SequenceVectorEnv(CopyTask(), num_envs=2, render_mode="ansi")
    vector.reset(options={"ids": [1, 1]})
    vector.step(np.array([3, 3]))
    assert vector.render() == (env.render(),) * 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"ids": [1]}, "must hold 2 integers"),
        ({"ids": [1.0, 2.0]}, "must hold 2 integers"),
        ({"reset_mask": [True, False]}, "must be a bool array"),
        ({"reset_mask": np.array([True])}, "must be a bool array"),
        ({"reset_mask": np.array([False, False])}, "marks no row"),
    ],
)
def test_wrong_options_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        SequenceVectorEnv(CopyTask(), num_envs=2).reset(options=options)


def test_wrong_actions_and_seeds_are_refused():
    env, vector = SequenceEnv(CopyTask()), SequenceVectorEnv(CopyTask(), num_envs=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action 4 is outside"):
        env.step(4)
    env.step(END)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(1)
    vector.reset(seed=0)
    for actions, problem in (([1], "expected 2"), ([1.0, 1.0], "expected 2"), ([1, 4], "leave the action space")):
        with pytest.raises(ValueError, match=problem):
            vector.step(np.array(actions))
    with pytest.raises(ValueError, match="3 seeds for 2"):
        vector.reset(seed=[1, 2, 3])


@pytest.mark.parametrize(
    ("task", "arguments", "problem"),
    [
        ("rlseq_envs.tasks.convex_hull", {}, "give it as 'module:Class'"),
        ("rlseq_envs.tasks.convex_hull:Nothing", {}, "cannot be found"),
        ("rlseq_envs.nothing:Task", {}, "cannot be found"),
        ("rlseq_envs.task:Split", {}, "is no subclass"),
        (CopyTask(), {"digits": 3}, "made already; drop the arguments digits"),
        (ConvexHullTask, {"split": "dev"}, "no split 'dev'"),
        (ConvexHullTask, {"max_points": 0}, "max_points is 0; give a whole number above 0"),
    ],
)
def test_tasks_that_cannot_be_made_are_refused(task, arguments, problem):
    for kind in (SequenceEnv, SequenceVectorEnv):
        with pytest.raises(ValueError, match=problem):
            kind(task, **arguments)


def test_same_step_autoreset_is_refused():
    with pytest.raises(ValueError, match="use NextStep or Disabled"):
        SequenceVectorEnv(CopyTask(), autoreset_mode=AutoresetMode.SAME_STEP)
    assert SequenceVectorEnv(CopyTask(), autoreset_mode="Disabled").metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert SequenceVectorEnv(CopyTask()).metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
