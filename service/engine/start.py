"""Start an engine: its address, its end of the control socket, its command; and one that a process starts for itself."""

import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models.registry import registry
from models.terminal import program
from service.engine import ipc, messages
from service.engine.board import Board
from service.engine.client import EngineError
from service.engine.ipc import MessageSocket
from service.engine.messages import Failed, Load
from service.settings import Settings

COMMAND = tuple(program.module("service.engine"))
LOAD_SECONDS = 120.0  # for a version to be loaded and warmed
END_SECONDS = 5.0  # for a process to end that nobody asks any more
# How early the system ends it where memory is short (oom_score_adj, see proc(5)): before all others while it is made ready beside
# another, and before its fronts when it answers, as what it had is computed by the next.
FIRST, BEFORE_ITS_FRONTS = 1000, 100


@dataclass(frozen=True)
class Address:
    """Where the engine of a version is found, whichever process that is: the socket that is listened to, and its name."""

    listener: socket.socket
    name: str

    @classmethod
    def make(cls) -> "Address":
        return cls(*ipc.listen())


def load_request(config: Settings, version: int, place: int = 0, aside: bool = False, again: bool = False) -> Load:
    """What an engine is told to load. Raises PackageError where there is no such version."""
    folder = registry.resolve(config.model_store(), f"{config.model.partition(':')[0]}:{version}")
    return Load(
        folder=str(folder),
        device=config.device,
        precision=config.precision,
        threads=config.inference_threads(),
        key=config.require_signature,
        max_batch=config.max_batch,
        max_wait=config.max_wait_ms / 1000,
        place=place,
        aside=aside,
        again=again,
        log_level=config.log_level,
        log=config.log,
        gpu_memory=config.gpu_memory(),
    )


def arguments(listener: socket.socket, control: socket.socket, board: Board, aside: bool) -> tuple[list[str], tuple[int, ...]]:
    """Of the command: descriptors, and those of them that the process is to inherit."""
    handles = (listener.fileno(), control.fileno(), board.handle)
    return [*map(str, handles), str(int(aside))], handles


def set_oom_score(pid: int, score: int) -> None:
    with suppress(OSError):  # it has ended; another system than Linux
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(score))


class OwnEngine:
    """Of a front that has no supervisor. Raises EngineError where its version cannot be had; it ends with this process."""

    def __init__(self, request: Load, command: Sequence[str] = COMMAND) -> None:
        self.board = Board.make()
        self.address = Address.make()
        ours, theirs = socket.socketpair()
        self.control = MessageSocket(ours)
        with theirs:
            words, handles = arguments(self.address.listener, theirs, self.board, aside=False)
            try:
                self.process = subprocess.Popen([*command, *words], stdin=subprocess.DEVNULL, pass_fds=handles)
            except OSError as err:
                raise EngineError(f"no process can be started to load it: {err.strerror}") from err
        try:
            self.control.send(request)
            reply = messages.FROM_ENGINE.decode(self.control.receive(LOAD_SECONDS))
        except (OSError, EOFError, msgspec.DecodeError) as err:
            self.close()
            raise EngineError("its process ended, or was not ready in time; the log says more") from err
        if isinstance(reply, Failed):
            self.close()
            raise EngineError(reply.reason)
        set_oom_score(self.process.pid, BEFORE_ITS_FRONTS)
        self.address.listener.close()  # no other takes its place

    def close(self) -> None:
        """Let it end, once this process has left it; at once where it does not."""
        self.control.socket.close()
        self.address.listener.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
