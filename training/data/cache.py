"""What several stages of one call need is read once: images stay decoded from the first stage that needs them to the last."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Kept = dict[Callable[..., Any], tuple[object, Any]]  # by function: the arguments of its last call, and what that gave
_kept: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextmanager
def images() -> Generator[None]:
    """Within it, what a function marked ``once`` gave last is given again for the same arguments."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def once(load: Callable[P, R]) -> Callable[P, R]:
    """Mark a function that is costly to call again. Its last result alone is kept, and let go of before there is another, so
    that two never take the memory."""

    @wraps(load)
    def loaded(*args: P.args, **kwargs: P.kwargs) -> R:
        if (kept := _kept.get()) is None:
            return load(*args, **kwargs)
        asked = (args, tuple(sorted(kwargs.items())))
        if loaded not in kept or kept[loaded][0] != asked:
            kept.pop(loaded, None)
            kept[loaded] = (asked, load(*args, **kwargs))
        return kept[loaded][1]

    return loaded


def give(loaded: Callable[P, R], result: R, *args: P.args, **kwargs: P.kwargs) -> None:
    """What a function marked ``once`` would give for these arguments, where it is there already."""
    if (kept := _kept.get()) is not None:
        kept[loaded] = ((args, tuple(sorted(kwargs.items()))), result)
