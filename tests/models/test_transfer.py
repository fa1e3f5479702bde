"""pull and push: a package arrives whole or not at all, from and to folders, http addresses and fsspec's storage."""

import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pytest

from models import place, registry, transfer
from models.__main__ import main
from models.manifest import PackageError
from models.place import Web
from tests.models.conftest import MakeStore, contents


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
        ("manifest.json", b" " * 2**20 + b"{}", "has more than 1,048,576 bytes"),
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
        transfer.pull(tmp_path / "there", place.find(str(store)), "tiny", 3)
    assert not (tmp_path / "there").exists()


def test_a_package_that_is_not_signed_is_not_pulled_where_it_must_be(make_store: MakeStore, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("a key")
    with pytest.raises(PackageError, match="tiny:1 is not signed"):
        transfer.pull(tmp_path / "there", place.find(str(make_store(tiny=1))), "tiny", 1, key)
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
        transfer.pull(tmp_path / "there", place.find(address), "tiny", 1)


def test_without_fsspec_storage_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(PackageError, match=r"s3://bucket needs fsspec, .*: 'make setup EXTRAS=remote' installs it"):
        place.find("s3://bucket")
