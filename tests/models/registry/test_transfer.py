"""pull and push: a package arrives whole or not at all, from and to folders, http addresses and fsspec's storage."""

import os
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import fsspec
import pytest

from models.__main__ import main
from models.package.manifest import PackageError
from models.registry import archive, locations, registry, transfer
from models.registry.locations import Web
from tests.models.conftest import MakeStore, contents

HANG_SECONDS = 15  # no speed: what is said to take a fraction of a second has hung


class Handler(SimpleHTTPRequestHandler):
    """Files by GET, and by PUT until the server has had enough."""

    def do_PUT(self) -> None:
        server: Any = self.server
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if server.puts_left == 0:
            self.send_error(507)
            return
        server.puts_left -= 1
        target = Path(self.translate_path(self.path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(server.spoil(data))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Any]:
    """A server of the folder tmp_path/web. ``puts_left``: how many files it takes; ``spoil``: what it makes of their bytes."""
    (tmp_path / "web").mkdir()
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "web")))
    server.puts_left, server.spoil = 100, bytes
    server.root, server.address = tmp_path / "web", f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["folder", "http", "fsspec"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place of each kind that is empty."""
    if request.param == "folder":
        yield str(tmp_path / "elsewhere")
    elif request.param == "http":
        yield request.getfixturevalue("web").address
    else:
        yield "memory://bucket/models"
        memory: Any = fsspec.filesystem("memory")
        if memory.exists("/bucket"):
            memory.rm("/bucket", recursive=True)


def test_a_package_that_was_pushed_is_pulled_as_it_was(make_store: MakeStore, tmp_path: Path, address: str) -> None:
    store, there = make_store(tiny=2), tmp_path / "there"
    (store / "tiny/2.sig").write_text("a signature")
    assert main(["push", "tiny:2", address, "--store", str(store)]) == 0
    assert main(["pull", f"{address}/tiny/2/", "--store", str(there)]) == 0
    assert {path: data for path, data in contents(store / "tiny").items() if path.startswith("2")} == {
        path: data for path, data in contents(there / "tiny").items() if path.startswith("2")
    }
    assert registry.resolve(there, "tiny") == there / "tiny/2"
    assert {path.name for path in there.iterdir()} == {"tiny"}


def test_neither_end_takes_a_version_twice(make_store: MakeStore, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tiny=1)
    assert main(["push", "tiny:1", address, "--store", str(store)]) == 0
    before = contents(store)
    assert main(["push", "tiny:1", address, "--store", str(store)]) == 1
    assert "has a tiny:1 already, and a version never changes" in capsys.readouterr().err
    assert main(["pull", f"{address}/tiny/1", "--store", str(store)]) == 1
    assert "has a tiny:1 already" in capsys.readouterr().err
    assert contents(store) == before


def test_what_is_not_there_is_named(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", f"{address}/tiny/3", "--store", str(tmp_path / "there")]) == 1
    assert capsys.readouterr().err == f"error: there is no package in {address}/tiny/3; name its folder, NAME/VERSION\n"
    assert not (tmp_path / "there").exists()


def test_a_push_that_breaks_off_leaves_nothing_in_a_folder_and_one_that_ends_puts_a_first_version_into_service(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, there = make_store(tiny=1), tmp_path / "there"
    monkeypatch.setattr(archive, "MAX_BYTES", 2000)
    with pytest.raises(PackageError, match="more than 2,000 bytes"):
        transfer.push(store / "tiny/1", locations.find(str(there)))
    assert not there.exists()
    monkeypatch.undo()
    transfer.push(store / "tiny/1", locations.find(str(there)))
    assert registry.resolve(there, "tiny") == there / "tiny/1"


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a pipe"), (Path.mkdir, "a folder")])
def test_what_is_no_plain_file_in_a_folder_is_not_pulled(
    make_store: MakeStore, tmp_path: Path, make: Callable[[Path], object], kind: str
) -> None:
    card = make_store(tiny=1) / "tiny/1/card.md"
    card.unlink()
    make(card)
    with pytest.raises(PackageError, match=f"card.md is not a plain file but {kind}"):
        transfer.pull(tmp_path / "there", locations.find(str(card.parents[2])), "tiny", 1)
    assert not (tmp_path / "there").exists()


def test_a_push_that_breaks_off_leaves_no_package_and_goes_on_later(
    make_store: MakeStore, tmp_path: Path, web: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=1)
    web.puts_left = 2
    assert main(["push", "tiny:1", web.address, "--store", str(store)]) == 1
    assert "answers 507" in capsys.readouterr().err
    assert {path.name for path in (web.root / "tiny/1").iterdir()} < {"model.onnx", "golden.npz", "card.md"}
    assert main(["pull", f"{web.address}/tiny/1", "--store", str(tmp_path / "there")]) == 1
    web.puts_left = 100
    assert main(["push", "tiny:1", web.address, "--store", str(store)]) == 0
    assert main(["pull", f"{web.address}/tiny/1", "--store", str(tmp_path / "there")]) == 0


def test_a_push_that_arrives_changed_is_noticed_before_it_is_a_package(make_store: MakeStore, web: Any) -> None:
    store = make_store(tiny=1)
    web.spoil = lambda data: data[:-1] + b"?"
    with pytest.raises(PackageError, match="did not arrive as it is: its SHA-256 is"):
        transfer.push(store / "tiny/1", Web(web.address))
    assert not (web.root / "tiny/1/manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("model.onnx", b"another graph", "model.onnx did not arrive as it is"),
        ("golden.npz", None, "there is no .*golden.npz, which the manifest lists"),
        ("manifest.json", b"{}", "is not a manifest that can be served"),
        ("manifest.json", b" " * 2**24 + b"{}", "has more than 16,777,216 bytes"),
    ],
)
def test_a_package_that_is_not_whole_is_not_pulled(
    make_store: MakeStore, tmp_path: Path, web: Any, name: str, data: bytes | None, message: str
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    transfer.push(make_store(tiny=1) / "tiny/1", Web(web.address))
    path = web.root / "tiny/1" / name
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(PackageError, match=message):
        transfer.pull(there, Web(web.address), "tiny", 1)
    assert contents(there) == {}


def test_a_package_in_another_place_than_its_own_is_not_pulled(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(tiny=2)
    (store / "tiny/2").rename(store / "tiny/3")
    with pytest.raises(PackageError, match="calls itself tiny:2"):
        transfer.pull(tmp_path / "there", locations.find(str(store)), "tiny", 3)
    assert not (tmp_path / "there").exists()


def test_a_package_that_is_not_signed_is_not_pulled_where_it_must_be(make_store: MakeStore, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("a key")
    with pytest.raises(PackageError, match="tiny:1 is not signed"):
        transfer.pull(tmp_path / "there", locations.find(str(make_store(tiny=1))), "tiny", 1, key)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:1", "cannot be reached: Connection refused"),
        ("http://127.0.0.1:99999", "cannot be reached"),
        ("nowhere://bucket", "cannot be used: Protocol not known"),
    ],
)
def test_a_place_that_cannot_be_reached_is_named(address: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=message):
        transfer.pull(tmp_path / "there", locations.find(address), "tiny", 1)


def test_a_folder_that_cannot_be_used_is_named(make_store: MakeStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, file = make_store(tiny=1), tmp_path / "file"
    file.write_text("no folder")
    assert main(["push", "tiny:1", str(file), "--store", str(store)]) == 1
    assert capsys.readouterr().err == f"error: {file} cannot be used: File exists\n"
    assert main(["pull", f"{file}/tiny/1", "--store", str(tmp_path / "there")]) == 1
    assert capsys.readouterr().err == f"error: {file}/tiny/1/manifest.json cannot be used: Not a directory\n"


def test_without_fsspec_storage_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(PackageError, match=r"s3://bucket needs fsspec, .*: 'make setup EXTRAS=remote' installs it"):
        locations.find("s3://bucket")


class Answer(BaseHTTPRequestHandler):
    """Answers as ``server.answer`` does."""

    def do_GET(self) -> None:
        server: Any = self.server
        with suppress(OSError):
            server.answer(self)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def hostile() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    server.over = Event()
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def drip_head(request: Any) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not request.server.over.wait(0.02):
        request.wfile.write(b"x")


def drip_body(request: Any) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not request.server.over.wait(0.02):
        request.wfile.write(b" ")


def say_nothing(request: Any) -> None:
    request.server.over.wait(2 * HANG_SECONDS)


def redirect(target: str, code: int = 302) -> Callable[[Any], None]:
    def answer(request: Any) -> None:
        request.send_response(code)
        request.send_header("Location", target.format(port=request.server.server_address[1]))
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@pytest.mark.parametrize("answer", [drip_head, drip_body, say_nothing], ids=["head", "body", "silence"])
def test_a_server_that_never_ends_is_left_when_the_time_is_over(
    tmp_path: Path, hostile: Any, answer: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    hostile.answer = answer
    began = time.monotonic()
    assert main(["pull", f"{hostile.address}/tiny/1", "--store", str(tmp_path / "there"), "--seconds", "0.4"]) == 1
    said = capsys.readouterr().err
    assert f"{hostile.address}/tiny/1/manifest.json did not arrive within 0.4 s, which all files of the package" in said
    assert said.count("\n") == 1
    assert time.monotonic() - began < HANG_SECONDS
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/x",
        "http://127.0.0.1:1/x",
        "http://169.254.169.254/latest",
        "https://127.0.0.1:{port}/x",
        "ftp://127.0.0.1/x",
        "//evil.example/x",
    ],
)
@pytest.mark.parametrize("code", [301, 307])
def test_a_redirect_that_leads_elsewhere_is_not_followed(
    tmp_path: Path, hostile: Any, target: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile.answer = redirect(target, code)
    assert main(["pull", f"{hostile.address}/tiny/1", "--store", str(tmp_path / "there")]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: http://\S+ leads elsewhere, to \S+, and is not followed; [^\n]+\n", said)


def test_a_redirect_on_the_same_server_is_followed(make_store: MakeStore, tmp_path: Path, web: Any, hostile: Any) -> None:
    store = make_store(tiny=1)
    assert main(["push", "tiny:1", f"{web.address}/moved", "--store", str(store)]) == 0

    def answer(request: Any) -> None:
        if request.path.startswith("/old/"):
            redirect(request.path.replace("/old/", "/new/"))(request)
            return
        path = web.root / request.path.replace("/new/", "moved/")
        request.send_response(200 if path.exists() else 404)
        request.end_headers()
        request.wfile.write(path.read_bytes())

    hostile.answer = answer
    assert main(["pull", f"{hostile.address}/old/tiny/1", "--store", str(tmp_path / "there")]) == 0


@pytest.mark.parametrize(
    ("old", "new", "follows"),
    [
        ("http://a.example/x", "https://a.example/y", True),
        ("http://a.example/x", "https://a.example:8443/y", False),
        ("http://a.example:8080/x", "https://a.example/y", False),
        ("https://a.example/x", "http://a.example/x", False),
        ("https://a.example/x", "https://b.example/x", False),
        ("https://a.example/x", "https://a.example@b.example/x", False),
        ("https://a.example/x", "https://a.example.evil/x", False),
    ],
)
def test_a_redirect_may_make_it_safer_and_go_nowhere_else(old: str, new: str, follows: bool) -> None:
    request = urllib.request.Request(old)

    def ask() -> object:
        return locations.StayThere().redirect_request(request, BytesIO(), 302, "Found", HTTPMessage(), new)

    if follows:
        assert cast(urllib.request.Request, ask()).full_url == new
    else:
        with pytest.raises(PackageError, match="leads elsewhere"):
            ask()


def test_files_that_are_too_many_bytes_together_are_refused(
    make_store: MakeStore, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, there = make_store(tiny=1), tmp_path / "there"
    assert main(["push", "tiny:1", address, "--store", str(store)]) == 0
    largest = max(path.stat().st_size for path in (store / "tiny/1").iterdir())
    monkeypatch.setattr(archive, "MAX_BYTES", largest + 100)
    assert main(["pull", f"{address}/tiny/1", "--store", str(there)]) == 1
    assert f"its package has more than {largest + 100:,} bytes in all" in capsys.readouterr().err
    assert not there.exists()


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "1e300"])
def test_any_time_above_0_is_one_that_can_be_waited(
    make_store: MakeStore, tmp_path: Path, seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, there = make_store(tiny=1), tmp_path / "there"
    refused = seconds in ("-1", "nan")
    assert main(["pull", f"{store}/tiny/1", "--store", str(there), f"--seconds={seconds}"]) == int(refused)
    assert (f"--seconds is {seconds}, in which nothing can arrive" in capsys.readouterr().err) == refused
    assert there.exists() != refused


@pytest.mark.parametrize(
    "source", ["/x/tiny\n/1", "/x/tiny/1\n", "/x/tiny/0", "/x/tiny/01", "/x/tiny/" + "1" * 5000, "/x/Tiny/1"]
)
def test_what_names_no_package_is_said_in_one_line(tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", source, "--store", str(tmp_path)]) == 1
    assert re.fullmatch(r"error: [^\n]+ names no package; [^\n]+\n", capsys.readouterr().err)
    assert main(["show", f"tiny:{source.rpartition('/')[2]}", "--store", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
