"""Chromium as Debian has it, and visits of the page in it: what a visit sees, and what is noted of it."""

import json
import mimetypes
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

Edit = Callable[[dict[str, Any]], object]
CHROMIUM = Path("/usr/bin/chromium")
SECONDS = 15  # for anything to appear; on a quiet machine it takes less than one
# What the page may not do is told by the browser as an error on its console, and as this event.
WATCH = """addEventListener("securitypolicyviolation", (event) =>
  console.error("violation of " + event.violatedDirective + " by " + event.blockedURI));"""
REFUSED = "Failed to load resource"  # an answer other than 2xx, which the page shows


@dataclass
class Visit:
    """A page that was opened. errors: of its scripts and its policy. asked: the addresses it asked for, in order."""

    page: "Page"
    url: str
    errors: list[str] = field(default_factory=list[str])
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    edits: dict[str, list[Edit]] = field(default_factory=dict[str, list[Edit]])

    def get(self, selector: str, has_text: str | None = None) -> "Locator":
        return self.page.locator(selector, has_text=has_text)

    def button(self, name: str) -> "Locator":
        """Of the chosen picture."""
        return self.get("#detail").get_by_role("button", name=name)

    def give(self, *files: Path | dict[str, Any]) -> None:
        """Choose files, as in the dialog of the browser."""
        self.get("#files").set_input_files([as_payload(file) if isinstance(file, Path) else file for file in files])  # type: ignore[arg-type]

    def verdict(self) -> str:
        """What the chosen picture is, or what became of it, once that is known."""
        self.get("#verdict:not(.waiting)").wait_for()
        return self.get("#verdict").inner_text()

    def posts(self, path: str) -> int:
        return sum(method == "POST" and path in url for method, url in self.asked)

    def answer(self, path: str, body: dict[str, Any], times: int | None = None, **headers: str) -> None:
        """From now on, or so many times, this is what the service says at a path, with the status that ``body`` may name."""

        def fulfil(route: "Route") -> None:
            sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
            route.fulfill(status=body.get("status", 200), headers=sent, body=json.dumps(body))

        self.page.route(f"{self.url}{path}", fulfil, times=times)

    def change(self, path: str, edit: Edit) -> None:
        """From now on the service says something else at a path, where ``edit`` changes what it says, after those before."""
        edits = self.edits.setdefault(path, [])
        edits.append(edit)

        def fulfil(route: "Route") -> None:
            response = route.fetch()
            body = response.json()
            for each in edits:
                each(body)
            route.fulfill(response=response, body=json.dumps(body))

        if len(edits) == 1:
            self.page.route(f"{self.url}{path}", fulfil)

    def close(self) -> None:
        """Raises AssertionError where the page did what it must not."""
        self.page.unroute_all(behavior="ignoreErrors")
        self.page.goto("about:blank")
        for event, note in self.notes.items():
            cast(Any, self.page).remove_listener(event, note)
        assert self.errors == []
        ours = (self.url, f"blob:{self.url}", "about:")
        assert [url for _, url in self.asked if not url.startswith(ours)] == []

    @cached_property
    def notes(self) -> dict[str, Callable[[Any], object]]:
        """By event of the page: what notes it."""
        return {
            "pageerror": lambda error: self.errors.append(str(error)),
            "console": lambda said: said.type == "error" and REFUSED not in said.text and self.errors.append(said.text),
            "request": lambda request: self.asked.append((request.method, request.url)),
        }


def as_payload(file: Path) -> dict[str, Any]:
    return {"name": file.name, "mimeType": mimetypes.guess_type(file)[0] or "", "buffer": file.read_bytes()}


def problem(status: int, code: str, detail: str = "so it is") -> dict[str, Any]:
    """What the service says of an error."""
    return {"status": status, "code": code, "title": f"It is {code}", "detail": detail}


@contextmanager
def launched() -> "Generator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def a_browser() -> "Generator[Browser]":
    """For a fixture: what asks for it is skipped where there is none."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM} (Debian has it in chromium)")
    with launched() as browser:
        yield browser


def new_page(browser: "Browser", **options: Any) -> "Page":
    """options: of the browser's context."""
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * SECONDS)
    context.add_init_script(WATCH)
    return context.new_page()


def visiting(
    page: "Page", url: str, before: Callable[[Visit], None] | None = None, width: int = 1280, height: int = 900
) -> Visit:
    """Open the page of a service. before: called when nothing was asked for yet."""
    visit = Visit(page, url)
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(reduced_motion="reduce")
    for event, note in visit.notes.items():
        cast(Any, page).on(event, note)
    if before is not None:
        before(visit)
    page.goto(f"{url}/")
    return visit
