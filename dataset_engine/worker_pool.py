"""Work on many items in several processes, where no item can stop the others.

A process can die of what it reads: a decoder crashes, or the system takes its memory back.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def mapped(
    work: Callable[[T], R], items: Iterable[T], workers: int, died: Callable[[T], R]
) -> Iterator[R]:
    """Call a function for each item in worker processes; the results come in the items' order.

    When a worker dies, what was under way is done again, one item at a time in a process of its
    own; an item that kills this one too gets the result of ``died``.

    Args:
        work: can be pickled; what it raises is raised here.
        items: taken only as fast as the work goes.
        workers: how many processes.
        died: the result for an item that cannot be worked on, made in this process.
    """
    items = iter(items)
    while True:
        running: deque[tuple[T, Future[R]]] = deque()
        with _pool(workers) as pool:
            try:
                while True:
                    for item in islice(items, 4 * workers - len(running)):
                        running.append((item, _submit(pool, work, item)))
                    if not running:
                        return
                    yield running[0][1].result()
                    running.popleft()
            except BrokenProcessPool:
                pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        yield from _again(work, running, died)


def _again(
    work: Callable[[T], R], broken: Iterable[tuple[T, Future[R]]], died: Callable[[T], R]
) -> Iterator[R]:
    pool: ProcessPoolExecutor | None = None
    try:
        for item, future in broken:
            if not isinstance(future.exception(), BrokenProcessPool):
                yield future.result()
                continue
            pool = pool or _pool(1)
            try:
                result = pool.submit(work, item).result()
            except BrokenProcessPool:
                pool.shutdown()
                pool = None
                result = died(item)
            yield result
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, work: Callable[[T], R], item: T) -> Future[R]:
    try:
        return pool.submit(work, item)
    except BrokenProcessPool as error:  # it died since: the item waits with those under way
        future: Future[R] = Future()
        future.set_exception(error)
        return future


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawned, not forked: the threads of numeric libraries do not survive a fork
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
