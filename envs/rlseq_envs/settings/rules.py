"""Rules of single values, written into the annotations of settings.

``wrong_values`` checks them in plain Python. Pydantic, which the configuration is checked with, finds the same rules by
the hooks ``__get_pydantic_…__``; nothing here imports it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "None"}
Schema = dict[str, Any]


# --------------------------------------------------------------------------------------------------------- the rules
@dataclass(frozen=True)
class Range:
    """Limits of a number; None is no limit.

    Attributes:
        ge: The least number allowed.
        gt: A number that is too small, as are all below.
        lt: A number that is too large, as are all above.
    """

    ge: float | None = None
    gt: float | None = None
    lt: float | None = None

    def allows(self, value: Any) -> bool:
        """Whether a number is within the limits."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.lt is None or value < self.lt)
        )

    def __str__(self) -> str:
        named = (("at least", self.ge), ("above", self.gt), ("below", self.lt))
        return " and ".join(f"{words} {limit:g}" for words, limit in named if limit is not None)

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Schema]) -> Schema:
        """The number's schema with these limits, which pydantic calls by the same names."""
        return {**handler(source), **{name: limit for name, limit in vars(self).items() if limit is not None}}


@dataclass(frozen=True)
class Limit:
    """A number that no sensible value reaches: what is larger is a slip, refused before memory or time run out.

    Messages and the reference tell it apart from the rules above: it is told only if it is passed.

    Attributes:
        most: The largest number allowed.
        least: The least number allowed; None: other rules say.
    """

    most: float
    least: float | None = None

    def allows(self, value: Any) -> bool:
        """Whether a number is within the limit."""
        return value <= self.most and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        low = "" if self.least is None else f"at least {shown(self.least)} and "
        return f"{low}at most {shown(self.most)}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Schema]) -> Schema:
        """The number's schema with this limit."""
        return {**handler(source), "le": self.most, **({} if self.least is None else {"ge": self.least})}

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Schema]) -> Schema:
        """The limit has a word of its own: a maximum is part of what a value is for."""
        found = {key: value for key, value in handler(schema).items() if key != "maximum"}
        if self.least is not None:
            del found["minimum"]
        return {**found, "limit": str(self)}


