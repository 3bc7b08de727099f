"""Made stories: people go to places, take objects, put them down and hand them on; somebody asks.

A story is a function of seed and id alone. Its world is played through sentence by sentence; stories in which the
question cannot be asked are drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from rlseq_envs.counters import counter_uniforms
from rlseq_envs.settings.story import QuestionKind
from rlseq_envs.task import Ints
from rlseq_envs.text.stories import Told

PEOPLE = ("ada", "boris", "chen", "dina")
PLACES = ("attic", "bakery", "cellar", "harbour", "library", "stable")
OBJECTS = ("basket", "kettle", "lantern", "violin")
COUNTS = ("none", "one", "two", "three", "four")
GO = ("{0} went to the {1}", "{0} walked to the {1}", "{0} ran over to the {1}", "{0} is now in the {1}")
TAKE = ("{0} took the {1}", "{0} picked up the {1}", "{0} lifted the {1}")
PUT = ("{0} put down the {1}", "{0} left the {1} there")
GIVE = ("{0} gave the {1} to {2}", "{0} handed the {1} to {2}")
REST = ("{0} looked out of the window", "{0} sat down")
QUESTIONS: dict[QuestionKind, str] = {
    "person": "where is {0}",
    "object": "where is the {0}",
    "before": "where was the {0} before the {1}",
    "yes_no": "is {0} in the {1}",
    "count": "how many things does {0} carry",
    "list": "what does {0} carry",
}
_DRAWS = 6  # of a sentence, at most

Item = TypeVar("Item")
Draw = Callable[[Sequence[Item]], Item]


def words() -> list[str]:
    """All words that stories, questions and answers are made of, in a fixed order."""
    texts = [*PEOPLE, *PLACES, *OBJECTS, *COUNTS, *GO, *TAKE, *PUT, *GIVE, *REST, *QUESTIONS.values(), "yes no nothing"]
    return sorted({word for text in texts for word in text.split() if "{" not in word})


def make_stories(
    seed: int, ids: Ints, kinds: Sequence[QuestionKind], sentences: tuple[int, int]
) -> tuple[list[Told], list[int]]:
    """A story for each id, and the index of its kind of question.

    Args:
        seed: Chooses the family of stories.
        ids: (batch_size,).
        kinds: Of questions, equally often.
        sentences: The fewest and the most.
    """
    made: dict[int, Told] = {}
    chosen = [0] * len(ids)
    missing, attempt = np.arange(len(ids)), 0
    while len(missing):
        uniforms = counter_uniforms(seed, attempt, ids[missing], 1, _DRAWS * (sentences[1] + 2))[:, 0]
        if not attempt:
            chosen = (uniforms[:, 0] * len(kinds)).astype(np.int64).tolist()
        for row, numbers in zip(missing.tolist(), uniforms[:, 1:].tolist(), strict=True):
            told = _make_story(iter(numbers), kinds[chosen[row]], sentences)
            if told is not None:
                made[row] = told
        missing, attempt = np.array([row for row in missing.tolist() if row not in made], np.int64), attempt + 1
    return [made[row] for row in range(len(ids))], chosen


class _World:
    """Who is where, who has what, and where each object has been.

    Attributes:
        at: Place of each person who has been seen.
        carried: Objects of each person, in the order in which they came by them.
        lying: Place of each object that was put down.
        seen: Places of each object that was ever taken, one after another.
    """

    def __init__(self, draw: Draw[str]) -> None:
        self.draw = draw
        self.at: dict[str, str] = {}
        self.carried: dict[str, list[str]] = {person: [] for person in PEOPLE}
        self.lying: dict[str, str] = {}
        self.seen: dict[str, list[str]] = {}

    def tell(self) -> str:
        """Have somebody do something; the sentence that says so."""
        draw, person = self.draw, self.draw(PEOPLE)
        place, own = self.at.get(person), self.carried[person]
        action = draw(("go", "go", "go", "take", "take", "put", "give", "rest"))
        if place is None or action == "go":
            place = draw([other for other in PLACES if other != place])
            self.at[person] = place
            for thing in own:
                self.seen[thing].append(place)
            return draw(GO).format(person, place)
        held = {thing for things in self.carried.values() for thing in things}
        free = [thing for thing in OBJECTS if thing not in held and self.lying.get(thing, place) == place]
        if free and (action == "take" or not own):
            thing = draw(free)
            own.append(thing)
            self.lying.pop(thing, None)
            self.seen.setdefault(thing, [place])
            return draw(TAKE).format(person, thing)
        near = [other for other in PEOPLE if other != person and self.at.get(other) == place]
        if own and near and action == "give":
            thing, other = draw(own), draw(near)
            own.remove(thing)
            self.carried[other].append(thing)
            return draw(GIVE).format(person, thing, other)
        if own and action != "rest":
            thing = draw(own)
            own.remove(thing)
            self.lying[thing] = place
            return draw(PUT).format(person, thing)
        return draw(REST).format(person)

    def ask(self, kind: QuestionKind) -> tuple[str, str] | None:
        """A question of this kind and its answer; None if the story does not tell."""
        draw, known = self.draw, sorted(self.at)
        if kind == "person":
            person = draw(known)
            return QUESTIONS[kind].format(person), self.at[person]
        if kind == "yes_no":
            person = draw(known)
            other = draw([place for place in PLACES if place != self.at[person]])
            place = draw((self.at[person], other))
            return QUESTIONS[kind].format(person, place), "yes" if place == self.at[person] else "no"
        if kind in ("count", "list"):
            active = [person for person in known if self.carried[person]]
            person = draw(draw((known, active or known)))  # type: ignore[arg-type]
            own = self.carried[person]
            return QUESTIONS[kind].format(person), COUNTS[len(own)] if kind == "count" else " ".join(own) or "nothing"
        wanted = 2 if kind == "before" else 1
        things = sorted(thing for thing, places in self.seen.items() if len(places) >= wanted)
        if not things:
            return None
        thing = draw(things)
        *_, before, now = ["", *self.seen[thing]]
        if kind == "object":
            return QUESTIONS[kind].format(thing), now
        return QUESTIONS["before"].format(thing, now), before


def _make_story(numbers: Iterator[float], kind: QuestionKind, sentences: tuple[int, int]) -> Told | None:
    def draw(items: Sequence[Item]) -> Item:
        return items[int(next(numbers) * len(items))]

    low, high = sentences
    count, world = draw(range(low, high + 1)), _World(draw)
    told = [world.tell() for _ in range(count)]
    asked = world.ask(kind)
    return None if asked is None else Told(told, *asked)
