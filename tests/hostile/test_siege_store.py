"""Who writes nonsense into the store, keeps its lock and takes it away stops nobody who asks, and not what is promoted after."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from models.registry import registry
from tests.conftest import Figures, StartServer
from tests.factories import make_package
from tests.faults.sandbox import inside
from tests.faults.watch import metrics
from tests.hostile.memory import MIB
from tests.hostile.siege import siege
from tests.models.registry.holder import HOLD
from tests.server import Server, environment
from tests.traffic import until

pytestmark = [pytest.mark.server, pytest.mark.long]

NONSENSE = (
    b'{"version":2,"mode":"canary","percent":50,"requests":7,"started":"2027-01-02T03:04:05"}',
    b'{"version":1,"promoted":"0001-01-01T00:00:00+14:00","reason":"x"}',
    b"[" * 900_000,
    b"",
    b"\xff" * 2**20,
)
READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
STORE = "STORE_UNDER_SIEGE"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for _ in range(2):
        make_package(tmp_path / "store")
    return tmp_path / "store"


def scribble(port: int, going: Callable[[], bool]) -> None:
    """Write nonsense over what the control plane reads, remove it, and hold its lock for a moment, in turns."""
    place = Path(os.environ[STORE]) / "tiny"
    for turn in count():
        if not going():
            return
        with suppress(OSError):
            beside = place / f".nonsense-{turn}-{os.urandom(4).hex()}"
            beside.write_bytes(NONSENSE[turn % len(NONSENSE)])
            beside.rename(place / ("candidate.json", "current.json", "progress.json")[turn % 3])
            if turn % 5 == 4:
                (place / "current.json").unlink()
            handle = os.open(place, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
            time.sleep(0.02)
            os.close(handle)


def served(server: Server) -> float:
    return metrics(server).get('hubel_model_version{model="tiny",worker="0"}', 0)


@pytest.mark.parametrize("clients", [1, 20])
def test_who_writes_nonsense_into_the_store_holds_nobody_up(
    start_server: StartServer, store: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures, clients: int
) -> None:
    server = start_server(store)
    monkeypatch.setenv(STORE, str(store))
    lines = server.output().count("\n")
    seen = siege(server, "tests.hostile.test_siege_store:scribble", clients=clients)
    figures(siege=str(seen), lines=server.output().count("\n") - lines)
    seen.check(memory=64 * MIB)
    assert server.output().count("\n") - lines < 100
    assert "Traceback" not in server.output()
    (store / "tiny/candidate.json").unlink(missing_ok=True)
    registry.promote(store, "tiny", 2, "mended")
    until(lambda: served(server) == 2 and metrics(server)['hubel_registry_unreadable{model="tiny"}'] == 0, server)


def test_a_store_that_is_taken_away_and_a_lock_that_is_kept_are_told_and_pass(start_server: StartServer, store: Path) -> None:
    server = start_server(store)
    store.rename(store.with_name("away"))
    until(lambda: metrics(server)['hubel_registry_unreadable{model="tiny"}'] == 1, server)
    assert server.output().count("tiny:1 stays live: ") == 1
    store.with_name("away").rename(store)
    until(lambda: metrics(server)['hubel_registry_unreadable{model="tiny"}'] == 0, server)
    command = [sys.executable, "-m", "models", "retire", "tiny:2", "--store", str(store)]
    with subprocess.Popen([sys.executable, "-c", HOLD, str(store / "tiny")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        found = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
        holder.kill()
    assert found.returncode == 1
    assert f"is being changed by process {holder.pid} " in found.stderr
    registry.promote(store, "tiny", 2, "test")
    until(lambda: served(server) == 2, server)


def test_commands_on_a_store_that_can_only_be_read_say_so_in_one_line(store: Path) -> None:
    shutil.copytree(store / "tiny/2", store / "tiny/3")
    for words in (
        ["list"],
        ["show", "tiny"],
        ["promote", "tiny:2"],
        ["rollback", "tiny"],
        ["retire", "tiny:2"],
        ["gc", "--keep", "0"],
    ):
        command = inside(READ_ONLY, str(store), sys.executable, "-m", "models", *words, "--store", str(store))
        found = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
        assert "Traceback" not in found.stderr
        assert found.returncode == (0 if words[0] in ("list", "show") else 1), (words, found.stderr)
        assert found.stderr.count("\n") == bool(found.returncode)
