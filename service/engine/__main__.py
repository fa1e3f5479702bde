"""python -m service.engine: the process that computes one version, as supervisor or front starts it.

Beside a live version it gives way from its first moment: what it imports takes as long as what it loads.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from service.engine.niceness import LOWEST, Priority

# numpy's BLAS, which computes little here, would start a thread a core that spins for a tenth of a second.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
REST = 0.5  # seconds without work for each second of warming up, where it cannot give way otherwise


def import_aside() -> None:
    """Do the slow imports in a short-lived thread at nice 19; the other threads of the process keep their normal priority."""

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, LOWEST)  # on Linux of this thread
        from service.engine import server as server

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def main(arguments: Sequence[str] | None = None) -> int:
    listener, control, board, aside = map(int, sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    priority = Priority()
    lowered = bool(aside) and priority.lower()
    if aside and not lowered:
        import_aside()
    from service.engine import server
    from service.engine.board import Board
    from service.engine.ipc import MessageSocket

    rest = REST if aside and not lowered else 0.0
    ends = socket.socket(fileno=listener), MessageSocket(socket.socket(fileno=control))
    return server.serve(*ends, Board(board), rest, priority.raise_again)


if __name__ == "__main__":
    sys.exit(main())
