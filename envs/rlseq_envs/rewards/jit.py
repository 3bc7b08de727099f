"""Compilation of reward kernels: lazily, cached on disk where a disk can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., object])


def jit(function: _Function) -> _Function:
    """Compile ``function`` at its first call and keep the machine code for later processes.

    Where neither the package's folder nor the user's cache folder can be written, numba refuses to cache at all; the
    function is then compiled anew in each process.
    """
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        return cast(_Function, numba.njit(nogil=True)(function))
