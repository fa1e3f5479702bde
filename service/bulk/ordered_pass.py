"""Many items through two steps: one that threads take, ahead of the other, and one in the calling thread, in order."""

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
    """Each item with its result, in their order, ``size`` of them at a time.

    prepare: called in one of ``threads``, with the items of a part. finish: called with what it returned, in the calling thread;
    gives one result for each item. What either raises ends the pass. At most 2 * threads + 2 parts are held at a time. Threads
    end with the generator, once they are done with what they have.
    """
    pool = ThreadPoolExecutor(threads, "bulk")
    held = deque[tuple[Sequence[Item], Future[P]]]()

    def end() -> list[tuple[Item, R]]:
        part, prepared = held.popleft()
        return list(zip(part, finish(prepared.result()), strict=True))

    try:
        source = iter(items)
        while part := list(islice(source, size)):
            held.append((part, pool.submit(prepare, part)))
            if len(held) > 2 * threads + 1:
                yield end()
        while held:
            yield end()
    finally:
        pool.shutdown(cancel_futures=True)
