"""Sequence generation tasks as Gymnasium environments.

Importing this package registers them if Gymnasium was imported before; else importing ``rlseq_envs.registration`` does,
or anything that needs Gymnasium. So ``rlseq_envs.settings`` can be had without Gymnasium and NumPy.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or "gymnasium" in sys.modules:
    from rlseq_envs.registration import register

__all__ = ["register"]


def __getattr__(name: str) -> Any:
    """``register``, imported when it is asked for."""
    if name != "register":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rlseq_envs.registration import register

    return register
