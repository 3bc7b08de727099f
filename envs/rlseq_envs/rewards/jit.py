"""Compilation of reward kernels: lazily, cached on disk where a disk can be written."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar, cast

try:
    numba: Any = import_module("numba")
except ImportError:  # no build for this Python or machine
    numba = None

_Function = TypeVar("_Function", bound=Callable[..., object])

COMPILES = numba is not None and not numba.config.DISABLE_JIT
"""Whether kernels become machine code: numba is there and ``NUMBA_DISABLE_JIT`` is not set."""


def jit(function: _Function) -> _Function:
    """Compile ``function`` at its first call and keep the machine code for later processes.

    Where neither the package's folder nor the user's cache folder can be written, numba refuses to cache at all; the
    function is then compiled anew in each process. Where nothing can be compiled, it stays Python: slow, yet right.
    """
    if not COMPILES:
        return function
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        return cast(_Function, numba.njit(nogil=True)(function))
