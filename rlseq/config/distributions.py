"""Keys with a distribution in place of a value: ``rl.optimizer.learning_rate=loguniform(1e-5, 1e-3)``."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlseq.config.errors import ConfigError, did_you_mean

SECTIONS = ("mle", "rl", "policy")  # what may be swept: other keys change what is judged, or where the work is done
_CALL = re.compile(r"([A-Za-z_]\w*)\((.*)\)")
_ARGUMENT = re.compile(
    r"""(?:[^,\[\{"']|\[[^\]]*\]|\{[^}]*\}|"[^"]*"|'[^']*')+"""
)  # a comma inside brackets is its own
_FORMS = {
    "uniform": "uniform(low, high)",
    "loguniform": "loguniform(low, high)",
    "randint": "randint(low, high)",
    "choice": "choice(a, b, …)",
}


@dataclass(frozen=True)
class Distribution:
    """What a key's value is drawn from.

    Attributes:
        text: As it was written.
        draw: Gives a value as an override has it.
    """

    text: str
    draw: Callable[[random.Random], str]


def split_distributions(overrides: Sequence[str]) -> tuple[list[str], dict[str, Distribution]]:
    """Overrides with a value, and the distributions of the other keys.

    Raises:
        ConfigError: All distributions that cannot be used; or there is none.
    """
    plain: list[str] = []
    found: dict[str, Distribution] = {}
    wrong: list[str] = []
    for override in overrides:
        key, _, text = override.partition("=")
        call = _CALL.fullmatch(text.strip())
        if call is None:
            plain.append(override)
            continue
        try:
            found[key] = Distribution(text, _parse(call[1], _ARGUMENT.findall(call[2])))
        except ValueError as error:
            wrong.append(f"{key}={text}: {error}")
        if key.split(".")[0] not in SECTIONS:
            wrong.append(f"{key}={text}: keys of {', '.join(SECTIONS)} can be swept; give this one a value")
    if not found and not wrong:
        wrong.append("no key has a distribution: give one, such as 'rl.optimizer.learning_rate=loguniform(1e-5, 1e-3)'")
    if wrong:
        raise ConfigError("sweep", wrong)
    return plain, found


def draw_points(distributions: Mapping[str, Distribution], count: int, seed: int) -> list[list[str]]:
    """So many points, each as overrides. A point does not depend on how many there are."""
    points = []
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        points.append([f"{key}={distribution.draw(chance)}" for key, distribution in distributions.items()])
    return points


def _parse(name: str, arguments: Sequence[str]) -> Callable[[random.Random], str]:
    """How a value is drawn.

    Raises:
        ValueError: There is no such distribution, or it has no such arguments.
    """
    if name not in _FORMS:
        raise ValueError(f"no distribution {name!r}{did_you_mean(name, _FORMS)}; give {', '.join(_FORMS.values())}")
    texts = [argument.strip() for argument in arguments]
    if name == "choice":
        if len(texts) < 2 or not all(texts):
            raise ValueError("give two values or more, separated by commas")
        return lambda chance: chance.choice(texts)
    whole = name == "randint"
    try:
        low, high = (int(text) if whole else float(text) for text in texts)
    except ValueError as error:
        numbers = "two whole numbers" if whole else "two numbers"
        raise ValueError(f"give {numbers}, {_FORMS[name]}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("give finite numbers, the lower one first")
    if name == "loguniform" and low <= 0:
        raise ValueError("give numbers above 0")
    if name == "randint":
        return lambda chance: str(chance.randrange(int(low), int(high)))
    if name == "uniform":
        return lambda chance: repr(chance.uniform(low, high))
    return lambda chance: repr(math.exp(chance.uniform(math.log(low), math.log(high))))
