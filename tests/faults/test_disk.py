"""Disks that are full: predictions go on, and a package is published whole or not at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client import send
from tests.conftest import Figures
from tests.factories import make_image, make_package
from tests.faults.conftest import StartAs
from tests.faults.sandbox import as_seen_by, fill, inside
from tests.faults.watch import engines, metrics, workers
from tests.server import ROOT, Server

pytestmark = [pytest.mark.server, pytest.mark.long]

SMALL_DISK = 'mount -t tmpfs -o size="$1" none "$2"; shift 2; '
KINDS = ("JPEG", "PNG", "WEBP", "GIF")


def check_predictions(server: Server) -> None:
    """Everything works, also what is counted for the first time now and so needs new places in the metrics' files."""
    with server.client() as client:
        for round in range(20):
            for path in ("/v1/classify", "/v1/features", "/v1/explain", "/v1/top-k"):
                for kind in KINDS:
                    status = send(client, path, [make_image(kind, seed=round)], "raw").status_code
                    assert status == (415 if kind == "GIF" else 200), (path, kind)
            assert [client.get(path).status_code for path in ("/nothing", "/v1/classify")] == [404, 405]
            assert client.post("/v1/top-k", params={"k": "x"}, content=make_image()).status_code == 422
            assert {client.get(path).status_code for path in ("/livez", "/readyz", "/v1/info", "/metrics")} == {200}


@pytest.mark.parametrize("count", [1, 2])
def test_predictions_go_on_when_the_disk_for_temporary_files_and_metrics_is_full(
    launched_as: StartAs, tiny_store: Path, tmp_path: Path, figures: Figures, count: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    prefix = inside(SMALL_DISK + 'exec "$@"', "2m", str(disk))
    server = launched_as(prefix, ROOT, tiny_store, HUBEL_WORKERS=str(count), TMPDIR=str(disk))
    server.wait_until_ready()
    before = workers(server), engines(server)
    figures(filled_bytes=fill(as_seen_by(server.process.pid, disk)))
    check_predictions(server)
    assert (workers(server), engines(server)) == before
    assert metrics(server)['hubel_requests_total{route="/v1/classify",status="200"}'] == 60
    assert server.stop() == 0


def test_predictions_go_on_when_the_disk_for_the_log_is_full(
    launched_as: StartAs, tiny_store: Path, tmp_path: Path, figures: Figures
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    prefix = inside(SMALL_DISK + 'exec "$@" > "$LOG" 2>&1', "64k", str(disk))
    server = launched_as(prefix, ROOT, tiny_store, LOG=str(disk / "log"), HUBEL_LOG_LEVEL="debug")
    server.wait_until_ready()
    log = as_seen_by(server.process.pid, disk / "log")
    figures(filled_bytes=fill(log.parent))
    size = log.stat().st_size
    check_predictions(server)
    assert server.process.poll() is None
    assert log.stat().st_size - size < 4096
    assert server.stop() == 0


PUBLISH = """
import json, sys
from pathlib import Path
from models.registry import registry
from tests.factories import make_package
from tests.faults.sandbox import fill

store = Path(sys.argv[1])
make_package(store)
(store / "filler").write_bytes(b"")
fill(store)
with (store / "filler").open("r+b") as file:
    file.truncate(max(0, file.seek(0, 2) - int(sys.argv[2])))
try:
    make_package(store)
    failure = ""
except Exception as err:
    failure = repr(err)
found = sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.name != "filler")
registry.verify(registry.resolve(store, "tiny"))
(store / "filler").unlink()
version = make_package(store).name
print(json.dumps({"failure": failure, "found": found, "next": version}))
"""


@pytest.mark.parametrize("left", [0, 4096, 8192], ids=lambda left: f"{left} bytes left")
def test_a_package_that_does_not_fit_the_disk_leaves_nothing_behind(tmp_path: Path, left: int) -> None:
    complete = tmp_path / "complete"
    make_package(complete)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = inside(SMALL_DISK + 'exec "$@"', "64k", str(disk))
    done = subprocess.run(
        [*command, sys.executable, "-c", PUBLISH, str(disk), str(left)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert "No space left" in result["failure"], result
    assert result["found"] == sorted(str(path.relative_to(complete)) for path in complete.rglob("*"))
    assert result["next"] == "2"
