"""Counter-based uniforms: a function of their key alone, uniform and without collisions."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq_envs.counters import GAMMA, counter_uniforms, mix

words = st.integers(0, 2**40)


def test_words_are_those_of_splitmix64() -> None:
    # First outputs of the authors' splitmix64.c for the state 1234567.
    states = np.uint64(1234567) + GAMMA * np.arange(1, 4, dtype=np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@settings(max_examples=50, deadline=None)
@given(seed=words, update=words, ids=st.lists(words, min_size=1, max_size=6), samples=st.integers(1, 4))
def test_a_draw_depends_on_its_own_key_alone(seed: int, update: int, ids: list[int], samples: int) -> None:
    batch = np.array(ids)
    drawn = counter_uniforms(seed, update, batch, samples, 5)
    assert drawn.shape == (len(ids), samples, 5) and drawn.dtype == np.float64
    assert (drawn >= 0).all() and (drawn < 1).all()
    for row, instance in enumerate(ids):
        alone = counter_uniforms(seed, update, np.array([instance]), samples + 2, 9)
        assert np.array_equal(drawn[row], alone[0, :samples, :5])
    assert np.array_equal(counter_uniforms(seed, update, batch[::-1], samples, 5), drawn[::-1])


def test_draws_are_uniform_in_every_direction_of_the_key() -> None:
    def far_from_uniform(values: np.ndarray) -> float:
        """Kolmogorov and Smirnov's distance, in units of its scale."""
        ordered = np.sort(values.ravel())
        return float(np.abs(ordered - (np.arange(ordered.size) + 0.5) / ordered.size).max() * ordered.size**0.5)

    ids = np.arange(4000)
    along = {
        "ids": counter_uniforms(0, 0, ids, 1, 1),
        "validation ids": counter_uniforms(0, 0, ids + (1 << 40), 1, 1),
        "positions": counter_uniforms(0, 0, ids[:1], 1, 4000),
        "samples": counter_uniforms(0, 0, ids[:1], 4000, 1),
        "updates": np.stack([counter_uniforms(0, update, ids[:1], 1, 1) for update in range(4000)]),
        "seeds": np.stack([counter_uniforms(seed, 0, ids[:1], 1, 1) for seed in range(4000)]),
    }
    assert {name: d for name, values in along.items() if (d := far_from_uniform(values)) > 1.95} == {}  # p ≈ 0.001


def test_neighbours_are_uncorrelated() -> None:
    drawn = counter_uniforms(3, 5, np.arange(60), 60, 60)
    for axis in range(3):
        first, second = (np.moveaxis(drawn, axis, 0)[part].ravel() for part in (slice(1, None), slice(None, -1)))
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / first.size**0.5


def test_no_two_keys_collide() -> None:
    ids = np.concatenate([np.arange(200), np.arange(200) + (1 << 40)])
    draws = [counter_uniforms(seed, update, ids, 8, 12) for seed in range(3) for update in (0, 1, 1000)]
    assert np.unique(draws).size == np.size(draws)
