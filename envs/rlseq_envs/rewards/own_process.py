"""The process that a reward of the user's own runs in: it answers one batch after the other until its pipe closes."""

from __future__ import annotations

import importlib
import os
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from rlseq_envs.task import Floats, Reward
from rlseq_envs.user_code import search_working_directory

Values = dict[str, Floats]  # the total under "", its parts under their names
Answer = Values | str  # a text says what is wrong


def serve(descriptor: int) -> None:
    """Find the function that the first message names, then call it with the arguments of each further message."""
    connection = Connection(descriptor)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        function = _find(*connection.recv())
        connection.send({})
        while True:
            connection.send(_answer(function, connection.recv()))
    except (EOFError, BrokenPipeError):
        return
    except _Refused as fault:
        connection.send(str(fault))


def _end_with(parent: int) -> None:
    """End this process once its parent is gone: a function that hangs never looks at the pipe again."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


class _Refused(Exception):
    """The function cannot be used as a reward; the message says why."""


def _find(module: str, name: str) -> Callable[..., Any]:
    search_working_directory()
    try:
        found = getattr(importlib.import_module(module), name, None)
    except BaseException as error:  # such as SystemExit
        raise _Refused(f"cannot be imported: {_describe(error)}") from error
    if found is None:
        raise _Refused(f"does not exist: module {module!r} has no {name!r}")
    if not callable(found):
        raise _Refused(f"is no function but {type(found).__name__}: it cannot be called")
    return found


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Answer:
    try:
        result = function(*arguments)
    except BaseException as error:  # such as KeyboardInterrupt or SystemExit: no signal comes here, the user raises it
        return f"raised {_describe(error)}"
    parts = {"": result.total} | result.components if isinstance(result, Reward) else {"": result}
    try:
        return {name: _checked(values, len(arguments[-1])) for name, values in parts.items()}
    except _Refused as fault:
        return str(fault)


def _checked(values: Any, rows: int) -> Floats:
    try:
        array = np.asarray(values)
    except Exception as error:
        raise _Refused(f"gave {type(values).__name__}, which is no array: {_describe(error)}") from error
    if array.dtype.kind not in "fiub":
        raise _Refused(f"gave {type(values).__name__} of type {array.dtype}: give an array of numbers")
    if array.shape != (rows,):
        raise _Refused(f"gave an array of shape {array.shape} for {rows} sequences: give one number a sequence")
    with np.errstate(over="ignore"):  # a number too large for 64 bits becomes infinite, and is refused
        numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise _Refused(f"gave {array[row]!s} for sequence {row} of {rows}: give finite numbers of 64 bits")
    return numbers


def _describe(error: BaseException) -> str:
    """``ZeroDivisionError: division by zero (mine.py, line 3, in score)``."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    frames = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + where
