"""An attack, and beside it what a good client and a load balancer see of the service meanwhile.

    seen = siege(server, "tests.hostile.attacks:pipelined", clients=20)
    seen.check(memory=200 * MIB)

The attackers run in a process of their own with the least priority, as they would on another machine: what is measured is
what they make the service do, not what they take from this machine's cores.
"""

import http.client
import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.factories import make_image
from tests.hostile.memory import MIB, Peak
from tests.server import ROOT, Server, environment

Attack = Callable[[int, Callable[[], bool]], None]  # the port, and whether to go on
ANSWER_SECONDS, PROBE_SECONDS = 1.0, 0.2  # within which a good client and a probe are to be answered
GIVE_UP = 30.0
SETTLE_SECONDS = 1.0  # until the attack has begun


@dataclass
class Seen:
    """Seconds and statuses, 0 for no answer, of a good client and of probes; ``grown``: bytes, the most of any process."""

    answers: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    probes: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    grown: int = 0
    same: bool = False

    def check(self, *, memory: int = 256 * MIB, answer: float = ANSWER_SECONDS, probe: float = PROBE_SECONDS) -> None:
        """Raises AssertionError, with all that was seen, where somebody waited longer, or more was taken."""
        assert self.answers
        assert self.probes
        assert {status for status, _ in self.answers + self.probes} == {200}, self
        assert max(seconds for _, seconds in self.answers) < answer, self
        assert max(seconds for _, seconds in self.probes) < probe, self
        assert self.grown < memory, self
        assert self.same, self

    def __str__(self) -> str:
        def say(found: list[tuple[int, float]]) -> str:
            times = sorted(seconds for _, seconds in found)
            bad = [status for status, _ in found if status != 200]
            middle = times[len(times) // 2]
            return f"n {len(times)}, median {1000 * middle:.0f} ms, longest {1000 * times[-1]:.0f} ms, not 200: {bad}"

        return f"answers: {say(self.answers)}; probes: {say(self.probes)}; memory +{self.grown / MIB:.0f} MiB; same: {self.same}"

    __repr__ = __str__


def siege(server: Server, attack: str, *, clients: int = 1, seconds: float = 8.0, key: str = "") -> Seen:
    """What is seen beside an attack, ``module:function``, of so many clients at once; key: the good client's."""
    pids = server.processes()
    seen, peak = Seen(), Peak(pids)
    image = make_image("JPEG", 64, 64, color="red")
    command = [sys.executable, "-m", "tests.hostile.siege", attack, str(server.port), str(clients)]
    attackers = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert attackers.stdout
    attackers.stdout.readline()  # it has loaded what it needs
    until = time.monotonic() + SETTLE_SECONDS + seconds
    asking = [
        threading.Thread(target=_ask, args=(server.port, "POST", "/v1/classify", image, key, 1.0, until, seen.answers)),
        threading.Thread(target=_ask, args=(server.port, "GET", "/livez", b"", "", 0.1, until, seen.probes)),
    ]
    try:
        time.sleep(SETTLE_SECONDS)
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    finally:
        attackers.kill()
        attackers.communicate()
    seen.same = server.processes() == pids
    seen.grown = peak.grown() if seen.same else 0
    return seen


def _ask(
    port: int, method: str, path: str, body: bytes, key: str, pause: float, until: float, found: list[tuple[int, float]]
) -> None:
    """Ask again and again, each time on a connection of its own."""
    headers = {"content-type": "image/jpeg"} | ({"authorization": f"Bearer {key}"} if key else {})
    while (began := time.monotonic()) < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP)
        status = 0
        with suppress(OSError, http.client.HTTPException):
            connection.request(method, path, body or None, headers if body else {})
            status = connection.getresponse().status
        seconds = time.monotonic() - began
        connection.close()
        found.append((status, seconds))
        time.sleep(max(0.0, pause - seconds))


def _attack(name: str, port: int, clients: int) -> None:
    """Until the other end of the standard input is gone."""
    os.nice(19)
    module, _, function = name.partition(":")
    attack: Attack = getattr(importlib.import_module(module), function)
    going = threading.Event()

    def keep_on() -> None:
        while not going.is_set():
            with suppress(OSError, http.client.HTTPException):
                attack(port, lambda: not going.is_set())
            time.sleep(0.01)

    for _ in range(clients):
        threading.Thread(target=keep_on, daemon=True).start()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    _attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
