"""How the page is made: readable by everyone, at every width, in the dark, without a style of its own being refused."""

from itertools import product

import pytest

from service.http.page import Page
from tests.page.browsing import Visit, problem
from tests.page.conftest import OpenPage
from tests.page.given import NOISE, SHIP, explanation, with_an_index, with_explanations
from tests.page.looking import SCHEMES, WIDTHS, look, overflow
from tests.server import Server

pytestmark = pytest.mark.server

MOST_BYTES = 60_000  # of all its files but the samples


def test_the_first_visit_is_for_everyone(open_page: OpenPage) -> None:
    visit = open_page(bypass_csp=True)  # axe is evaluated in the page, which its policy forbids
    visit.get(".sample").first.wait_for()
    look(visit.page, product(WIDTHS, SCHEMES))


def test_answers_are_for_everyone(open_page: OpenPage) -> None:
    def before(visit: Visit) -> None:
        with_explanations(visit)
        with_an_index(visit)
        visit.answer("/v1/explain?*", explanation("ship", [[0, 1], [0.5, 0]]))
        entry = {"name": "ship/x.jpg", "class": "ship", "score": 0.9, "thumbnail": "/v1/similar/thumbnails/1"}
        visit.answer("/v1/similar?k=*", {"model": "cifar10", "version": 2, "results": [{"similar": [entry]}]})
        visit.page.route(f"{visit.url}/v1/similar/thumbnails/1", lambda route: route.fulfill(path=SHIP))

    visit = open_page(before=before, bypass_csp=True)
    visit.give(SHIP, NOISE, {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"})
    visit.verdict()
    visit.get(".tile[data-kind=refused]").wait_for()
    visit.get("button.bar").first.click()
    visit.get(".map").wait_for()
    visit.button("No, it is").click()
    for summary in visit.get("summary").all():
        summary.click()
    look(visit.page, product(WIDTHS, SCHEMES))


def test_refusals_and_the_question_for_a_key_are_for_everyone(open_page: OpenPage, guarded: Server) -> None:
    visit = open_page(bypass_csp=True)
    visit.answer("/v1/top-k?k=5", problem(503, "overloaded"), retry_after="3000")
    visit.give(SHIP)
    visit.verdict()
    look(visit.page, zip(WIDTHS, SCHEMES, strict=True))
    asked = open_page(guarded, bypass_csp=True)
    asked.get("#key").wait_for()
    look(asked.page, zip(WIDTHS, SCHEMES, strict=True))


def test_it_fits_a_narrow_window_and_long_words(open_page: OpenPage) -> None:
    def long(body: dict[str, object]) -> None:
        body["results"] = [{"top": [{"label": "x" * 80, "probability": 1.0}], "unsure": False}]

    visit = open_page(width=320, before=lambda visit: visit.change("/v1/top-k?k=5", long))
    visit.give({"name": "y" * 120 + ".jpg", "mimeType": "image/jpeg", "buffer": SHIP.read_bytes()})
    visit.verdict()
    assert overflow(visit.page) <= 0


def test_nothing_moves_where_that_is_not_wanted(open_page: OpenPage) -> None:
    visit = open_page()
    visit.give(SHIP)
    visit.verdict()
    assert visit.page.evaluate("document.getAnimations().length") == 0
    visit.page.emulate_media(reduced_motion="no-preference")
    visit.give(SHIP)
    visit.get(".tile").nth(1).wait_for()
    visit.verdict()
    assert visit.page.evaluate("document.getAnimations().length") > 0


def test_in_forced_colours_the_bars_are_there(open_page: OpenPage) -> None:
    visit = open_page(forced_colors="active")
    visit.give(SHIP)
    visit.verdict()
    fill, track = (visit.get(f".bar {part}").first for part in (".fill", ".track"))
    colour = "element => getComputedStyle(element).backgroundColor"
    assert fill.evaluate(colour) != track.evaluate(colour)


def test_the_page_breaks_its_policy_nowhere_and_would_be_seen_to(open_page: OpenPage) -> None:
    visit = open_page()
    visit.give(SHIP)
    visit.verdict()
    visit.page.evaluate("document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.2:9/x.png'}))")
    visit.page.wait_for_timeout(100)
    assert any("violation of img-src" in error for error in visit.errors)
    visit.errors.clear()
    visit.asked.clear()


def test_all_files_are_small() -> None:
    files = {path: len(file.body) for path, file in Page().files.items() if not path.endswith(".jpg")}
    assert sum(files.values()) <= MOST_BYTES, files
