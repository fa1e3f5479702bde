"""One batch ahead: a thread makes the next while the network learns from the one before."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], begin: Callable[[], None] = lambda: None) -> Generator[T]:
    """The same items in the same order. One thread, which calls ``begin`` first, asks for one after the other, so what is
    drawn at random in between is drawn as without it; an error is raised where its item would have come."""
    with ThreadPoolExecutor(1, "prefetch", begin) as thread:
        source = iter(items)
        coming = thread.submit(_next, source)
        while found := coming.result():
            coming = thread.submit(_next, source)
            yield found[0]


def _next(source: Iterator[T]) -> tuple[T] | None:
    """The next item, boxed; nothing at the end."""
    for item in source:
        return (item,)
    return None
