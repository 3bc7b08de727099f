"""What clients of other people's ask of every environment: masks, seeds and infos of their types, order of calls."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import FlattenObservation

from tests.envs.test_env import OURS
from tests.pages import ENVIRONMENTS, blocks

SMALL: dict[str, dict[str, Any]] = {
    "rlseq/Caption-v0": {"sizes": (40, 5, 5), "picture_size": 12},
    "rlseq/ConvexHull-v0": {"min_points": 5, "max_points": 7},
    "rlseq/Speech-v0": {"speakers": (2, 1, 1), "takes": 1, "max_seconds": 2.0, "bands": 10},
    "rlseq/Pixels-v0": {"sizes": (40, 5, 5), "side": 4},
    "rlseq/Story-v0": {"sentences": (3, 5)},
    "rlseq/Tape-v0": {"lengths": (1, 4)},
    "rlseq/Translation-v0": {"cldr_sizes": (40, 5, 5)},
}


@pytest.fixture(scope="module", params=OURS)
def name(request):
    return request.param


def single(name):
    return gym.make(name, **SMALL[name])


def vector(name):
    return gym.make_vec(name, 3, vectorization_mode="vector_entry_point", **SMALL[name])


def test_masks_are_asked_for_by_the_name_that_maskable_ppo_knows(name):
    env = single(name)
    _, info = env.reset(seed=1)
    masks = env.unwrapped.action_masks()
    assert (masks.shape, masks.dtype) == ((env.action_space.n,), np.bool_)
    np.testing.assert_array_equal(masks, info["action_mask"])


def test_infos_are_of_numpys_types(name):
    """Readers of infos ask each value for its dtype and shape."""
    _, info = single(name).reset(seed=1)
    assert all(isinstance(value, np.ndarray | np.generic) for value in info.values())


@pytest.mark.parametrize("make", [single, vector])
def test_a_step_before_the_first_reset_is_refused_as_gymnasium_does(name, make):
    env = make(name).unwrapped
    with pytest.raises(gym.error.ResetNeeded, match="begun; call reset"):
        env.step(np.zeros(3, np.int64) if make is vector else np.int64(0))


def test_a_step_is_refused_until_every_row_was_reset(name):
    env = vector(name)
    env.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(gym.error.ResetNeeded, match=r"rows \[1, 2\]"):
        env.step(np.zeros(3, np.int64))


@pytest.mark.parametrize("make", [single, vector])
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.uint64])
def test_seeds_may_be_numpys_integers(name, make, kind):
    first, second = (make(name).reset(seed=seed)[1]["instance_id"] for seed in (3, kind(3)))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_seeds_of_rows_may_be_numpys_integers(name, kind):
    first, second = (
        vector(name).reset(seed=seeds)[1]["instance_id"] for seeds in ([3, 8, 1], [kind(3), kind(8), kind(1)])
    )
    np.testing.assert_array_equal(first, second)


def test_observations_can_be_flattened(name):
    env: Any = FlattenObservation(single(name))
    observation, _ = env.reset(seed=1)
    assert observation.ndim == 1
    assert observation in env.observation_space


def test_the_page_of_environments_does_what_it_says(capsys):
    (example,) = blocks(ENVIRONMENTS, "python")
    exec(example, {})
    shape, reward = capsys.readouterr().out.rsplit(maxsplit=1)
    assert shape.startswith("(") and float(reward) in (0.0, 1.0)
