"""What a run's updates used up, so that arms can be compared at equal cost."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rlseq.config.rl import RLConfig


@dataclass
class Cost:
    """Sums over the updates of a run, and of the checkpoint that it was forked from.

    Validation is left out: it is there to look, and arms would be charged for how often they look.

    Attributes:
        cpu_seconds: CPU seconds of each phase's updates, in all processes.
        samples: Sequences sampled.
        reward_calls: Sequences scored, greedy ones included.
        peak_memory_mib: Most memory that the driver's process held.
    """

    cpu_seconds: dict[str, float] = field(default_factory=lambda: {"mle": 0.0, "rl": 0.0})
    samples: int = 0
    reward_calls: int = 0
    peak_memory_mib: float = 0.0

    def count(self, phase: str, seconds: float) -> None:
        """One update was done in so many CPU seconds."""
        self.cpu_seconds[phase] += seconds
        self.peak_memory_mib = max(self.peak_memory_mib, peak_memory_mib())

    def count_rollouts(self, config: RLConfig, instances: int) -> None:
        """An update's instances were decoded and scored."""
        self.samples += instances * config.drawn
        self.reward_calls += instances * (config.drawn + int(config.decodes_greedy))

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cost:
        """The inverse of ``to_dict``; what older checkpoints do not tell is 0."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


def peak_memory_mib() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
