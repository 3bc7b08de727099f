"""How to decode: every option with its default, and what it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from rlseq.evaluation.errors import EvaluationError

if TYPE_CHECKING:
    from rlseq.decoding.ranking import LengthNorm
    from rlseq_envs.task import SequenceTask

_LENGTHS = ("min_length", "max_length")
_RANKING = ("length_penalty", "length_norm", "coverage_penalty")
USED = {
    "greedy": _LENGTHS,
    "beam": ("beam_size", *_RANKING, "groups", "diversity", *_LENGTHS),
    "sample": ("temperature", "top_k", "top_p", *_LENGTHS, "seed"),
    "exhaustive": (*_RANKING, *_LENGTHS),
}  # the options of each method
_ALWAYS_TOLD = ("method", "beam_size", "length_penalty", "temperature", "seed")


# Whether a rule allows a value, and what it allows in words.
_Rule = tuple[Callable[[Any], bool], str]


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def _from(least: float, most: float) -> _Rule:
    return lambda value: least <= value <= most, f"give {_shown(least)} or more, at most {_shown(most)}"


def _above_0(most: float) -> _Rule:
    return lambda value: 0 < value <= most, f"give a number above 0, at most {_shown(most)}"


def _one_of(*names: str) -> _Rule:
    return lambda value: value in names, f"give {', '.join(names[:-1])} or {names[-1]}"


_RULES = {
    "method": _one_of(*USED),
    "beam_size": _from(1, 10_000),
    "length_penalty": _from(0, 5),  # a length to a much higher power is infinite
    "length_norm": _one_of("power", "gnmt"),
    "coverage_penalty": _from(0, 1e6),
    "groups": _from(1, 10_000),
    "diversity": _above_0(1e6),
    "temperature": _from(1e-6, 1e6),  # as of rl
    "top_k": _from(1, 10**12),
    "top_p": _above_0(1.0),
    "min_length": _from(1, 10**9),
    "max_length": _from(1, 10**9),
    "seed": _from(0, 2**64 - 1),
}


def wrong_values(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names of options with values that cannot be used, and what would be right; None stands for not given."""
    given = {name: value for name, value in options.items() if value is not None}
    wrong = {name: _RULES[name][1] for name, value in given.items() if not _RULES[name][0](value)}
    size, groups, least, most = (given.get(name) for name in ("beam_size", "groups", "min_length", "max_length"))
    if size and groups and not wrong.keys() & {"beam_size", "groups"} and size % groups:
        wrong["groups"] = f"give a divisor of the beam's size, {size}"
    if least and most and not wrong.keys() & {"min_length", "max_length"} and least > most:
        wrong["min_length"] = f"give at most the maximum length, {most}"
    yield from wrong.items()


@dataclass(frozen=True)
class DecodingOptions:
    """How a policy is turned into sequences. Lengths are in tokens and count END.

    Attributes:
        method: The most likely token each time, the best of a beam, a draw, or the best of all sequences; None: the
            task's own, see ``of``.
        beam_size: Hypotheses kept by the beam.
        length_penalty: Searches compare log-probabilities divided by a norm of the length; see ``Ranking``.
        length_norm: See ``Ranking``.
        coverage_penalty: See ``Ranking``.
        groups: Of a diverse beam; a divisor of ``beam_size``; 1: an ordinary beam.
        diversity: What a token costs for each time that groups before chose it; if there are several.
        temperature: Of samples; see ``SamplingDistribution``.
        top_k: Of samples; see ``SamplingDistribution``.
        top_p: Of samples; see ``SamplingDistribution``.
        min_length: Before it, END is forbidden; see ``without_end``.
        max_length: Sequences are cut there, if not before by the task's own limit.
        seed: Of samples.

    Raises:
        EvaluationError: A value cannot be used.
    """

    method: Literal["greedy", "beam", "sample", "exhaustive"] | None = None
    beam_size: int = 5
    length_penalty: float = 1.0
    length_norm: LengthNorm = "power"
    coverage_penalty: float = 0.0
    groups: int = 1
    diversity: float = 0.5
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_length: int = 1
    max_length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check all values."""
        wrong = [f"{name} is {getattr(self, name)!r}: {right}" for name, right in wrong_values(asdict(self))]
        if wrong:
            raise EvaluationError("decoding: " + "; ".join(wrong))

    def of(self, task: SequenceTask) -> DecodingOptions:
        """The same options; without a method, with that of a task: a draw if it decodes samples, or greedily."""
        return self if self.method else replace(self, method="sample" if task.decodes_samples else "greedy")

    def most(self, asked: int) -> int:
        """How many of the sequences asked for a source can have."""
        return asked if self.method in ("sample", "exhaustive") else self.beam_size if self.method == "beam" else 1

    def to_dict(self) -> dict[str, Any]:
        """The values that this method uses; of those that change nothing by default, the ones that were changed."""
        assert self.method is not None
        used = ("method", *USED[self.method])
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name in used}
        told = {f.name for f in fields(self) if f.name in _ALWAYS_TOLD or getattr(self, f.name) != f.default}
        told |= {"diversity"} if self.groups > 1 else set()
        return {name: value for name, value in values.items() if name in told}