def shown(number: float) -> str:
    """A number as messages have it: 1,000,000 and 1e+38."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


@dataclass(frozen=True)
class RewardName:
    """A reward is one that the task knows, or a function of the user's by its import path.

    Attributes:
        known: Names of the task's rewards.
    """

    known: Sequence[str]

    def allows(self, name: str) -> bool:
        """Whether a name is of either kind."""
        return name in self.known or IMPORT_PATH.fullmatch(name) is not None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Schema]) -> Schema:
        """A text that is checked after it was read."""

        def check(name: str) -> str:
            if not self.allows(name):
                raise ValueError(f"no reward is called {name!r}")
            return name

        function = {"type": "no-info", "function": check}
        return {"type": "function-after", "schema": handler(source), "function": function}

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Schema]) -> Schema:
        """The names, with which wrong ones are explained."""
        return {"type": "string", "enum": [*self.known, "package.module:function"]}


_COUNTED = Limit(10**12)  # more than can be counted to in a month
_SINGLE = Limit(1e38)  # more is infinite in single precision
PositiveInt = Annotated[int, Range(gt=0), _COUNTED]
NonNegativeInt = Annotated[int, Range(ge=0), _COUNTED]
Number = Annotated[float, Limit(1e38, -1e38)]
PositiveFloat = Annotated[float, Range(gt=0.0), _SINGLE]
NonNegativeFloat = Annotated[float, Range(ge=0.0), _SINGLE]
Fraction = Annotated[float, Range(ge=0.0, lt=1.0)]
Seed = Annotated[int, Range(ge=0), Limit(2**64 - 1)]
Seconds = Annotated[float, Range(gt=0.0), Limit(10**7)]  # four months
Instances = Annotated[int, Range(gt=0), Limit(10**8)]  # whose ids are held in memory
Points = Annotated[int, Range(gt=0), Limit(10**5)]  # of one set
Tokens = Annotated[int, Range(ge=2), Limit(10**5)]  # of one sequence, END included

FILE = "file"  # marks keys that name files to read
File = Annotated[str | None, FILE]
Files = Annotated[str | Sequence[str] | None, FILE]
DIRECTORY = "directory"  # marks keys that name directories to read
Directory = Annotated[str | None, DIRECTORY]


# ------------------------------------------------------------------------------------------------------ checking them
def field_hints(settings: type[Any]) -> Mapping[str, Any]:
    """The annotation of each field of a dataclass, rules included."""
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: hints[field.name] for field in fields(settings)}


def wrong_values(settings: Any) -> Iterator[str]:
    """A line for each value of a dataclass that its annotation does not allow: the key, and what would be right.

    What is in a dictionary is not looked at; see ``wrong_weights``.
    """
    for key, hint in field_hints(type(settings)).items():
        value = getattr(settings, key)
        if not _fits(value, hint):
            yield f"{key} is {value!r}; give {_describe(hint, limits=_fits(value, hint, limits=False))}"


def falling_ranges(settings: Any, *keys: str) -> Iterator[str]:
    """A line for each of these keys whose value, a pair if it is given, has the larger number first."""
    for key in keys:
        span = getattr(settings, key)
        if span is not None and span[0] > span[1]:
            yield f"{key} is {span}: give the smaller number first"


def wrong_weights(weights: Mapping[str, float], known: Sequence[str]) -> Iterator[str]:
    """A line for each wrong entry of a mixture of rewards, and one if nothing in it counts.

    Args:
        weights: Weight of each reward by its name or import path.
        known: Names of the task's rewards.
    """
    rule = RewardName(known)
    for name, weight in weights.items():
        if not rule.allows(name):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
            yield f"reward has no component {name!r}; {hint}"
        if not _fits(weight, NonNegativeFloat):
            yield f"reward weight of {name!r} is {weight!r}; give a finite number, 0 or more"
    if not any(weights.values()):
        yield "reward: give at least one component a weight above 0"


def _rules(hint: Any, limits: bool) -> Iterator[Any]:
    return (
        rule for rule in get_args(hint)[1:] if rule not in (FILE, DIRECTORY) and (limits or not isinstance(rule, Limit))
    )


def _fits(value: Any, hint: Any, limits: bool = True) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, arguments[0], limits) and all(rule.allows(value) for rule in _rules(hint, limits))
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(_fits(value, member, limits) for member in arguments)
    if origin in (tuple, Sequence):
        return isinstance(value, tuple | list) and _fit_items(value, arguments, limits)
    if hint is int or isinstance(value, int):
        return hint in (int, float, bool) and isinstance(value, int) and isinstance(value, bool) == (hint is bool)
    if hint is float:
        return isinstance(value, float) and math.isfinite(value)
    return isinstance(value, origin or hint)


def _fit_items(values: Sequence[Any], hints: Sequence[Any], limits: bool) -> bool:
    if len(hints) == 1 or hints[1] is Ellipsis:
        return all(_fits(value, hints[0], limits) for value in values)
    return len(values) == len(hints) and all(_fits(*pair, limits) for pair in zip(values, hints, strict=True))


def _describe(hint: Any, limits: bool = False) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_describe(arguments[0], limits)} {' and '.join(map(str, _rules(hint, limits)))}".strip()
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(_describe(member, limits) for member in arguments)
    if origin in (tuple, Sequence):
        size = "" if len(arguments) == 1 or arguments[1] is Ellipsis else f" of {len(arguments)}"
        return f"a list{size}, each {_describe(arguments[0], limits)}"
    return _WORDS.get(hint, "a dictionary")
