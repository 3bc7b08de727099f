"""The options of decoding, as functions and commands take them."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, get_type_hints

from rlseq.api.checks import Naming
from rlseq.config.errors import did_you_mean
from rlseq.evaluation.options import USED, DecodingOptions, wrong_values

METHODS = ("greedy", "beam", "sample", "exhaustive")


class Decoding(TypedDict, total=False):
    """How to decode: one method, and options of it. By default a task decodes greedily, or draws if it says so.

    ``rlseq.evaluation.options.DecodingOptions`` says what each option means.
    """

    greedy: bool  # the most likely token each time
    beam: int  # beam search of this size
    sample: bool  # draw
    exhaustive: bool  # the best of all sequences, where these are few
    length_penalty: float  # of a search; default: 1
    length_norm: Literal["power", "gnmt"]
    coverage_penalty: float  # of a search; default: 0
    groups: int  # of a beam; default: 1
    diversity: float  # of groups; default: 0.5
    temperature: float  # of samples; default: 1
    top_k: int
    top_p: float
    seed: int  # of samples; default: 0
    min_length: int  # tokens, END included
    max_length: int


def decoding_methods(given: Decoding) -> list[str]:
    """How to decode: one at most if what is given makes sense; none: the task's own way."""
    return [name for name in METHODS if given.get(name) is not None and given.get(name) is not False]


def decoding_problems(given: Decoding, called: Naming) -> list[str]:
    """Options that do not exist, that do not go together, and values that cannot be used, all of them.

    Args:
        given: Names and values.
        called: What messages call an option.
    """
    kinds, wrong = get_type_hints(Decoding), []
    for name, value in given.items():
        if name not in kinds:
            wrong.append(f"{called(name)}: decoding has no such option{did_you_mean(name, kinds)}")
        elif not _is(value, kinds[name]):
            wrong.append(f"{called(name, value)}: give {_KINDS.get(kinds[name], 'power or gnmt')}")
    if wrong:
        return wrong
    options, methods = _options(given), decoding_methods(given)
    if len(methods) > 1:
        wrong.append(f"{', '.join(map(called, METHODS[:-1]))} and {called(METHODS[-1])} exclude each other: give one")
    used = {"method", *(name for method in methods or ["greedy"] for name in USED[method])}
    wrong += [f"{_called(name, called)} is for {_give(name, called)} too" for name in options if name not in used]
    if "diversity" in options and "groups" not in options:
        wrong.append(f"{called('diversity')} is for groups: give {called('groups')} too")
    for name, right in wrong_values(options):
        value = options[name]
        wrong.append(f"{_called(name, called)} {f'{value:g}' if isinstance(value, float) else value}: {right}")
    return wrong


def decoding_options(given: Decoding) -> DecodingOptions:
    """As evaluation takes them."""
    return DecodingOptions(**_options(given))


_KINDS = {bool: "True or False", int: "a whole number", float: "a number"}


def _is(value: object, kind: Any) -> bool:
    """Whether a value is of a kind; a whole number is a number, too, True and False are none."""
    if kind not in _KINDS or isinstance(value, bool):
        return isinstance(value, str) if kind not in _KINDS else kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _options(given: Decoding) -> dict[str, Any]:
    """What is given, under the names of ``DecodingOptions``."""
    values = {name: value for name, value in given.items() if name not in METHODS}
    size = {"beam_size": given["beam"]} if "beam" in given else {}
    return {"method": next(iter(decoding_methods(given)), None), **size, **values}


def _called(name: str, called: Naming) -> str:
    return called("beam" if name == "beam_size" else name)


def _give(name: str, called: Naming) -> str:
    """The methods that an option is for, and what asks for them."""
    if name in USED["sample"]:
        return f"sampling: give {called('sample')}"
    either = f" or {called('exhaustive')}" if name in USED["exhaustive"] else ""
    return f"beam search: give {called('beam')}{either}"
