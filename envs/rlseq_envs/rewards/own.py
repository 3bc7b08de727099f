"""Rewards of the user's own: a function named by its import path, called in a process of its own.

Whatever the function does (raise, hang, end the process, hold the interpreter's lock), the caller gets one error that
names it. A thread could not be stopped, and not even be waited for with a time limit while it holds the lock.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cached_property
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import numpy.typing as npt

from rlseq_envs.rewards.own_process import Answer, Values
from rlseq_envs.user_code import find_module, library_path, search_working_directory

CALL_ROWS = 256  # of one call at most, so that the time limit of a call does not depend on what is scored
_TOLERANCE = 1e-5
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[2])\n"
_START += "from rlseq_envs.rewards.own_process import serve; serve(int(sys.argv[1]))"


Column = Sequence[Any] | npt.NDArray[Any]  # a value for each row


class RewardError(ValueError):
    """A reward of the user's own cannot be used; the message names it and says why."""


class OwnReward:
    """A user's function ``package.module:function`` as a reward.

    It is called with one argument per column, each holding a value for every row, the instances' ids last, and gives
    (batch_size,) finite numbers or a ``Reward``. It has to be a function of the single rows. Its module is looked for
    when it is needed: decoding does without it.

    Args:
        path: Where it is.
        timeout: Seconds that one call may take, and its import.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.path, self.timeout = path, timeout
        self.module, self.name = path.split(":")
        self._process: _Process | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """The process stays behind."""
        return {"path": self.path, "timeout": self.timeout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @cached_property
    def signature(self) -> str:
        """The path with the version that the module gives itself (``__version__``), or a digest of its file.

        Raises:
            RewardError: There is no such module.
        """
        file = self._find_file()
        version = _version(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        return f"{self.path}@{digest}" if version is None else f"{self.path}@version:{version}"

    def __call__(self, *columns: Column) -> Values:
        """The function's total, under ``""``, and its parts, (batch_size,) each.

        Raises:
            RewardError: It cannot be imported, raised, took too long, or gave something else than finite numbers.
        """
        with self._lock:
            rows = range(0, max(1, len(columns[-1])), CALL_ROWS)
            parts = [self._ask(tuple(column[start : start + CALL_ROWS] for column in columns)) for start in rows]
        names = parts[0].keys()
        if any(part.keys() != names for part in parts):
            raise self._error("gave other components for some sequences than for others")
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def check(self, *columns: Column) -> None:
        """Call it on these rows in two orders; they are to be worth the same.

        Raises:
            RewardError: As when it is called; or a row's value is not the same twice.
        """
        first, second = self(*columns), self(*(column[::-1] for column in columns))
        for name, values in first.items():
            again = second[name][::-1] if name in second else np.full_like(values, np.nan)
            if not np.allclose(values, again, rtol=_TOLERANCE, atol=_TOLERANCE):
                raise self._error(
                    f"gave {values.tolist()} and then, in another order, {again.tolist()} for the same sequences: "
                    "a sequence's reward must follow from its own row alone, and be the same each time"
                )

    def _ask(self, message: Any) -> Values:
        if self._process is None:
            self._find_file()
            self._process = _Process()
            self._answer((self.module, self.name), "its import")
        return self._answer(message, "a call")

    def _answer(self, message: Any, what: str) -> Values:
        assert self._process is not None
        answer: Answer
        try:
            answer = self._process.ask(message, self.timeout)
        except TimeoutError:
            answer = f"hangs: {what} took more than the {self.timeout:g} seconds of task.reward_timeout"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            answer = f"ended its process ({self._process.exit_status()})"
        except BaseException:  # such as Ctrl-C: what is on its way must not be taken for the answer to a later call
            self._end()
            raise
        if isinstance(answer, str):
            self._end()
            raise self._error(answer)
        return answer

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None

    def _find_file(self) -> Path:
        """The module's file, found without running anything."""
        search_working_directory()
        file = find_module(self.module)
        if file is None:
            raise self._error(
                f"cannot be imported: no module {self.module!r} in the working directory or on PYTHONPATH; it is "
                "needed wherever rewards are computed, also on the machines of environment runners"
            )
        return file

    def _error(self, what: str) -> RewardError:
        return RewardError(f"task.reward: {self.path} {what}")


def _version(file: Path) -> str | None:
    """What a Python module assigns to ``__version__``, where that is a text."""
    if file.suffix != ".py":
        return None
    try:
        statements = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        return None  # its import will tell
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            if "__version__" in names and isinstance(statement.value.value, str):
                return statement.value.value
    return None


class _Process:
    """A child that runs ``own_process``, ended with the object or with this process.

    It has a session of its own: Ctrl-C in the terminal is for the training, and what it starts ends with it.
    """

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        # -P: the working directory, where a json.py may lie, is searched once the user's module is looked up.
        command = [sys.executable, "-P", "-c", _START, str(theirs.fileno()), json.dumps(library_path())]
        # What it prints goes to standard error: standard output may be a result that another program reads.
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=2, start_new_session=True)
        theirs.close()
        self.end = finalize(self, _end, self._process, self._connection)

    def ask(self, message: Any, timeout: float) -> Any:
        """Send a message and wait for the answer.

        Raises:
            TimeoutError: There is none in time.
            EOFError, BrokenPipeError, ConnectionResetError: The process has ended.
        """
        self._connection.send(message)
        if not self._connection.poll(timeout):
            raise TimeoutError
        return self._connection.recv()

    def exit_status(self) -> str:
        """How the process, which has closed its pipe, ended."""
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    connection.close()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
