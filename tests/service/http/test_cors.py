"""Web pages of other origins: who is told that they may ask, what their scripts may read, and that nothing else changes."""

import asyncio
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from service.errors import Overloaded
from service.http.asgi import OTHER, HttpApp
from service.http.auth import ApiKeyAuth
from service.http.cors import Cors
from tests.service.http.behind import Behind, Inner, Response, call, count, no_body, request
from tests.service.http.keys import SECRET, entry, toml

PAGE = "https://page.example"
STRANGER = "https://evil.example"
ALLOWED = "access-control-allow-origin"
EXPOSED = "access-control-expose-headers"


def make(*origins: str, error: Overloaded | None = None, access: ApiKeyAuth | None = None) -> Cors:
    return Cors(HttpApp(Inner(), lambda: Behind(error), access), origins or (PAGE,))


def ask(app: Cors, path: str = "/echo", method: str = "POST", **headers: str) -> Response:
    """The answer of an application to a request with these headers, _ for -."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": raw}
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, no_body, send))
    start, body = sent
    decoded = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    assert len(decoded) == len(start["headers"])
    return Response(start["status"], decoded, body["body"])


def preflight(app: Cors, origin: str = PAGE, method: str = "POST", wanted: str | None = "authorization") -> Response:
    more = {} if wanted is None else {"access_control_request_headers": wanted}
    return ask(app, method="OPTIONS", origin=origin, access_control_request_method=method, **more)


def of_cors(headers: Mapping[str, str]) -> set[str]:
    return {name for name in headers if name.startswith("access-control-") or name == "vary"}


def test_without_the_setting_no_answer_has_a_header_of_cors() -> None:
    for method in ("POST", "OPTIONS"):
        given = {"origin": PAGE, "access-control-request-method": "POST"}
        assert of_cors(request("/echo", method, headers=given).headers) == set()


@pytest.mark.parametrize("wanted", [None, "authorization", "content-type, x-request-id", "Authorization,X-Deadline-Ms"])
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
def test_a_preflight_of_an_allowed_page_says_what_it_may_send(method: str, wanted: str | None) -> None:
    response = preflight(make(), method=method, wanted=wanted)
    assert (response.status, response.body) == (204, b"")
    headers = response.headers
    assert headers[ALLOWED] == PAGE
    assert set(headers["access-control-allow-methods"].split(", ")) == {"GET", "HEAD", "POST"}
    allowed = set(headers["access-control-allow-headers"].split(", "))
    assert {"Authorization", "Content-Type", "X-Request-ID", "X-Deadline-Ms"} <= allowed
    assert int(headers["access-control-max-age"]) == 600
    assert "Origin" in headers["vary"]
    assert "access-control-allow-credentials" not in headers
    assert "content-length" not in headers
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    ("origin", "method", "wanted", "what"),
    [
        (STRANGER, "POST", "authorization", "origin"),
        ("null", "POST", None, "origin"),
        (PAGE + ":8443", "POST", None, "origin"),
        (PAGE + ".evil.example", "POST", None, "origin"),
        ("http://page.example", "POST", None, "origin"),
        (PAGE, "DELETE", None, "method"),
        (PAGE, "POST", "x-other", "headers"),
        (STRANGER, "PUT", "x-other", "origin, method, headers"),
    ],
)
def test_another_preflight_is_refused_with_the_reason_in_the_shape_of_all_errors(
    origin: str, method: str, wanted: str | None, what: str
) -> None:
    before = count("hubel_rejections_total", reason="cors_refused"), count("hubel_requests_total", route=OTHER, status="403")
    response = preflight(make(), origin, method, wanted)
    assert response.status == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["content-length"] == str(len(response.body))
    problem = response.json()
    assert (problem["code"], problem["status"]) == ("cors_refused", 403)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"].startswith(f"not allowed to pages of {origin!r}: {what}; HUBEL_CORS_ORIGINS ")
    assert (ALLOWED in response.headers) == (origin == PAGE)
    after = count("hubel_rejections_total", reason="cors_refused"), count("hubel_requests_total", route=OTHER, status="403")
    assert after == (before[0] + 1, before[1] + 1)


def test_a_long_origin_is_cut_off() -> None:
    assert len(preflight(make(), "https://" + "x" * 5000).body) < 700


@pytest.mark.parametrize("path", ["/echo", "/refused", "/nothing", "/broken"])
def test_every_answer_to_an_allowed_page_can_be_read_by_its_script(path: str) -> None:
    headers = ask(make(), path, origin=PAGE).headers
    assert headers[ALLOWED] == PAGE
    assert headers["vary"] == "Origin"
    assert set(headers[EXPOSED].split(", ")) == {"X-Model", "X-Request-ID", "Server-Timing", "Retry-After"}
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize("origin", [STRANGER, "null", ""])
def test_an_answer_to_another_page_says_only_that_it_depends_on_the_origin(origin: str) -> None:
    assert of_cors(ask(make(), origin=origin).headers) == {"vary"}


def test_an_answer_to_no_page_says_only_that_it_depends_on_the_origin() -> None:
    response = ask(make())
    assert (response.status, of_cors(response.headers)) == (200, {"vary"})


def test_a_star_allows_all_pages_and_no_cookies() -> None:
    app = make("*")
    assert ask(app, origin=STRANGER).headers[ALLOWED] == "*"
    response = preflight(app, STRANGER)
    assert (response.status, response.headers[ALLOWED]) == (204, "*")
    assert "access-control-allow-credentials" not in response.headers


def test_several_origins_are_each_told_their_own_name() -> None:
    app = make(PAGE, "http://localhost:8080")
    assert [ask(app, origin=origin).headers[ALLOWED] for origin in app.allow_origins] == [PAGE, "http://localhost:8080"]


def test_a_preflight_needs_no_key_and_what_follows_does(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry()))
    app = make(access=ApiKeyAuth(path))
    assert preflight(app).status == 204
    refused = ask(app, origin=PAGE)
    assert (refused.status, refused.headers[ALLOWED]) == (401, PAGE)
    assert ask(app, method="OPTIONS", origin=PAGE).status == 401  # no preflight: it asks for no method
    assert ask(app, method="OPTIONS", access_control_request_method="POST").status == 401  # nor this: no page asks
    assert ask(app, origin=PAGE, authorization=f"Bearer {SECRET}").status == 200


def test_overload_is_told_on_the_head_to_all_but_pages_which_are_told_so_that_they_can_read_it() -> None:
    app = make(error=Overloaded("too much", 3))
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/overloaded", "query_string": b"", "headers": []}
    call(scope, app.http_app)  # so that it has started
    answer = app.refuse_early(scope, ())
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert app.refuse_early(scope | {"headers": [(b"origin", PAGE.encode())]}, ()) is None
    response = ask(app, "/overloaded", origin=PAGE)
    assert (response.status, response.headers[ALLOWED], response.headers["retry-after"]) == (503, PAGE, "3")


def test_starting_and_stopping_goes_through() -> None:
    app = make()
    asyncio.run(app({"type": "lifespan"}, no_body, no_body))  # type: ignore[arg-type]
    assert app.http_app.inner.seen == ["lifespan"]  # type: ignore[attr-defined]
