"""Work over many items: prepared in threads ahead, finished in the calling thread, in the order of the items."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
P = TypeVar("P")
R = TypeVar("R")


def run(
    items: Iterable[Item],
    prepare: Callable[[Sequence[Item]], P],
    finish: Callable[[P], Sequence[R]],
    size: int,
    threads: int,
) -> Generator[list[tuple[Item, R]]]:
    """Each item with its result, a part of up to ``size`` of them at a time. Closing the generator ends the threads.

    At most 2 * threads + 2 parts are held at a time. What is raised for a part is raised here.
    """
    rest = iter(items)
    waiting: deque[tuple[list[Item], Future[P]]] = deque()
    pool = ThreadPoolExecutor(threads, "prepare")
    try:
        while True:
            while len(waiting) < 2 * threads + 2 and (part := list(islice(rest, size))):
                waiting.append((part, pool.submit(prepare, part)))
            if not waiting:
                return
            part, prepared = waiting.popleft()
            yield list(zip(part, finish(prepared.result()), strict=True))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
