"""Sources of every kind: what describes them, what cuts and joins them, and the environments that show them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from rlseq.data.padding import concatenate_sources
from rlseq_envs.env import SequenceEnv, SequenceVectorEnv
from rlseq_envs.source import Padded, Source, source_sizes
from rlseq_envs.spaces import Choices, Space
from rlseq_envs.task import Ints, Rendering, Reward, SequenceTask, Split, SplitName

PICTURE = Space((4, 6, 1), dtype="uint8")
STORY = {"story": Space((None, None), (4, 3), 9, "int64"), "question": Space.of_tokens(9, 2)}
KINDS: dict[str, dict[str, Space]] = {
    "nothing": {},
    "picture": {"picture": PICTURE},
    "story": STORY,
    "sound": {"sound": Space((None, 5), (7,))},
    "both": {"text": Space.of_tokens(5, 4), "picture": PICTURE},
}


class AnySource(SequenceTask):
    """Emit tokens 1 … 3; worth the fraction of 1s. Sources are random and follow from their ids."""

    selection_metric = "ones"
    signature = "any|version:1"
    choices = Choices(4, 4)

    def __init__(self, kind: str) -> None:
        self.sources = KINDS[kind]

    def instances(self, split: SplitName) -> Split:
        return Split(split, 0, 50)

    def source(self, ids: Ints) -> Source[npt.NDArray[Any]]:
        """Every instance alone, then joined."""
        return concatenate_sources([Source(1, {n: field(s, int(i)) for n, s in self.sources.items()}) for i in ids])

    def references(self, ids: Ints) -> tuple[Ints, Ints]:
        return np.tile([1, 1, 1, 0], (len(ids), 1)), np.full(len(ids), 4)

    def reward(self, sequences: Ints, lengths: Ints, ids: Ints) -> Reward:
        ones = ((sequences == 1) & (np.arange(sequences.shape[1]) < lengths[:, None])).sum(1) / lengths
        return Reward(ones, {"ones": ones})

    def corpus_metrics(self, sequences: Ints, lengths: Ints, ids: Ints) -> dict[str, float]:
        return {"ones": float(self.reward(sequences, lengths, ids).total.mean())}

    def render(self, instance_id: int, sequence: Ints) -> Rendering:
        return Rendering(str(instance_id), "1 1 1", str(sequence))


def field(space: Space, seed: int) -> Padded[npt.NDArray[Any]]:
    """A random field of one source, padded no further than it needs."""
    generator = np.random.default_rng(seed)
    lengths = None
    axes = list(space.largest)
    if space.varying == 1:
        lengths = generator.integers(1, space.longest[0] + 1, 1)
        axes[0] = int(lengths[0])
    elif space.varying == 2:
        lengths = generator.integers(1, space.longest[1] + 1, (1, generator.integers(1, space.longest[0] + 1)))
        axes[:2] = lengths.shape[1], int(lengths.max())
    bound = space.tokens or (256 if space.dtype == "uint8" else 2)
    values = generator.integers(0, bound, (1, *axes)).astype(space.dtype)
    if space.varying == 2 and lengths is not None:
        values *= np.arange(axes[1]) < lengths[..., None]
    return Padded(values, lengths)


def assert_same(ours: Source[npt.NDArray[Any]], theirs: Source[npt.NDArray[Any]]) -> None:
    assert ours.size == theirs.size and ours.fields.keys() == theirs.fields.keys()
    for name in ours.fields:
        for one, other in zip(ours.fields[name], theirs.fields[name], strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                np.testing.assert_array_equal(one, other)


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_environments_of_every_source_pass_gymnasiums_checks(kind: str) -> None:
    env = SequenceEnv(AnySource(kind))
    check_env(env, skip_render_check=True)
    vector = SequenceVectorEnv(AnySource(kind), num_envs=3)
    observations, _ = vector.reset(seed=0)
    for _ in range(9):
        assert vector.observation_space.contains(observations)
        observations, *_ = vector.step(vector.action_space.sample())


@every_kind
def test_observations_show_the_source_of_the_episode_and_nothing_of_one_before(kind: str) -> None:
    task = AnySource(kind)
    vector = SequenceVectorEnv(task, num_envs=2, autoreset_mode=AutoresetMode.DISABLED)
    for first in range(0, 12, 2):
        ids = np.array([first, first + 1])
        observed, _ = vector.reset(options={"ids": ids})
        for name, (values, lengths) in task.source(ids).fields.items():
            shown = observed[name]
            assert shown.dtype == task.sources[name].dtype and shown.shape == (2, *task.sources[name].largest)
            assert np.array_equal(shown[tuple(map(slice, values.shape))], values)
            assert np.count_nonzero(shown) == np.count_nonzero(values)
            assert (f"{name}_length" in observed) == (lengths is not None)
            if lengths is not None:
                assert observed[f"{name}_length"].sum() == lengths.sum()


@every_kind
def test_parts_of_a_source_joined_are_the_source(kind: str) -> None:
    task, ids = AnySource(kind), np.arange(11)
    whole = task.source(ids)
    parts = [whole.part(start, start + 4) for start in range(0, 11, 4)]
    assert [part.size for part in parts] == [4, 4, 3]
    for start, part in zip(range(0, 11, 4), parts, strict=True):
        assert_same(part, task.source(ids[start : start + 4]))  # no wider than it needs
    assert_same(concatenate_sources(parts), whole)
    chosen = np.array([3, 0, 3])
    assert_same(whole.select(chosen).part(0, 3), task.source(chosen))


def test_a_size_counts_the_positions_of_the_first_field() -> None:
    lengths = np.array([[2, 3, 0], [1, 0, 0]])
    story = Padded(np.zeros((2, 3, 3), np.int64), lengths)
    question = Padded(np.zeros((2, 2), np.int64), np.array([2, 1]))
    assert source_sizes(Source(2, {"story": story, "question": question})).tolist() == [5, 1]
    assert source_sizes(Source(2, {"question": question, "story": story})).tolist() == [2, 1]
    assert source_sizes(Source(2, {"picture": Padded(np.zeros((2, 4, 6, 1)), None)})).tolist() == [4, 4]
    assert source_sizes(Source(3, {})).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space((2, None), (3,)), "those that vary come first"),
        (lambda: Space((None, None, None), (1, 1, 1)), "two at most"),
        (lambda: Space((None, 2)), "has to name the most along each of 1 axes"),
        (lambda: Space((None,), (3,), tokens=5), "tokens are int64"),
        (lambda: Choices(3), "a size, or they point"),
        (lambda: Choices(3, 4, points_to="points"), "a size, or they point"),
        (lambda: Choices(3, points_to="points", ends=False), "choices that point have END"),
        (lambda: Choices(9, 4, columns=3), "3 columns need sequences without END that fill their rows"),
        (lambda: Choices(8, 4, ends=False, columns=3), "3 columns need sequences without END that fill their rows"),
    ],
)
def test_what_describes_no_source_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_field_cannot_be_called_as_what_was_emitted() -> None:
    task = AnySource("nothing")
    task.sources = {"tokens": Space.of_tokens(5, 4)}
    with pytest.raises(ValueError, match=r"AnySource\.sources: tokens is taken"):
        SequenceEnv(task)
