"""The report of a package, a page for people: it says which version it is of, which is known when that is published."""

import re
from collections.abc import Callable

AFTER = " \N{MIDDLE DOT} "  # stands between name and rest of the title
PLACES = (rf"(<title>)[^<]*?({AFTER})", '(<span id="name">)[^<]*(</span>)')


def named(page: bytes, name: str) -> bytes:
    """The page as that of ``name``, such as "pets:2". One that has no place for it, as earlier ones, stays as it is."""
    for place in PLACES:
        page = re.sub(place.encode(), _between(name.encode()), page, count=1)
    return page


def _between(name: bytes) -> Callable[[re.Match[bytes]], bytes]:
    return lambda found: found[1] + name + found[2]
