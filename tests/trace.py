"""python -m tests.trace STORE PICTURE: serve as a worker does, and print which of our files one classify request runs through."""

import http.client
import os
import socket
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]


class Trace:
    """The files of functions that are called while ``on``, in any thread that starts after this."""

    def __init__(self) -> None:
        self.on = False
        self.files: set[str] = set()
        sys.setprofile(self.note)
        threading.setprofile(self.note)

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        if self.on and event == "call":
            self.files.add(frame.f_code.co_filename)

    def of(self, *folders: str) -> list[str]:
        """Those below folders of the checkout, as paths from its root."""
        found = {str(Path(file).relative_to(ROOT)) for file in self.files if file.startswith(f"{ROOT}/")}
        return sorted(file for file in found if file.startswith(folders))


def request(port: int, method: str, path: str, body: bytes | None = None) -> int:
    """The status of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with closing(connection):
        connection.request(method, path, body)
        return connection.getresponse().status


def ask(trace: Trace, port: int, picture: bytes) -> None:
    while True:
        with suppress(OSError):
            if request(port, "GET", "/readyz") == 200:
                break
        time.sleep(0.1)
    assert request(port, "POST", "/v1/classify", picture) == 200
    time.sleep(1.5)  # until what is done once a second has been done
    trace.on = True
    assert request(port, "POST", "/v1/classify", picture) == 200
    trace.on = False
    sys.stdout.write("\n".join(trace.of("service/", "models/")))
    sys.stdout.flush()
    os._exit(0)


def main(store: str, picture: str) -> None:
    metrics = tempfile.mkdtemp(dir=Path(picture).parent)
    os.environ |= {"HUBEL_STORE": store, "HUBEL_MODEL": "tiny", "PROMETHEUS_MULTIPROC_DIR": metrics}
    trace = Trace()
    from service import settings
    from service.engine.start import OwnEngine, load_request
    from service.processes import worker
    from service.rollout.messages import Channel, DesiredState

    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair()
    own = OwnEngine(load_request(settings.read(), 1))
    Channel(ours).send(DesiredState(1, {1: own.address.name}))
    threading.Thread(target=ask, args=(trace, listener.getsockname()[1], Path(picture).read_bytes())).start()
    sys.exit(worker.main(["0", *map(str, (listener.fileno(), theirs.fileno(), own.board.handle))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
