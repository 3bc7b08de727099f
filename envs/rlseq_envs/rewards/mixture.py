"""Weighted sums of rewards: those that a task knows by name, and the user's own by import path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from rlseq_envs.rewards.own import Column, OwnReward
from rlseq_envs.settings.rules import wrong_weights
from rlseq_envs.task import Floats, Reward


class Mixture:
    """What a sequence is worth: Σ weight · component.

    Args:
        weights: Of each component, 0 or more: components are such that more is better. 0 computes and logs one that
            does not count. A name with a colon is the import path of a function, see ``OwnReward``.
        known: Names that the task computes itself.
        timeout: Seconds that one call of a user's function may take.
        prefix: Stands before the known names if they are called components of the reward.

    Attributes:
        names: Those of ``known`` that have a weight, in the order of ``known``.

    Raises:
        ValueError: Weights or names are of no use; all such problems.
    """

    def __init__(self, weights: Mapping[str, float], known: Sequence[str], timeout: float, prefix: str = "") -> None:
        self._labels = {name: prefix + name for name in known}
        problems = [*wrong_weights(weights, known), *_timeout_problems(timeout)]
        self._own = [OwnReward(path, timeout) for path in sorted(weights.keys() - set(known)) if not problems]
        problems += self._name_problems()
        if problems:
            raise ValueError("\n".join(problems))
        self._weights = dict(weights)
        self.names = tuple(name for name in known if name in weights)

    def _name_problems(self) -> Iterator[str]:
        taken = {label: name for name, label in self._labels.items()}
        for own in self._own:
            if own.name in taken:
                yield f"reward {own.path!r} would be logged as {taken[own.name]!r} is: give the function another name"
            taken[own.name] = own.path

    def signature(self, described: Mapping[str, str]) -> str:
        """The sum in one line: what ``described`` says of each known component, and the user's functions' own."""
        parts = [(self._weights[name], described[name]) for name in self.names]
        parts += [(self._weights[own.path], own.signature) for own in self._own]
        return "+".join(f"{weight:g}*{text}" for weight, text in parts)

    def reward(self, values: Mapping[str, Floats], columns: Sequence[Column]) -> Reward:
        """The sum and its components.

        Args:
            values: Each of ``names``, (batch_size,).
            columns: What the user's functions are called with, the ids last.

        Raises:
            RewardError: One of these fails.
        """
        total = np.zeros(len(columns[-1]))
        components: dict[str, Floats] = {}
        for name in self.names:
            total += self._weights[name] * values[name]
            components[self._labels[name]] = values[name]
        for own in self._own:
            found = own(*columns)
            total += self._weights[own.path] * found[""]
            components |= {f"{own.name}_{part}" if part else own.name: column for part, column in found.items()}
        return Reward(total, components)

    def weight(self, name: str) -> float:
        """Of a component; 0 of one that is not in the sum."""
        return self._weights.get(name, 0.0)

    @property
    def has_own(self) -> bool:
        """Whether any function is the user's own."""
        return bool(self._own)

    def find(self) -> None:
        """Look for the modules of the user's functions, which takes no time; raises as ``check``."""
        self._for_each(lambda own: own.signature)

    def check(self, columns: Sequence[Column]) -> None:
        """Try the user's functions on some rows.

        Raises:
            ValueError: Some cannot be used; all that is wrong.
        """
        self._for_each(lambda own: own.check(*columns))

    def _for_each(self, do: Callable[[OwnReward], object]) -> None:
        problems = []
        for own in self._own:
            try:
                do(own)
            except ValueError as problem:
                problems.append(str(problem))
        if problems:
            raise ValueError("\n".join(problems))


def _timeout_problems(timeout: float) -> list[str]:
    return [] if timeout > 0 else [f"reward_timeout is {timeout!r}; give a number of seconds above 0"]
