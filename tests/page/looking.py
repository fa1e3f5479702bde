"""Whether a page keeps someone out, and whether it fits its window."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTHS, SCHEMES = (360, 1280), ("light", "dark")
GRAVE = {"serious", "critical"}


def faults(page: "Page") -> list[str]:
    """What axe finds, as rule and element."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found if rule["impact"] in GRAVE for node in rule["nodes"]]


def overflow(page: "Page") -> int:
    """By how many pixels it is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def look(page: "Page", widths_and_schemes: Iterable[tuple[int, str]]) -> None:
    """Nothing keeps someone out, and nothing sticks out."""
    for width, scheme in widths_and_schemes:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=cast(Any, scheme))
        assert faults(page) == [], (width, scheme)
        assert overflow(page) <= 0, width
