"""Loading ahead of use, in order and within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def prefetch(
    load: Callable[[Item], Loaded], items: Iterable[Item], *, workers: int = 1, ahead: int = 2
) -> Iterator[Loaded]:
    """Results of `load` in the order of `items`, at most `ahead` of them made before they are asked for.

    Decoding and warping leave the interpreter's lock to others, so threads keep a network fed. An
    error of `load` is raised at its place. With no workers everything happens in the caller's thread.
    """
    if workers == 0:
        yield from map(load, items)
        return
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="prefetch")
    waiting: deque[Future[Loaded]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(load, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
