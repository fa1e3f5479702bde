"""Work on many images at once: decoding releases the interpreter, so threads fill all cores."""

import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def in_threads(work: Callable[[int], T], n: int, label: str) -> Generator[T]:
    """work(0) to work(n - 1), in order, with a bar on standard error. Work that has not begun is dropped on Ctrl-C."""
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        yield from tqdm(pool.map(work, range(n)), label, n, unit=" images", leave=False)
    finally:
        pool.shutdown(cancel_futures=True)
