"""The options of decoding, which several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from rlseq.api.decoding import Decoding


class NormChoice(StrEnum):
    """What a search divides log-probabilities by."""

    power = "power"
    gnmt = "gnmt"


def _option(kind: Any, help: str, metavar: str | None = None, **limits: Any) -> Any:
    return Annotated[kind | None, typer.Option(metavar=metavar, help=help, **limits)]


def _flag(name: str, help: str) -> Any:
    return Annotated[bool, typer.Option(f"--{name}", help=help)]


# Of each option of ``rlseq.api.decoding.Decoding``.
OPTIONS = {
    "greedy": _flag("greedy", "The most likely token each time (the default, but of tasks that draw)."),
    "beam": _option(int, "Beam search of this size.", "N", min=1),
    "sample": _flag("sample", "Draw."),
    "exhaustive": _flag("exhaustive", "The best of all sequences, where these are few."),
    "length_penalty": _option(
        float, "Of a search: scores are divided by length to this power; default: 1.", "A", min=0.0
    ),
    "length_norm": _option(
        NormChoice, "What is raised to it: the length n (power, the default), or (5 + n) / 6 (gnmt)."
    ),
    "coverage_penalty": _option(
        float, "Of a search: weight of the penalty on sources not attended to; default: 0.", "B"
    ),
    "groups": _option(int, "Cut the beam into groups that avoid each other's tokens.", "N"),
    "diversity": _option(float, "Of --groups: what a token used before costs; default: 0.5.", "D"),
    "temperature": _option(float, "Of --sample; default: 1.", "T"),
    "top_k": _option(int, "Of --sample: draw among the K likeliest tokens.", "K"),
    "top_p": _option(float, "Of --sample: draw among the fewest likeliest that hold P.", "P"),
    "seed": _option(int, "Of --sample; default: 0.", "SEED", min=0),
    "min_length": _option(int, "Fewest tokens, END included; END is forbidden before.", "N"),
    "max_length": _option(int, "Most tokens, END included; the task's limit holds all the same.", "N"),
}


_NOT_GIVEN = (None, False)  # of an option with a value, and of a flag


def with_decoding(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options above in place of its parameter ``decoding``, which gets those that are given.

    Typer makes an option of each parameter it finds in a command's signature, so the returned command shows it one in
    which the options stand where ``decoding`` stood.
    """
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(
            name, kind, default=None if annotation.__origin__ is not bool else False, annotation=annotation
        )
        for name, annotation in OPTIONS.items()
    ]
    shown: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        shown += options if parameter.name == "decoding" else [parameter.replace(kind=kind)]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        asked = {name: given.pop(name) for name in OPTIONS}
        decoding = cast(
            "Decoding", {name: value for name, value in asked.items() if value is not None and value is not False}
        )
        command(decoding=decoding, **given)

    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run
