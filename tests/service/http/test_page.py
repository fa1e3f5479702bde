"""The page as files in memory: what each path gets, with which headers, from whom, and that nothing else can be had by it."""

import asyncio
import re
from pathlib import Path

import pytest

from service import bento
from service.http import api_keys
from service.http.asgi import HttpApp
from service.http.auth import ApiKeyAuth
from service.http.cors import Cors
from service.http.hosts import Hosts
from service.http.page import BELOW, POLICY, ROUTE, WEB, Page
from service.http.request import Request, nothing
from service.settings import Settings
from tests.server import ROOT
from tests.service.http.behind import Behind, Inner, Response, count, request

PAGE = Page()
PROMISED = (  # docs/security.md
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


def app(page: Page | None = PAGE, access: ApiKeyAuth | None = None) -> HttpApp:
    return HttpApp(Inner(), Behind, access, Hosts(), page)


def get(path: str, method: str = "GET", query: str = "", **headers: str) -> Response:
    return request(path, method, query, {"host": "127.0.0.1"} | headers, app())


def keyed(tmp_path: Path) -> tuple[HttpApp, str]:
    key, block = api_keys.make("web")
    file = tmp_path / "keys.toml"
    file.write_text(block)
    return app(access=ApiKeyAuth(file)), key


def test_each_file_is_there_with_its_type() -> None:
    kinds = {path.rpartition(".")[2]: get(path).headers["content-type"] for path in PAGE.files}
    assert kinds[ROUTE] == "text/html; charset=utf-8"
    assert (kinds["js"], kinds["css"]) == ("text/javascript; charset=utf-8", "text/css; charset=utf-8")
    assert (kinds["svg"], kinds["jpg"]) == ("image/svg+xml", "image/jpeg")
    for path, file in PAGE.files.items():
        response = get(path)
        assert (response.status, response.body) == (200, file.body)


def test_every_file_of_the_folder_is_served_and_every_file_that_one_names_is_there() -> None:
    assert {"index.html", *(path.removeprefix(BELOW) for path in PAGE.files if path != ROUTE)} == {f.name for f in WEB.iterdir()}
    scripts = "".join(path.read_text() for path in WEB.glob("*.js"))
    named = re.findall(r'(?:href|src)="page/([^"]+)"', (WEB / "index.html").read_text())
    named += re.findall(r'from "\./([^"]+)"', scripts)
    named += re.findall(r'"([\w-]+\.jpg)": "', (WEB / "samples.js").read_text())
    assert len(named) > 20
    assert {BELOW + name for name in named} <= set(PAGE.files)


def test_the_policy_lets_the_page_do_what_it_needs_and_no_more() -> None:
    for path in PAGE.files:
        headers = get(path).headers
        assert headers["content-security-policy"].startswith(PROMISED + "; ")
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "unsafe" not in " ".join(POLICY.values())
    text = (WEB / "index.html").read_text()
    assert re.findall(r"<style|<script(?! type=\"module\" src=\"page/)|\sstyle=|\son\w+=|https?://", text) == []
    scripts = "".join(path.read_text() for path in WEB.glob("*.js"))
    assert re.findall(r"(inner|outer|Adjacent)HTML|document\.write|eval\(|new Function|https?://|Storage|cookie", scripts) == []


def test_a_browser_asks_whether_what_it_has_is_still_right_and_gets_it_only_where_it_is_not() -> None:
    first = get(ROUTE)
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = get(ROUTE, **{"if-none-match": given})
        assert (again.status, again.body) == (304, b""), given
        assert again.headers["etag"] == tag
        assert not {"content-length", "content-type"} & set(again.headers)
    for given in ('"other"', tag.strip('"'), tag[:-2] + '"', "", ",", tag.upper()):
        assert get(ROUTE, **{"if-none-match": given}).status == 200, given
    assert len({file.etag for file in PAGE.files.values()}) == len(PAGE.files)


def test_a_query_a_range_and_a_date_change_nothing() -> None:
    plain = get(ROUTE)
    changed = {"range": "bytes=0-9", "if-modified-since": "x", "if-range": "x"}
    for response in (get(ROUTE, query="utm=1&utm=2&<script>"), get(ROUTE, **changed)):
        assert (response.status, response.body) == (200, plain.body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "X" * 30])
def test_another_method_is_told_the_right_one(method: str) -> None:
    response = get(ROUTE, method, origin="http://127.0.0.1")
    assert (response.status, response.headers["allow"]) == (405, "GET")
    assert response.json()["code"] == "wrong_method"


