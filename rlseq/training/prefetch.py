"""Work done one step ahead of its use, by one thread.

For the arrays of cross-entropy updates: making them takes about 0.2 % of an update on text and 1 % on generated point
sets, which a spare core can take over. In rl there is nothing to gain: sampling begins where the last step has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

DEPTH = 2  # results that may wait for their use


@contextmanager
def prefetched(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Iterator[Made]]:
    """``make`` of each item, in order, made in a background thread at most ``DEPTH`` steps ahead.

    What ``make`` raises is raised, with its traceback, where its result was to be used. When the context ends, however
    it does, so has the thread.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    try:
        yield _in_order(pool, make, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: ThreadPoolExecutor, make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(make, item))
        if len(waiting) > DEPTH:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
