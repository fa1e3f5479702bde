"""The page while the service is busy or away: what it says then, and that it goes on by itself."""

import pytest

from tests.page.browsing import problem
from tests.page.conftest import OpenPage
from tests.page.given import SHIP

pytestmark = pytest.mark.server


def test_a_busy_service_is_asked_again_when_it_said_so(open_page: OpenPage) -> None:
    visit = open_page()
    visit.answer("/v1/top-k?k=5", problem(503, "overloaded"), times=1, retry_after="1")
    visit.give(SHIP)
    visit.get("[role=timer]").wait_for()
    assert visit.get("[role=timer]").inner_text().startswith("Trying again in 1")
    assert visit.verdict() == "It is overloaded"
    visit.get("#verdict", has_text="ship").wait_for()
    assert visit.posts("/v1/top-k") == 2


def test_after_three_tries_a_busy_service_is_asked_when_someone_says_so(open_page: OpenPage) -> None:
    visit = open_page()
    visit.answer("/v1/top-k?k=5", problem(503, "overloaded"), times=4, retry_after="0")
    visit.give(SHIP)
    again = visit.button("Try again")
    again.wait_for()
    visit.page.wait_for_timeout(300)
    assert visit.posts("/v1/top-k") == 4
    again.click()
    visit.get("#verdict", has_text="ship").wait_for()


@pytest.mark.parametrize(("status", "code"), [(500, "internal_error"), (504, "deadline_exceeded"), (422, "invalid_parameter")])
def test_what_failed_says_why_and_can_be_tried_again(open_page: OpenPage, status: int, code: str) -> None:
    visit = open_page()
    visit.answer("/v1/top-k?k=5", problem(status, code, "the reason"), times=1)
    visit.give(SHIP)
    assert visit.verdict() == f"It is {code}"
    assert visit.get(".reason").inner_text() == "The reason."
    visit.button("Try again").click()
    visit.get("#verdict", has_text="ship").wait_for()


def test_a_refusal_of_something_between_is_told_without_problem_details(open_page: OpenPage) -> None:
    visit = open_page()
    visit.page.route(f"{visit.url}/v1/top-k?k=5", lambda route: route.fulfill(status=413, body="<h1>nginx</h1>"))
    visit.give(SHIP)
    assert visit.verdict() == "Refused (413)"
    assert "between this page and the service" in visit.get(".reason").inner_text()


def test_offline_is_said_and_over_when_it_is(open_page: OpenPage) -> None:
    visit = open_page()
    visit.get("#about").wait_for()
    visit.page.context.set_offline(True)
    visit.give(SHIP)
    assert visit.verdict() == "The service does not answer"
    assert "This device is offline" in visit.get(".reason").inner_text()
    assert visit.button("Try again").is_enabled()
    visit.page.context.set_offline(False)
    visit.get("#verdict", has_text="ship").wait_for()


def test_a_service_that_is_not_there_yet_is_asked_again(open_page: OpenPage) -> None:
    visit = open_page(before=lambda visit: visit.answer("/v1/models", problem(503, "overloaded"), times=1, retry_after="1"))
    assert "Asking again in 1" in visit.get("#notice").inner_text()
    visit.give(SHIP)
    visit.get("#about").wait_for()
    assert visit.verdict() == "ship"
    assert not visit.get("#notice").is_visible()


def test_an_answer_that_has_not_come_yet_is_waited_for_in_sight(open_page: OpenPage) -> None:
    visit = open_page()
    waiting: list[object] = []
    visit.page.route(f"{visit.url}/v1/top-k?k=5", lambda route: waiting.append(route))
    visit.give(SHIP)
    visit.get("#verdict.waiting", has_text="Looking").wait_for()
    visit.get("#clear").click()
    assert not visit.get("#detail").is_visible()
