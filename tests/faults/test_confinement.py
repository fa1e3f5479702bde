"""As in its container, without one: read-only root, no rights, a user of its own, and a network in which nothing leaves."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import make_image
from tests.faults.conftest import StartAs
from tests.faults.load import Plan, Seen, drive, request
from tests.faults.sandbox import ROOT_USER, in_network_of, inside
from tests.faults.watch import engines, workers
from tests.server import ROOT, Server

pytestmark = pytest.mark.server

CONFINE = """
place=$1 closed=$2 python=$3; shift 3
if [ -n "$closed" ]; then  # a folder that only root may enter, with Python in it
  mount --bind "$python" "$place/python"
  mount -t tmpfs -o mode=755 none "$closed"
  mkdir -p "$python"
  mount --bind "$place/python" "$python"
fi
mount -t tmpfs -o size=64m,mode=1777 none "$place/tmp"
ip link set lo up
ip link add out type dummy 2>/dev/null || ip link add out type veth peer name nowhere
[ ! -e /proc/sys/net/ipv6 ] || echo 1 > /proc/sys/net/ipv6/conf/out/disable_ipv6  # else the kernel greets its neighbours
ip link set out up arp off  # what is for others leaves at once, whether or not they are there
ip link set nowhere up 2>/dev/null || true
mount -o remount,bind,ro /
ip route add default dev out
exec setpriv USER --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
USER = "10001"
REQUESTS = {
    request("/readyz", method="GET"): 200,
    request("/livez", method="GET"): 200,
    request("/metrics", method="GET"): 200,
    request("/v1/info", method="GET"): 200,
    request("/v1/models", method="GET"): 200,
    request("/openapi.json", method="GET"): 200,
    **{request("/v1/classify", make_image(format)): 200 for format in ("JPEG", "PNG", "WEBP")},
    request("/v1/features", make_image()): 200,
    request("/v1/top-k?k=2", make_image()): 200,
    request("/v1/explain?class=red", make_image()): 200,
    request("/v1/classify", make_image("GIF")): 415,
    request("/v1/classify", make_image()[:200]): 400,
    request("/v1/classify", b'{"images": ["http://example.org/cat.jpg"]}', "application/json"): 400,
    request("/nothing", method="GET"): 404,
}
CALL_OUT = """
import socket
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as caller:
            caller.settimeout(0.2)
            try:
                caller.connect((address, 53))
                caller.send(b"anyone?")
            except OSError:
                pass
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="hubel-confined-"))
    folder.chmod(0o755)
    for name in ("tmp", "python"):
        (folder / name).mkdir()
    yield folder
    shutil.rmtree(folder)


def closed_folder(path: Path) -> str:
    """The outermost folder above a path that other users may not enter; empty where there is none."""
    return next((str(folder) for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), "")


def left(pid: int) -> int:
    """What would have left the machine that a process sees, by the kernel's count: packets, and calls without a route."""
    net = Path(f"/proc/{pid}/net")
    (out,) = (line.split() for line in (net / "dev").read_text().splitlines() if line.strip().startswith("out:"))
    names, values = (line.split() for line in (net / "snmp").read_text().splitlines() if line.startswith("Ip:"))
    snmp6 = dict(line.split() for line in (net / "snmp6").read_text().splitlines())
    return int(out[10]) + int(values[names.index("OutNoRoutes")]) + int(snmp6.get("Ip6OutNoRoutes", 0))


def ask_inside(server: Server) -> Seen:
    plan = Plan(server.port, rate=200, seconds=len(REQUESTS) / 200, spacing="even")
    return drive(plan, list(REQUESTS), in_network_of(server.process.pid))


def test_confined_it_serves_and_nothing_leaves_the_machine(launched_as: StartAs, tiny_store: Path, place: Path) -> None:
    store = Path(shutil.copytree(tiny_store, place / "store"))
    python = Path(sys.base_prefix).resolve()
    user = f"--reuid={USER} --regid={USER} --clear-groups" if ROOT_USER else ""
    arguments = [str(place), closed_folder(python) if ROOT_USER else "", str(python)]
    prefix = inside(CONFINE.replace("USER", user), *arguments, network=True)
    server = launched_as(prefix, ROOT, store, TMPDIR=str(place / "tmp"), HOME=str(place / "tmp"))
    until = time.monotonic() + 30
    while "initialized" not in server.output() and server.process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    for pid in {server.process.pid, *workers(server), *engines(server)}:
        status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1"), server.output()
        assert not ROOT_USER or set(status["Uid"].split()) == {USER}
    seen = ask_inside(server)
    assert {fate.kind: fate.status for fate in seen.fates} == dict(enumerate(REQUESTS.values()))
    assert left(server.process.pid) == 0
    subprocess.run([*in_network_of(server.process.pid), sys.executable, "-c", CALL_OUT], check=True)
    assert left(server.process.pid) >= 3, "what is counted is not what leaves"
    os.kill(server.process.pid, 15)
    assert server.process.wait(20) == 0
