"""The settings of a task registered by the user's package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rlseq_envs.settings.base import Settings


@dataclass(frozen=True, kw_only=True)
class CustomTaskSettings(Settings):
    """A task registered by the user's package."""

    type: Literal["custom"] = "custom"
    id: str  # "package.module:namespace/Name-v0", as gymnasium.make takes it
    arguments: dict[str, Any] = field(default_factory=dict)  # of the task's constructor

    def environment(self) -> tuple[str, dict[str, Any]]:
        """See the base class."""
        return self.id, dict(self.arguments)

    def outline(self) -> None:
        """None: the task is not made yet."""
        return None

    @property
    def trains_rl_on_others(self) -> bool:
        """Always: only the task knows, and it is not made yet."""
        return True
