"""The options of decoding, which several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from rlseq.evaluation.options import DecodingOptions


class NormChoice(StrEnum):
    """What a search divides log-probabilities by."""

    power = "power"
    gnmt = "gnmt"


@dataclass(frozen=True)
class DecodingFlags:
    """What the command line says about decoding; None: nothing."""

    greedy: Annotated[bool, typer.Option("--greedy", help="The most likely token each time (the default).")] = False
    beam: Annotated[int | None, typer.Option(min=1, metavar="N", help="Beam search of this size.")] = None
    sample: Annotated[bool, typer.Option("--sample", help="Draw.")] = False
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="The best of all sequences, where these are few.")
    ] = False
    length_penalty: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="A", help="Of a search: scores are divided by length to this power; default: 1."),
    ] = None
    length_norm: Annotated[
        NormChoice | None,
        typer.Option(help="What is raised to it: the length n (power, the default), or (5 + n) / 6 (gnmt)."),
    ] = None
    coverage_penalty: Annotated[
        float | None,
        typer.Option(metavar="B", help="Of a search: weight of the penalty on sources not attended to; default: 0."),
    ] = None
    groups: Annotated[
        int | None, typer.Option(metavar="N", help="Cut the beam into groups that avoid each other's tokens.")
    ] = None
    diversity: Annotated[
        float | None, typer.Option(metavar="D", help="Of --groups: what a token used before costs; default: 0.5.")
    ] = None
    temperature: Annotated[float | None, typer.Option(metavar="T", help="Of --sample; default: 1.")] = None
    top_k: Annotated[int | None, typer.Option(metavar="K", help="Of --sample: draw among the K likeliest tokens.")] = (
        None
    )
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Of --sample: draw among the fewest likeliest that hold P.")
    ] = None
    seed: Annotated[int | None, typer.Option(min=0, metavar="SEED", help="Of --sample; default: 0.")] = None
    min_length: Annotated[
        int | None, typer.Option(metavar="N", help="Fewest tokens, END included; END is forbidden before.")
    ] = None
    max_length: Annotated[
        int | None, typer.Option(metavar="N", help="Most tokens, END included; the task's limit holds all the same.")
    ] = None

    @property
    def methods(self) -> list[str]:
        """How to decode: one, if the command line makes sense."""
        asked = {"greedy": self.greedy, "beam": self.beam is not None}
        asked |= {"sample": self.sample, "exhaustive": self.exhaustive}
        return [name for name, wanted in asked.items() if wanted] or ["greedy"]

    def problems(self) -> list[str]:
        """Options that do not go together and values that cannot be used, all of them."""
        from rlseq.evaluation.options import USED, wrong_values

        wrong, given = [], self._given()
        if len(self.methods) > 1:
            wrong.append("--greedy, --beam, --sample and --exhaustive exclude each other: give one")
        used = {"method", *(name for method in self.methods for name in USED[method])}
        wrong += [f"{_flag(name)} is for {_give(name)} too" for name in given if name not in used]
        if self.diversity is not None and self.groups is None:
            wrong.append("--diversity is for groups: give --groups too")
        for name, right in wrong_values(given):
            value = given[name]
            wrong.append(f"{_flag(name)} {f'{value:g}' if isinstance(value, float) else value}: {right}")
        return wrong

    def options(self) -> DecodingOptions:
        """As evaluation takes them."""
        from rlseq.evaluation.options import DecodingOptions

        return DecodingOptions(**self._given())

    def _given(self) -> dict[str, Any]:
        """What is given, under the names of ``DecodingOptions``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen = {name: values.pop(name) for name in ("greedy", "sample", "exhaustive", "beam")}
        named = {"method": self.methods[0], "beam_size": chosen["beam"]} | values
        return {name: value for name, value in named.items() if value is not None}


def _flag(name: str) -> str:
    return "--beam" if name == "beam_size" else f"--{name.replace('_', '-')}"


def _give(name: str) -> str:
    """The methods that an option is for, and what asks for them."""
    from rlseq.evaluation.options import USED

    if name in USED["sample"]:
        return "sampling: give --sample"
    return f"beam search: give --beam{' or --exhaustive' if name in USED['exhaustive'] else ''}"


def with_decoding(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``DecodingFlags`` in place of its parameter ``decoding``.

    Typer makes an option of each parameter it finds in a command's signature, so the returned command shows it one in
    which the flags stand where ``decoding`` stood.
    """
    kind, hints = inspect.Parameter.KEYWORD_ONLY, get_type_hints(DecodingFlags, include_extras=True)
    flags = [
        inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])
        for field in fields(DecodingFlags)
    ]
    shown: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        shown += flags if parameter.name == "decoding" else [parameter.replace(kind=kind)]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        decoding = DecodingFlags(**{flag.name: given.pop(flag.name) for flag in flags})
        command(decoding=decoding, **given)

    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run
