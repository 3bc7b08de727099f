"""Made pictures: coloured shapes beside and above each other, and what can be said of them.

A scene is a function of seed and id alone. It has two or three objects in a chain: the first is left of the second or
above it, and so is the second to the third. What a scene shows, its objects and how they lie, belongs to one split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlseq_envs.counters import counter_uniforms
from rlseq_envs.settings.caption import MOST_OBJECTS as MOST
from rlseq_envs.task import Bools, Floats, Ints, SplitName

COLORS = {
    "red": (220, 50, 45), "green": (60, 170, 70), "blue": (60, 90, 220),
    "yellow": (235, 205, 60), "white": (235, 235, 235), "purple": (150, 70, 180),
}  # fmt: skip
SHAPES = (("circle", "disc"), ("square", "box"), ("triangle",), ("diamond", "rhombus"), ("cross", "plus"))
SIZES = (("small", "little"), ("large", "big"))
# How the first of two lies to the second, and the second to the first.
RELATIONS = (
    (("left of", "to the left of", "on the left of"), ("right of", "to the right of", "on the right of")),
    (("above", "over", "on top of"), ("below", "under", "beneath")),
)
FORWARDS = ("{0} is {1} {2}", "{0} {1} {2}", "there is {0} {1} {2}", "{0} sits {1} {2}")
BACKWARDS = ("{2} is {1} {0}", "{2} {1} {0}")
THIRD = (" that is {0} {1}", " and {0} {1}")  # of what was said forwards, backwards

CELLS = 3  # of a picture in each direction; an object is in one of them
_RADIUS = np.array([[0.20, 0.26], [0.36, 0.44]])  # of small and large objects, in cells
_DRAWS_OF_CONTENT = 2 + 4 * MOST
_DRAWS_OF_LOOKS = 5 + 6 * MOST
_DRAWS_OF_CAPTION = 7 + 2 * MOST
_HELD_OUT: dict[int, SplitName] = {0: "validation", 1: "test"}  # tenths of what there is to be seen
_NOISE = 16.0  # range of a pixel's
_FROM_CONTENT, _FROM_LOOKS, _FROM_NOISE, _FROM_CAPTIONS = 0, 1 << 20, 1 << 21, 1 << 22  # counters of their own


@dataclass(frozen=True)
class Scenes:
    """What scenes show, and how.

    Attributes:
        seed: Of the family of scenes.
        ids: (scenes,).
        count: (scenes,) how many objects there are.
        color: (scenes, 3) index of each object's; beyond ``count`` it says nothing, as below.
        shape: (scenes, 3) likewise.
        size: (scenes, 3) 0 small, 1 large.
        relation: (scenes, 2) of each object to the next one, 0 left of, 1 above.
    """

    seed: int
    ids: Ints
    count: Ints
    color: Ints
    shape: Ints
    size: Ints
    relation: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Ints) -> Scenes:
        """Some of them."""
        columns = (self.ids, self.count, self.color, self.shape, self.size, self.relation)
        return Scenes(self.seed, *(column[rows] for column in columns))

    @property
    def content(self) -> Ints:
        """(scenes,) a number for all that can be said of a scene."""
        there, joined = np.arange(MOST) < self.count[:, None], self.count.copy()
        kind = (self.color * len(SHAPES) + self.shape) * len(SIZES) + self.size
        for place in range(MOST):
            joined = joined * (len(COLORS) * len(SHAPES) * len(SIZES) + 1) + np.where(
                there[:, place], kind[:, place] + 1, 0
            )
        for place in range(MOST - 1):
            joined = joined * 2 + np.where(there[:, place + 1], self.relation[:, place], 0)
        return joined


def make_scenes(seed: int, ids: Ints, split: SplitName, objects: tuple[int, int]) -> Scenes:
    """A scene for each id, none of which shows what one of another split shows.

    Args:
        seed: Chooses the family.
        ids: (scenes,).
        split: Where they belong.
        objects: The fewest and the most of a scene.
    """
    made, missing, attempt = _draw_contents(seed, ids, 0, objects), np.arange(len(ids)), 0
    while True:
        missing = missing[~_belongs(made.take(missing), split)]
        if not len(missing):
            return made
        attempt += 1
        again = _draw_contents(seed, ids[missing], attempt, objects)
        for name in ("count", "color", "shape", "size", "relation"):
            getattr(made, name)[missing] = getattr(again, name)


def _draw_contents(seed: int, ids: Ints, attempt: int, objects: tuple[int, int]) -> Scenes:
    draws = iter(counter_uniforms(seed, _FROM_CONTENT + attempt, ids, 1, _DRAWS_OF_CONTENT)[:, 0].T)

    def below(count: int, width: int) -> Ints:
        return np.stack([(next(draws) * count).astype(np.int64) for _ in range(width)], axis=1)

    low, high = objects
    count = low + below(high - low + 1, 1)[:, 0]
    color, shape, size = (below(len(names), MOST) for names in (COLORS, SHAPES, SIZES))
    return Scenes(seed, ids, count, color, shape, size, below(2, MOST - 1))


def _belongs(scenes: Scenes, split: SplitName) -> Bools:
    # The same for all: the content takes the place of an id.
    tenth = (counter_uniforms(scenes.seed, _FROM_CONTENT, scenes.content, 1, 1)[:, 0, 0] * 10).astype(np.int64)
    if split == "train":
        return ~np.isin(tenth, list(_HELD_OUT))
    return np.isin(tenth, [key for key, name in _HELD_OUT.items() if name == split])


# --------------------------------------------------------------------------------------------------------- the pixels
def draw_scenes(scenes: Scenes, side: int) -> npt.NDArray[np.uint8]:
    """Pictures (scenes, side, side, 3) on a dark ground, with noise."""
    rows = len(scenes)
    draws = iter(counter_uniforms(scenes.seed, _FROM_LOOKS, scenes.ids, 1, _DRAWS_OF_LOOKS)[:, 0].T)
    noise = counter_uniforms(scenes.seed, _FROM_NOISE, scenes.ids, 1, side * side)[:, 0].reshape(rows, side, side, 1)
    ground = 20 + 50 * next(draws)
    canvas = np.broadcast_to(ground[:, None, None, None], (rows, side, side, 3)) + _NOISE * (noise - 0.5)
    columns, lines = _cells(scenes, next(draws), next(draws), next(draws))
    palette = np.array(list(COLORS.values()), np.float64)
    across = (np.arange(side) + 0.5) * CELLS / side  # in cells
    for place in range(MOST):
        low, high = _RADIUS[scenes.size[:, place]].T
        radius = low + (high - low) * next(draws)
        room = 0.9 * (0.5 - radius)
        x = columns[:, place] + 0.5 + room * (2 * next(draws) - 1)
        y = lines[:, place] + 0.5 + room * (2 * next(draws) - 1)
        reach = _reach(scenes.shape[:, place], across - x[:, None], across - y[:, None])
        # The edge is a pixel wide.
        opaque = np.clip((radius[:, None, None] - reach) * side / CELLS + 0.5, 0, 1)
        opaque *= (place < scenes.count)[:, None, None]
        shade = 0.85 + 0.3 * next(draws)
        color = palette[scenes.color[:, place]] * shade[:, None]
        canvas += opaque[..., None] * (color[:, None, None] + _NOISE * (noise - 0.5) - canvas)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _cells(scenes: Scenes, spread: Floats, right: Floats, down: Floats) -> tuple[Ints, Ints]:
    """Column and line of each object's cell, (scenes, 3) each: the chain, somewhere in the picture."""
    there = np.arange(1, MOST) < scenes.count[:, None]
    steps = there * np.where((scenes.count == 2) & (spread < 0.5), 2, 1)[:, None]
    ends = []
    for axis, where in ((0, right), (1, down)):
        walked = np.pad(np.cumsum(np.where(scenes.relation == axis, steps, 0), axis=1), ((0, 0), (1, 0)))
        room = CELLS - walked.max(axis=1)
        ends.append(walked + (where * room).astype(np.int64)[:, None])
    return ends[0], ends[1]


