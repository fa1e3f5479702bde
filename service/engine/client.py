"""A version that a process of its own computes, as the worker sees it: start it, have it compute, end it.

ONNX Runtime keeps Python's interpreter to itself while it opens a graph, for 0.8 s with the bundled one and in seconds with a
large one, and nobody would be answered meanwhile. So what is loaded beside a live version is loaded elsewhere; a graph
that crashes or has no memory left then ends that process alone. Pixels and results lie in memory that both see.
"""

import mmap
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.image.preprocess import Pixels
from models.package.manifest import Manifest
from models.terminal import program
from service.engine.ipc import MessageSocket
from service.errors import DeviceLost, OutOfMemory
from service.inference.batcher import Arrays
from service.stopwatch import Patience, step_of

# How early the system ends it where memory is short (oom_score_adj, see proc(5)): before all others while it is made ready, and
# before its worker when it answers, if both are about as large. A limit of memory beside that it has none: what is free when it
# begins says little of what it may take when it answers.
FIRST, BEFORE_ITS_WORKER = 1000, 100
COMMAND = tuple(program.module("service.engine"))
ERRORS = {kind.__name__: kind for kind in (OutOfMemory, DeviceLost)}


class Load(Struct, frozen=True, tag=True):
    """What is to be loaded, and how; folder: of the package."""

    folder: str
    device: str
    precision: str
    threads: int
    key: str
    max_batch: int
    log_level: str = "warning"


class Ready(Struct, frozen=True, tag=True):
    """It is loaded, checked and warm."""

    manifest: Manifest
    provider: str
    precision: str
    skipped_backends: list[str]


class Infer(Struct, frozen=True, tag=True):
    """Compute the first ``images`` in the shared memory."""

    images: int
    outputs: list[str]


class Activate(Struct, frozen=True, tag=True):
    """It answers from now on, and gives way to nobody any more."""


class Result(Struct, frozen=True, tag=True):
    """The results lie behind the pixels, one after the other."""


class Failed(Struct, frozen=True, tag=True):
    """kind: the name of an error."""

    kind: str
    reason: str


EngineRequest: TypeAlias = Load | Infer | Activate
EngineReply: TypeAlias = Ready | Result | Failed
REQUESTS, REPLIES = msgspec.msgpack.Decoder(EngineRequest), msgspec.msgpack.Decoder(EngineReply)


class EngineError(Exception):
    """The version cannot be used; ``str()`` says why."""