@pytest.mark.parametrize(
    "path",
    [
        "", "//", "/page/", "/index.html", "/page/index.html", "/page//app.js", "/page/app.js/", "/PAGE/app.js",
        "/page/../page/app.js", "/page/..", "/../", "/page/%61pp.js", "/page/app.js\0", "/page/app.js ", "/page/\\app.js",
        "/page/../../http/page.py", "/page//etc/passwd", "/etc/passwd", "/page/page.py", "/page/" + "a" * 9000,
    ],
)  # fmt: skip
def test_nothing_else_is_found_by_a_path(path: str) -> None:
    assert get(path).status == 404


def test_a_file_that_changes_or_goes_is_served_as_it_was_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("first")
    (tmp_path / "secret.py").write_text("secret")
    (tmp_path / "index.html~").write_text("secret")
    page = Page(tmp_path)
    (tmp_path / "index.html").unlink()
    assert list(page.files) == [ROUTE]
    reply = asyncio.run(page.answer(Request("GET", ROUTE, "", {}, nothing, "id")))
    assert reply.body == b"first"


def test_with_keys_a_stranger_gets_the_files_and_nothing_else(tmp_path: Path) -> None:
    guarded, key = keyed(tmp_path)
    for path in PAGE.files:
        for method in ("GET", "HEAD"):
            assert request(path, method, http_app=guarded).status == 200
        for method in ("POST", "PUT", "OPTIONS", "TRACE"):
            assert request(path, method, http_app=guarded).json()["code"] == "unauthorized"
    for path in ("/echo", "/page/", "//", "/readyzz", "/page/nothing.js"):
        assert request(path, "GET", http_app=guarded).json()["code"] == "unauthorized"
    assert request(ROUTE, "POST", headers={"authorization": f"Bearer {key}"}, http_app=guarded).status == 405
    assert request(ROUTE, "GET", headers={"authorization": "Bearer wrong"}, http_app=guarded).status == 200


def test_no_key_is_charged_for_the_page(tmp_path: Path) -> None:
    key, block = api_keys.make("cron", "1/day")
    file = tmp_path / "keys.toml"
    file.write_text(block)
    guarded = app(access=ApiKeyAuth(file))
    bearer = {"authorization": f"Bearer {key}"}
    assert [request(ROUTE, "GET", headers=bearer, http_app=guarded).status for _ in range(3)] == [200] * 3
    assert request("/echo", headers=bearer, http_app=guarded).status == 200
    assert request("/echo", headers=bearer, http_app=guarded).status == 429


def test_without_keys_the_page_is_not_given_under_a_name_that_others_may_own() -> None:
    assert get(ROUTE, host="rebound.example").json()["code"] == "wrong_host"
    assert get(ROUTE, host="127.0.0.1:3000").status == 200


def test_a_page_of_another_origin_may_not_read_it_unless_it_is_named() -> None:
    own = {"host": "127.0.0.1", "origin": "https://a.example"}
    assert "access-control-allow-origin" not in request(ROUTE, "GET", headers=own, http_app=app()).headers
    cors = Cors(app(), ["https://a.example"])
    assert request(ROUTE, "GET", headers=own, http_app=cors).headers["access-control-allow-origin"] == own["origin"]  # type: ignore[arg-type]


def test_all_files_count_as_one_route() -> None:
    before = count("hubel_requests_total", route=ROUTE, status="200")
    for path in (ROUTE, BELOW + "app.js", BELOW + "style.css"):
        get(path)
    assert count("hubel_requests_total", route=ROUTE, status="200") == before + 3
    assert count("hubel_requests_total", route=BELOW + "app.js", status="200") == 0


def test_switched_off_there_is_nothing_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    off = app(page=None)
    for path in PAGE.files:
        assert request(path, "GET", headers={"host": "x"}, http_app=off).json()["code"] == "unknown_path"
    pages: list[object] = []
    for on in (True, False):
        monkeypatch.setattr(bento, "CONFIG", Settings(page=on))
        pages.append(getattr(bento.application(), "page", None))
    assert isinstance(pages[0], Page)
    assert pages[1] is None


def test_the_ball_of_the_page_is_that_of_the_documents() -> None:
    assert (WEB / "ball.jpg").read_bytes() == (ROOT / "docs/images/ball.jpg").read_bytes()
