"""training/html.py: the look that all pages share, which is that of the service's page."""

import re
from pathlib import Path

import pytest

from training import html

ROOT = Path(__file__).parents[2]
OURS, SERVICE = (ROOT / name for name in ("training/style.css", "service/web/style.css"))
DARK = r"@media[^{]*\(prefers-color-scheme: dark\)\s*\{"


def palettes(file: Path) -> list[dict[str, str]]:
    """The custom properties of a style's root, in light and in dark."""
    text = file.read_text()
    dark = re.search(DARK, text)
    assert dark is not None
    blocks = [re.search(r":root\s*\{(.*?)\}", part, re.S) for part in (text, text[dark.end() :])]
    return [dict(re.findall(r"(--[a-z-]+):\s*([^;]+);", block[1])) for block in blocks if block]


def test_light_and_dark_are_those_of_the_page_of_the_service() -> None:
    ours, service = palettes(OURS), palettes(SERVICE)

    assert ours == service
    assert [len(palette) for palette in ours] == [12, 11]


def test_the_mark_is_that_of_the_page_of_the_service() -> None:
    mark = (ROOT / "service/web/mark.svg").read_text()

    inside = mark[mark.index("<circle") : mark.index("</svg>")]
    assert inside in (ROOT / "training/page.html.j2").read_text()


def test_paper_is_never_dark() -> None:
    assert re.findall(r"@media[^{]*dark[^{]*", OURS.read_text()) == ["@media screen and (prefers-color-scheme: dark) "]


def test_what_a_page_needs_and_is_not_given_is_an_error() -> None:
    with pytest.raises(Exception, match="'groups' is undefined"):
        html.render("review", title="t", images=0)