class EngineClient:
    """Starts the process, which begins to load. Raises EngineError where it cannot be started.

    After ``wait``: manifest, provider, precision and skipped_backends are as an OnnxSession's.
    """

    manifest: Manifest
    provider: str
    precision: str
    skipped_backends: list[str]

    def __init__(self, request: Load, pass_seconds: float, command: Sequence[str] = COMMAND) -> None:
        self.request = request
        self.pass_seconds = pass_seconds
        self.lost = ""  # why it cannot be used any more
        ours, theirs = socket.socketpair()
        self.pipe = MessageSocket(ours)
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [*command, str(theirs.fileno())], stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), close_fds=True
                )
            except OSError as err:
                ours.close()
                raise EngineError(f"no process can be started to load it: {err.strerror}") from err
        self._give_way(FIRST)

    def wait(self, seconds: float) -> None:
        """Until it is loaded and warm; raises EngineError, and ends it, where that does not come."""
        try:
            self.pipe.send(self.request)
            reply = self._receive(seconds, "it was loaded")
            if isinstance(reply, Failed):
                raise EngineError(reply.reason)
            assert isinstance(reply, Ready)
            self.manifest, self.provider, self.precision = reply.manifest, reply.provider, reply.precision
            self.skipped_backends = reply.skipped_backends
            size = layout(self.manifest, self.request.max_batch)[-1]
            handle = os.memfd_create("hubel-pixels")
            os.truncate(handle, size)
            self.shared = mmap.mmap(handle, size)
            socket.send_fds(self.pipe.socket, [b"m"], [handle])
            os.close(handle)
        except OSError as err:
            self.close()
            raise EngineError(f"its process cannot be spoken to: {err.strerror}") from err
        except EngineError:
            self.close()
            raise

    def answer(self) -> None:
        """It answers requests from now on, and computes as fast as the others."""
        self._give_way(BEFORE_ITS_WORKER)
        with suppress(OSError):
            self.pipe.send(Activate())

    def run(self, images: Pixels, outputs: Sequence[str]) -> Arrays:
        """As OnnxSession.run; raises EngineError too, and from then on always, where the process crashed or hung."""
        if self.lost:
            raise EngineError(self.lost)
        pixels, end, _ = layout(self.manifest, self.request.max_batch)
        count = len(images)
        np.frombuffer(self.shared, np.uint8, count * pixels).reshape(images.shape)[:] = images
        try:
            self.pipe.send(Infer(count, list(outputs)))
            reply = self._receive(self.pass_seconds, "it computed")
        except (OSError, EngineError) as err:
            self.lost = self.lost or str(err)
            self.close()
            raise EngineError(self.lost) from err
        if isinstance(reply, Failed):
            raise ERRORS.get(reply.kind, RuntimeError)(reply.reason)
        return read(self.shared, end, count, {name: self.manifest.outputs[name] for name in outputs})

    def abort(self) -> None:
        """End the process while another thread waits for it."""
        self.lost = self.lost or "it is not wanted any more"
        self.process.kill()

    def close(self) -> None:
        """End the process at once."""
        self.lost = self.lost or "it is not in memory any more"
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.pipe.socket.close()

    def _give_way(self, score: int) -> None:
        with suppress(OSError):  # it has ended; another system than Linux
            Path(f"/proc/{self.process.pid}/oom_score_adj").write_text(str(score))

    def _receive(self, seconds: float, what: str) -> EngineReply:
        """Its answer, waited for in time in which this process ran as well."""
        patience = Patience(step_of(seconds))
        try:
            while patience.seconds() <= seconds:
                with suppress(TimeoutError):
                    return REPLIES.decode(self.pipe.receive(patience.step))
            self.lost = f"it did not end within {seconds:g} s while {what}"
        except msgspec.DecodeError as err:
            self.lost = f"it answered what cannot be understood while {what}: {err}"
        except EOFError:
            self.lost = f"its process ended ({self._end()}) while {what}"
        raise EngineError(self.lost)

    def _end(self) -> str:
        """How it ended, which is soon known after its pipe has."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        code = self.process.poll()
        if code == -signal.SIGKILL:
            return "SIGKILL, as when the system is short of memory"
        return "unknown" if code is None else signal.Signals(-code).name if code < 0 else f"exit code {code}"


def layout(manifest: Manifest, max_batch: int) -> tuple[int, int, int]:
    """Bytes of an image, of all that there can be, and of those with their logits, features and novelty."""
    pixels = manifest.input.height * manifest.input.width * 3
    end = -(-max_batch * pixels // 64) * 64
    numbers = sum(size for name, (size, *_) in manifest.outputs.items() if name != "feature_map")
    return pixels, end, end + 4 * max_batch * numbers


def write(shared: mmap.mmap, start: int, arrays: Sequence[NDArray[np.float32]]) -> None:
    """Put arrays into the shared memory, one after the other."""
    for array in arrays:
        np.frombuffer(shared, np.float32, array.size, start)[:] = array.ravel()
        start += 4 * array.size


def read(shared: mmap.mmap, start: int, count: int, shapes: dict[str, list[int]]) -> Arrays:
    """Copies of what ``write`` put there, for so many images."""
    found: Arrays = {}
    for name, (size,) in shapes.items():
        found[name] = np.frombuffer(shared, np.float32, count * size, start).reshape(count, size).copy()
        start += 4 * count * size
    return found
