"""The pages that training writes, in a browser: for everyone, on a telephone and on paper, with nothing from elsewhere."""

import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from models.captures import captured
from models.package.manifest import REPORT
from tests.page.browsing import REFUSED, a_browser, new_page
from tests.page.looking import SCHEMES, WIDTHS, look, overflow
from tests.training.conftest import Journey
from tests.training.markup import unreadable
from tests.training.report.labels import with_labels
from tests.training.review.kept import put
from training import html
from training.__main__ import main
from training.report import examples
from training.report import page as report_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

A4 = 680  # pixels between its margins
LONG = "pneumonoultramicroscopicsilicovolcanoconiosis-of-the-left-and-of-the-right"
NAMES = ("report", "report of many", "inspection", "nothing found", "nothing to inspect", "review", "nothing to review")
OPENED = "document.querySelectorAll('details').forEach(each => each.open = true)"


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    yield from a_browser()


@pytest.fixture(scope="module")
def page(browser: "Browser") -> "Page":
    return new_page(browser, bypass_csp=True)  # axe is evaluated in the page, which its policy forbids


@pytest.fixture(scope="module")
def guarded(browser: "Browser") -> "Page":
    """One that its policy holds for."""
    return new_page(browser)


@pytest.fixture(scope="module")
def pages(journey: Journey, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name, each in every state that it can be in."""
    root = tmp_path_factory.mktemp("pages")
    files = {name: root / f"{name}.html" for name in NAMES}
    shutil.copy(journey.run / REPORT, files["report"])
    labels = [f"{LONG}-{i}" if i % 2 else f"class {i}" for i in range(20)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, "drawn", lambda _: journey.drawn)  # pyright: ignore
        files["report of many"].write_text(report_page.render(with_labels(journey.content, labels) | examples.none()))
    data = root / "data"
    shutil.copytree(journey.data, data)
    shutil.copy(data / "train/red/000.png", data / f"test/red/{LONG}.png")
    (data / "train/red/broken.png").write_bytes(b"no picture")
    for place, name in ((data, "inspection"), (data / "none", "nothing to inspect")):
        place.mkdir(exist_ok=True)
        main(["inspect", str(place), "--html", str(files[name])])
    summary = {"data": "photos", "folder": "", "left_out": 0, "errors": [], "warnings": [], "classes": {}, "images": 0}
    found = html.render(
        "inspection", summary=summary, splits=[], samples={}, findings=[], looked_for="faults", most=1, most_rows=1
    )
    files["nothing found"].write_text(found)
    kept = root / "kept"
    captured.prepare(kept)
    put(kept, "corrected", given=LONG)
    put(kept, "unsure", probability=0.4, unsure=True)
    gone = put(kept, "usual")
    (kept / captured.IMAGES / gone).write_bytes(b"no picture")
    main(["feedback", str(kept), str(root / "out")])
    shutil.copy(root / "out/review.html", files["review"])
    files["nothing to review"].write_text(html.render("review", title="kept", groups=[], images=0))
    return files


def visit(page: "Page", file: Path) -> None:
    page.emulate_media(media="screen")
    page.goto(file.as_uri())
    page.evaluate(OPENED)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_for_everyone_at_every_width_in_light_and_dark(name: str, page: "Page", pages: dict[str, Path]) -> None:
    visit(page, pages[name])

    look(page, zip(WIDTHS, SCHEMES, strict=True) if name == "report of many" else product(WIDTHS, SCHEMES))

    assert unreadable(pages[name].read_text()) == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_elsewhere_and_its_policy_is_kept(name: str, guarded: "Page", pages: dict[str, Path]) -> None:
    asked: list[str] = []
    said: list[str] = []
    guarded.on("request", lambda request: asked.append(request.url))
    guarded.on("console", lambda message: said.append(message.text))

    visit(guarded, pages[name])

    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file:")] == [pages[name].as_uri()]
    assert said == []
    guarded.evaluate("document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.2:9/x.png'}))")
    guarded.wait_for_timeout(100)
    assert [text for text in said if REFUSED not in text] != []  # what is not allowed would have been seen


@pytest.mark.parametrize("name", ["report", "report of many", "inspection", "review"])
def test_on_paper_all_is_there_dark_on_white_and_whole(name: str, page: "Page", pages: dict[str, Path]) -> None:
    visit(page, pages[name])
    page.evaluate(OPENED.replace("true", "false"))
    page.set_viewport_size({"width": A4, "height": 1000})
    page.emulate_media(media="print", color_scheme="dark")

    assert overflow(page) <= 0
    style = "([selector, key]) => [...new Set([...document.querySelectorAll(selector)].map(each => getComputedStyle(each)[key]))]"
    assert page.evaluate(style, ["body", "backgroundColor"]) == ["rgb(255, 255, 255)"]
    assert page.evaluate(style, ["body", "color"]) == ["rgb(29, 26, 23)"]
    assert page.evaluate(style, ["img, svg, tr, figure", "breakInside"]) == ["avoid"]
    assert {"auto", "scroll"}.isdisjoint(page.evaluate(style, ["body *", "overflowX"]))
    hidden = (
        "[...document.querySelectorAll('details img, td, p')].filter(each => each.getBoundingClientRect().height === 0).length"
    )
    assert page.evaluate(hidden) == 0


def test_a_report_can_be_walked_through_by_the_keyboard(page: "Page", pages: dict[str, Path]) -> None:
    visit(page, pages["report"])
    page.evaluate(OPENED.replace("true", "false"))

    page.keyboard.press("Tab")
    first = cast(str, page.evaluate("document.activeElement.getAttribute('href')"))
    page.keyboard.press("Enter")

    assert first in ("#next", "#classes")
    assert page.evaluate("location.hash") == first
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('summary')"):
            break
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")


def test_in_forced_colours_the_intervals_are_there(browser: "Browser", pages: dict[str, Path]) -> None:
    page = new_page(browser, forced_colors="active")
    visit(page, pages["report"])

    colour = "part => getComputedStyle(document.querySelector('.range'), part).backgroundColor"
    assert len({page.evaluate(colour, part) for part in ("::before", "::after", None)}) == 3
    page.context.close()
