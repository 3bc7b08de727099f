"""How training is asked to stop, and what is given up then.

A signal asks. Work that changes the state of training ends first; work that changes nothing, such as sampling or a
validation, is given up at once. What was done until the last update is saved by whoever catches ``GivenUp``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RESERVE = 30.0  # seconds before a time limit at which training stops, to save; at most half of the limit


class Interrupted(RuntimeError):
    """The user or the system asked to stop; everything was saved."""


class GivenUp(BaseException):
    """Work that changes nothing was given up, because a stop was asked for.

    It is no ``Exception``, so that nothing on the way takes it for a failure of its own.
    """


class Stop:
    """Whether a stop was asked for.

    Attributes:
        reason: What asked for it, such as "SIGTERM"; None: nothing did.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._giving_up = 0  # how many sections of work that may be given up are in progress

    def ask(self, reason: str) -> None:
        """Ask for it, in the main thread; a second time leaves at once, without saving."""
        if self.reason is not None:
            _tell(f"{reason}: leaving at once\n")
            if process_is_ours:
                _leave()
            raise KeyboardInterrupt
        self.reason = reason
        _tell(f"{reason}: stopping; once more to stop at once, without saving\n")
        if self._giving_up:
            raise GivenUp

    @contextmanager
    def giving_up(self) -> Iterator[None]:
        """Work that may be given up; see ``giving_up``."""
        self._giving_up += 1
        try:
            if self.reason is not None:
                raise GivenUp
            yield
        except SystemError as error:  # compiled code, such as Ray's, gave a result although ``ask`` raised in it
            if isinstance(error.__cause__, GivenUp):
                raise error.__cause__ from error
            raise
        finally:
            self._giving_up -= 1


_BEGAN = time.monotonic()
# Whether leaving at once may end the process. The command line says so; in a notebook, KeyboardInterrupt has to do.
process_is_ours = False
_asked: Stop | None = None


def stop_asked() -> str | None:
    """What asked for a stop, such as "SIGTERM"; None: nothing did."""
    return None if _asked is None else _asked.reason


@contextmanager
def catching_signals(minutes: float | None = None) -> Iterator[Stop]:
    """SIGINT, SIGTERM, SIGHUP and a time limit ask for a stop, within; further calls within share it.

    Signals can be caught in the main thread alone, so elsewhere nothing asks. One that is ignored stays so: a run under
    ``nohup`` outlives its terminal.

    Args:
        minutes: Since this process began, by when all has to be saved; None: no limit.
    """
    global _asked
    if _asked is not None or threading.current_thread() is not threading.main_thread():
        yield _asked or Stop()
        return
    stop = _asked = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.ask("the time limit" if number == signal.SIGALRM else signal.Signals(number).name)

    previous: dict[signal.Signals, Any] = {}
    try:
        for number in (*SIGNALS, *([signal.SIGALRM] if minutes else [])):
            if signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, ask)
        if minutes:
            signal.setitimer(signal.ITIMER_REAL, _seconds_left(minutes))
        yield stop
    finally:
        if minutes:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in previous.items():
            signal.signal(number, handler)
        _asked = None


@contextmanager
def giving_up() -> Iterator[None]:
    """Work that changes nothing: if a stop is asked for, ``GivenUp`` is raised in it."""
    if _asked is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _asked.giving_up():
        yield


def _leave() -> NoReturn:
    """End this process and its children, which would be waited for otherwise."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)
    os._exit(130)


def _seconds_left(minutes: float) -> float:
    limit = 60.0 * minutes
    return max(limit - min(RESERVE, limit / 2) - (time.monotonic() - _BEGAN), 0.1)


def _tell(text: str) -> None:
    """Write past Python's streams, for a signal may come while one of them is half written."""
    try:
        os.write(2, text.encode())
    except OSError:  # nobody listens any more
        return