def _reach(shape: Ints, x: Floats, y: Floats) -> Floats:
    """How large each shape has to be to reach each pixel, (scenes, lines, columns); y grows downwards."""
    across, down = np.abs(x)[:, None, :], np.abs(y)[:, :, None]
    below = np.broadcast_to(y[:, :, None], (len(shape), y.shape[1], x.shape[1]))
    forms = (
        np.hypot(across, down),
        1.15 * np.maximum(across, down),
        1.7 * np.maximum(0.866 * across - 0.5 * below, below),
        0.85 * (across + down),
        np.minimum(np.maximum(across, 3 * down), np.maximum(3 * across, down)),
    )
    return np.choose(shape[:, None, None], forms)


# -------------------------------------------------------------------------------------------------------- the captions
def caption_scenes(scenes: Scenes, captions: int) -> Iterator[list[str]]:
    """Captions of each scene: paraphrases of the same, the likelier ones more often."""
    uniforms = counter_uniforms(scenes.seed, _FROM_CAPTIONS, scenes.ids, captions, _DRAWS_OF_CAPTION)
    columns = (scenes.count, scenes.color, scenes.shape, scenes.size, scenes.relation)
    for row, numbers in zip(zip(*(column.tolist() for column in columns), strict=True), uniforms.tolist(), strict=True):
        yield [_caption(row, iter(each)) for each in numbers]


def _caption(scene: tuple[int, list[int], list[int], list[int], list[int]], numbers: Iterator[float]) -> str:
    count, color, shape, size, relation = scene

    def draw(names: Sequence[str]) -> str:
        """The first ones more often."""
        return names[int(next(numbers) ** 1.7 * len(names))]

    def say(place: int) -> str:
        said = draw(("", *SIZES[size[place]])) if next(numbers) < 0.4 else SIZES[size[place]][0]
        return " ".join(filter(None, ("a", said, tuple(COLORS)[color[place]], draw(SHAPES[shape[place]]))))

    objects = [say(place) for place in range(count)]
    forwards = next(numbers) < 0.7
    told = draw(FORWARDS if forwards else BACKWARDS).format(
        objects[0], draw(RELATIONS[relation[0]][not forwards]), objects[1]
    )
    if count < MOST:
        return told
    return told + THIRD[not forwards].format(draw(RELATIONS[relation[1]][0]), objects[2])
