"""Train sequence generators on the metric they are judged by.

What a command does, a function does: see docs/howto/python.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlseq.api.checks import Stopped
    from rlseq.api.comparing import compare
    from rlseq.api.inspecting import inspect
    from rlseq.api.judging import preflight
    from rlseq.api.policy import TrainedPolicy, evaluate, load
    from rlseq.api.run import Run
    from rlseq.api.studying import study
    from rlseq.api.sweeping import sweep
    from rlseq.api.train import resume, train
    from rlseq.config.errors import UserError

__all__ = [
    "Run",
    "Stopped",
    "TrainedPolicy",
    "UserError",
    "compare",
    "evaluate",
    "inspect",
    "load",
    "preflight",
    "resume",
    "study",
    "sweep",
    "train",
]
__version__ = "0.1.0"

_HOMES = {
    "Run": "rlseq.api.run",
    "Stopped": "rlseq.api.checks",
    "TrainedPolicy": "rlseq.api.policy",
    "UserError": "rlseq.config.errors",
    "compare": "rlseq.api.comparing",
    "evaluate": "rlseq.api.policy",
    "inspect": "rlseq.api.inspecting",
    "load": "rlseq.api.policy",
    "preflight": "rlseq.api.judging",
    "resume": "rlseq.api.train",
    "study": "rlseq.api.studying",
    "sweep": "rlseq.api.sweeping",
    "train": "rlseq.api.train",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that the command line need not wait for what it does not use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rlseq' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
