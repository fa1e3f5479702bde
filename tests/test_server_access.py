"""The real service with keys and for web pages: who gets in, and that keys change while it answers."""

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.http import api_keys
from service.status import StatusError
from service.status import ask as ask_how_it_is
from tests.client import assert_problem, labels_of, results_of, samples, send
from tests.conftest import StartServer
from tests.factories import make_image
from tests.server import READY_SECONDS, ROOT, Server, environment, launch

pytestmark = pytest.mark.server
PAGE = "https://page.example"
NOTICE_SECONDS = 10  # the service needs one; the machine may be busy


def replace(file: Path, text: str) -> None:
    """A new file in the old one's place."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + NOTICE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def web(folder: Path) -> str:
    """The key without a limit, of ``guarded``."""
    key, block = api_keys.make("web")
    (folder / "web").write_text(block)
    return key


@pytest.fixture(scope="module")
def slow(folder: Path) -> str:
    """The key of three images a day."""
    key, block = api_keys.make("slow", "3/day")
    (folder / "slow").write_text(block)
    return key


@pytest.fixture(scope="module")
def guarded(start_server: StartServer, folder: Path, web: str, slow: str) -> Server:
    """A service that asks for keys and answers pages of one origin."""
    file = folder / "keys.toml"
    file.write_text((folder / "web").read_text() + (folder / "slow").read_text())
    return start_server(HUBEL_API_KEYS_FILE=str(file), HUBEL_CORS_ORIGINS=PAGE, HUBEL_ALLOW_ANONYMOUS="true")


@pytest.fixture
def visitor(guarded: Server) -> Iterator[httpx.Client]:
    with guarded.client() as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/classify"),
        ("POST", "/v1/explain"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/page/nothing.js"),
        ("POST", "/"),
        ("POST", "/nothing"),
        ("OPTIONS", "/v1/classify"),
        ("PUT", "/v1/info"),
    ],
)
@pytest.mark.parametrize("headers", [{}, bearer("wrong"), {"authorization": "Basic eDp5"}], ids=["none", "wrong", "Basic"])
def test_a_stranger_gets_in_nowhere(visitor: httpx.Client, method: str, path: str, headers: dict[str, str]) -> None:
    response = visitor.request(method, path, headers=headers, content=make_image() if method == "POST" else None)
    problem = assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer KEY" in problem["detail"]


def test_the_page_needs_no_key_and_a_browser_that_has_it_is_told_so(visitor: httpx.Client) -> None:
    got, head = visitor.get("/"), visitor.head("/")
    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    for method in ("GET", "HEAD"):
        again = visitor.request(method, "/", headers={"if-none-match": got.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert visitor.get("/livez").status_code == 200  # the connection is still good


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/livez?x=1", "/readyz?verbose"])
def test_probes_need_no_key(visitor: httpx.Client, path: str) -> None:
    assert visitor.get(path).status_code == 200


def test_with_a_key_images_are_classified_and_counted_by_its_name(visitor: httpx.Client, web: str, guarded: Server) -> None:
    visitor.headers.update(bearer(web))
    name = 'hubel_requests_by_key_total{key="web",status="200"}'
    before = samples(visitor).get(name, 0)
    answer = send(visitor, "/v1/classify", [make_image(color="red"), make_image(color="blue")])
    assert labels_of("/v1/classify", results_of(answer)) == ["red", "blue"]
    assert samples(visitor)[name] >= before + 2  # the answers to this and to the question before
    assert visitor.get("/openapi.json").json()["security"] == [{"key": []}]
    assert web not in guarded.output()
    assert "API keys in force: web, slow" in guarded.output()


def test_status_says_that_a_key_is_wanted_or_wrong_and_shows_all_with_a_right_one(guarded: Server, web: str) -> None:
    for key, reason in (("", "HUBEL_API_KEY is not set"), ("wrong", "the key in HUBEL_API_KEY is none of its")):
        with pytest.raises(StatusError, match=rf"127.0.0.1:{guarded.port} \(ready\) tells no more \(401\): .*{reason}"):
            ask_how_it_is("127.0.0.1", guarded.port, key)
    assert ask_how_it_is("127.0.0.1", guarded.port, web).well


def test_a_limit_counts_images_and_says_when_to_come_back(visitor: httpx.Client, slow: str) -> None:
    visitor.headers.update(bearer(slow))
    image = make_image(color="red")
    assert_problem(send(visitor, "/v1/classify", [image] * 4), 413, "too_many_images")  # counts as one
    results_of(send(visitor, "/v1/classify", [image] * 2))
    response = visitor.get("/v1/info")
    problem = assert_problem(response, 429, "rate_limited")
    assert 1 <= int(response.headers["retry-after"]) <= 2 * 24 * 3600
    assert "the limit of the key slow is 3/day" in problem["detail"]
    assert visitor.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "announced",
    [
        "content-length: 5000000\r\nexpect: 100-continue\r\n",
        "content-length: 5000000\r\n",
        "content-length: 999999999999\r\n",
        "transfer-encoding: chunked\r\n",
    ],
    ids=["expecting", "large", "huge", "chunked"],
)
@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_stranger_is_refused_on_his_head_and_no_body_is_asked_for(guarded: Server, announced: str, key: str | None) -> None:
    header = f"authorization: Bearer {key}\r\n" if key else ""
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=20) as connection:
        connection.sendall(f"POST /v1/classify HTTP/1.1\r\nhost: x\r\n{header}{announced}\r\n".encode())
        answer = connection.recv(4000)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in answer


def test_a_page_asks_first_and_is_answered_so_that_its_script_can_read_it(visitor: httpx.Client, web: str) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    response = visitor.options("/v1/classify", headers={"origin": PAGE, **asks})
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == PAGE
    assert_problem(visitor.options("/v1/classify", headers={"origin": "https://evil.example", **asks}), 403, "cors_refused")
    for headers, status in (({}, 401), (bearer(web), 200)):
        answer = visitor.post("/v1/classify", headers={"origin": PAGE, **headers}, content=make_image())
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
    assert "access-control-allow-origin" not in visitor.get("/livez").headers


def test_without_the_setting_pages_are_told_nothing(client: httpx.Client) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        asks = {"origin": PAGE, "access-control-request-method": "POST"}
        response = client.request(method, "/v1/classify", headers=asks, content=make_image())
        assert not [name for name in response.headers if name.startswith("access-control-") or name == "vary"]


def test_without_keys_another_name_or_another_page_is_refused(client: httpx.Client) -> None:
    for headers in ({"host": "rebound.example:3000"}, {"host": "a.b", "origin": "http://a.b"}):
        assert_problem(client.get("/v1/models", headers=headers), 421, "wrong_host")
        assert_problem(client.post("/v1/classify", headers=headers, content=make_image()), 421, "wrong_host")
    form = client.build_request("POST", "/v1/classify", files={"a": make_image()}, headers={"origin": PAGE})
    assert_problem(client.send(form), 403, "cors_refused")
    own = {"origin": f"http://127.0.0.1:{client.base_url.port}", "sec-fetch-site": "same-origin"}
    assert client.post("/v1/classify", headers=own, content=make_image()).status_code == 200


def test_keys_are_rotated_while_requests_run_by_the_same_processes(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    (old, old_block), (new, new_block) = api_keys.make("old"), api_keys.make("new")
    file.write_text(old_block)
    server = start_server(HUBEL_API_KEYS_FILE=str(file), HUBEL_WORKERS="2")
    before, image = server.processes(), make_image(color="green")

    async def scenario() -> list[tuple[str, int, str]]:
        """Who asked, what came, and which file was in place from the question to the answer."""
        seen: list[tuple[str, int, str]] = []
        place = "old"

        async def ask(name: str, key: str) -> None:
            while place != "over":
                asked_at = place
                async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:  # any worker
                    answer = await client.post("/v1/classify", headers=bearer(key), content=image)
                seen.append((name, answer.status_code, asked_at if asked_at == place else "changing"))

        async def answered() -> None:
            """Both keys were answered a few times with the file that is in place."""
            async with asyncio.timeout(60):
                while min(sum((n, p) == (name, place) for n, _, p in seen) for name in ("old", "new")) < 4:
                    await asyncio.sleep(0.05)

        asking = [asyncio.create_task(ask(name, key)) for name, key in (("old", old), ("new", new)) for _ in range(2)]
        for text, after in ((old_block + new_block, "both"), (new_block, "new")):
            await answered()
            place = "changing"
            replace(file, text)
            await asyncio.sleep(1.5)  # a look a second
            place = after
        await answered()
        place = "over"
        await asyncio.gather(*asking)
        return seen

    seen = asyncio.run(scenario())
    statuses = {(name, place): {s for n, s, p in seen if (n, p) == (name, place)} for name, _, place in seen}
    assert statuses["old", "old"] == {200}
    assert statuses["new", "old"] == {401}
    assert statuses["old", "both"] == statuses["new", "both"] == {200}
    assert statuses["old", "new"] == {401}
    assert statuses["new", "new"] == {200}
    assert {status for _, status, _ in seen} == {200, 401}  # none was lost
    assert server.processes() == before


def test_a_faulty_file_leaves_the_keys_as_they_were_and_says_so(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    key, block = api_keys.make("web")
    file.write_text(block)
    server = start_server(HUBEL_API_KEYS_FILE=str(file))
    with server.client() as client:
        client.headers.update(bearer(key))
        assert samples(client)["hubel_api_keys_file_faulty"] == 0
        for spoil in (lambda: replace(file, block + "[[keys]]\nname = 3\n"), file.unlink):
            spoil()
            until(lambda: samples(client)["hubel_api_keys_file_faulty"] == 1)
            replace(file, block)
            until(lambda: samples(client)["hubel_api_keys_file_faulty"] == 0)
    lines = re.findall(r"ERROR hubel: the API keys stay as they were: (.*)", server.output())
    assert len(lines) == 2
    assert lines[0].endswith("Expected `str`, got `int` - at `$.keys[1].name`")
    assert "cannot be read: No such file or directory" in lines[1]
    assert key not in server.output()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param({"HUBEL_API_KEYS_FILE": "/nowhere"}, "/nowhere cannot be read: No such file or directory", id="no file"),
        pytest.param({"HUBEL_API_KEYS_FILE": str(ROOT / "pyproject.toml")}, "is not a file of keys: ", id="another file"),
        pytest.param({"HUBEL_HOST": "0.0.0.0"}, "HUBEL_HOST is 0.0.0.0, which other machines can reach", id="no keys"),
        pytest.param({"HUBEL_HOST": "::"}, "HUBEL_HOST is ::, which other machines can reach", id="no keys for IPv6"),
        pytest.param({"HUBEL_CORS_ORIGINS": "a.example"}, "HUBEL_CORS_ORIGINS is 'a.example': ", id="no origin"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"], ids=["one worker", "two workers"])
def test_what_would_let_in_the_wrong_ones_is_told_in_one_line_before_anything_is_loaded(
    tiny_store: Path, tmp_path: Path, settings: dict[str, str], reason: str, workers: str
) -> None:
    server = launch(tiny_store, tmp_path / "log.txt", HUBEL_WORKERS=workers, **settings)
    try:
        server.process.wait(READY_SECONDS)
    finally:
        code = server.stop()
    (line,) = server.output().splitlines()
    assert code == 1
    assert line.startswith("error: ")
    assert reason in line


def test_on_all_addresses_it_serves_everyone_where_it_is_told_to(start_server: StartServer) -> None:
    server = start_server(HUBEL_HOST="0.0.0.0", HUBEL_ALLOW_ANONYMOUS="true")
    with server.client() as client:
        assert labels_of("/v1/classify", results_of(send(client, "/v1/classify", [make_image(color="red")], "raw"))) == ["red"]


def test_a_key_made_on_the_command_line_gets_in(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    command = [sys.executable, "-m", "service", "new-key", "me", "--limit", "50/second"]
    with open(file, "ab") as out:
        made = subprocess.run(command, cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.PIPE, text=True, check=True)
    (line,) = made.stderr.splitlines()
    server = start_server(HUBEL_API_KEYS_FILE=str(file), HUBEL_HOST="0.0.0.0")
    with server.client() as client:
        assert_problem(client.get("/v1/info"), 401, "unauthorized")
        assert client.get("/v1/info", headers=bearer(line.split()[-1])).status_code == 200


def test_only_the_key_that_asked_may_judge_an_answer_or_have_it_deleted(start_server: StartServer, tmp_path: Path) -> None:
    made = [api_keys.make(name) for name in ("one", "other")]
    (file := tmp_path / "keys.toml").write_text("".join(block for _, block in made))
    server = start_server(HUBEL_API_KEYS_FILE=str(file), HUBEL_FEEDBACK_DIR=str(tmp_path / "kept"))
    one, other = (bearer(key) for key, _ in made)
    with server.client() as client:
        (result,) = results_of(client.post("/v1/classify", content=make_image(), headers=one))
        said, path = {"answer": result["answer"], "wrong": True}, f"/v1/feedback/{result['answer']}"
        assert_problem(client.post("/v1/feedback", json=said, headers=other), 403, "foreign_answer")
        assert_problem(client.delete(path, headers=other), 403, "foreign_answer")
        assert client.post("/v1/feedback", json=said, headers=one).status_code == 200
        assert client.delete(path, headers=one).json() == {"deleted": 1}
