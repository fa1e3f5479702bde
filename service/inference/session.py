"""Stage infer: a package -> a warmed ONNX Runtime session; (n, height, width, 3) uint8 -> named arrays.

Nothing is served that is not what its manifest promises: files, preprocessing, graph and golden answers are checked before the
first request.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.image.fingerprint import fingerprint
from models.image.preprocess import Pixels
from models.package.manifest import GOLDEN, Manifest, PackageError
from models.package.precision import CUDA, Backend, Precision
from models.registry import registry
from service.errors import OutOfMemory
from service.inference.backends import cuda_graph, memory
from service.inference.backends.choice import DeviceError, DeviceLost, choose
from service.inference.backends.cuda_graph import GraphSession
from service.inference.backends.memory import MB
from service.inference.backends.opening import Session, open_session
from service.inference.backends.sized import SizedSessions
from service.inference.backends.sizes import doubled, sizes
from service.inference.golden import Golden

Arrays = dict[str, NDArray[np.float32]]

NO_MEMORY = ("out of memory", "Failed to allocate memory", "Available memory of", "bad_alloc")  # in errors of ONNX Runtime
log = logging.getLogger("hubel")


class OnnxSession:
    """A package in memory, checked and warm. ``run`` is safe to call from one thread at a time; the one that warms is best.

    provider, precision: what computes. sizes: of batches, once warm; a larger one is computed too. seconds_per_image: about, once
    warm. skipped_backends: faster ways that this package and machine should have but that failed, the log says why; empty where
    all is well. With a public ``key`` the package must be signed with the private one. gpu_memory: bytes of a GPU's memory that
    it may take; 0: any.

    Raises:
        PackageError: the package is not what its manifest says or not signed, or was made with other preprocessing.
        DeviceError: the device or the precision asked for cannot be had.
    """

    def __init__(
        self, folder: Path, device: str, precision: str, threads: int, key: Path | None = None, gpu_memory: int = 0
    ) -> None:
        self.manifest = registry.verify(folder, key)
        _check_preprocessing(self.manifest)
        self.folder, self.threads, self.gpu_memory = folder, threads, gpu_memory
        self.way: Backend
        self.provider: str
        self.precision: Precision
        self.session: Session | None = None
        self.sizes: tuple[int, ...] = ()
        self.seconds_per_image = 0.0
        self.skipped_backends: list[str] = []
        ways = choose(self.manifest, device, precision)
        for way in ways:
            try:
                self._open(way)
                return
            except (PackageError, DeviceError) as err:
                if way == ways[-1]:
                    raise
                self.skipped_backends.append(str(way))
                log.warning("skipped %s: %s", way, err)

    def _open(self, way: Backend) -> None:
        self.way, self.provider, self.precision = way, way.provider, way.precision
        more = _limited(self.gpu_memory) if way.provider == CUDA else {}
        session = open_session(*self._graph(way), way, self.threads, more)
        _check_graph(session, self.manifest)
        self.session = session
        self._golden().check(way, lambda images: self.run(images, ("logits",))["logits"])

    def _graph(self, way: Backend) -> tuple[Path, bytes]:
        return self.folder / way.graph, registry.load(self.folder, self.manifest, way.graph)

    def _golden(self) -> Golden:
        return Golden(self.folder / GOLDEN, registry.load(self.folder, self.manifest, GOLDEN), self.manifest)

    def run(self, images: Pixels, outputs: Sequence[str]) -> Arrays:
        """Compute the outputs named: images (n, height, width, 3) uint8 -> arrays of n rows, float32.

        Raises:
            OutOfMemory: the GPU has no room for this batch; smaller ones may fit.
            DeviceLost: the GPU cannot be used any more by this process.
        """
        n = len(images)
        size = n if self.way.sized else next((size for size in self.sizes if size >= n), n)
        if size > n:
            images = np.concatenate([images, np.zeros((size - n, *images.shape[1:]), np.uint8)])
        if (session := self.session) is None:
            raise RuntimeError(f"{self.manifest.id} is not in memory any more")
        try:
            values = session.run(list(outputs), {"images": images})
        except Exception as err:  # ONNX Runtime's own classes share no base
            raise _explain(err, self.provider) from err
        return {name: np.asarray(value)[:n] for name, value in zip(outputs, values, strict=True)}

    @property
    def on_cores(self) -> bool:
        """Whether it computes on the cores that decode, too."""
        return not self.way.sized

    def batch(self, n: int) -> Pixels:
        """Room for n images that are to be computed next, (n, height, width, 3) uint8: where the GPU reads them by itself, if it
        does. What lies there is lost with the next ``run``.
        """
        if isinstance(self.session, SizedSessions) and n <= self.sizes[-1]:
            return self.session.images[:n]
        return np.empty((n, *self._shape()), np.uint8)

    def _shape(self) -> tuple[int, int, int]:
        return self.manifest.input.height, self.manifest.input.width, 3

    def close(self) -> None:
        """Free its memory; a pass that runs in another thread is finished first."""
        self.session = None

    def warm(self, max_batch: int = 0, rest: float = 0.0, brief: bool = False) -> None:
        """Run a batch of every size that will occur, so that no request pays for the first of its size.

        max_batch: images computed together; 0: as many as suit the device. rest: seconds of pause for each second of work, where
        another version serves meanwhile. brief: only the largest and the smallest, where every size is computed by one session:
        the first batch of another costs some milliseconds more.

        Raises:
            PackageError, DeviceError, OutOfMemory, DeviceLost: a size cannot be computed.
        """
        most = max_batch or self.way.batch
        self.sizes = doubled(most) if self.way.sized else sizes(most)
        work = self._open_sizes() if self.way.sized else self._run_empty
        order = self.sizes if self.way.sized else self.sizes[::-1]  # largest first: the others fit into its memory
        for size in (order[0], order[-1]) if brief and not self.way.sized else order:
            began = time.perf_counter()
            work(size)
            time.sleep(rest * (time.perf_counter() - began))
        self.seconds_per_image = self._time(self.sizes[-1] if self.way.sized else self.sizes[0])
        if isinstance(self.session, SizedSessions) and (plain := self.session.plain):
            self.skipped_backends.append(f"{self.way} with a CUDA graph, batches of {', '.join(map(str, plain))}")

    def _time(self, size: int) -> float:
        """Seconds that an image takes in a batch of so many; on cores, if others leave them to it, as once it answers."""
        clock, threads = (time.process_time, self.threads) if self.on_cores else (time.perf_counter, 1)
        began = clock()
        self._run_empty(size)
        return (clock() - began) / (size * threads)

    def _run_empty(self, size: int) -> None:
        self.run(np.zeros((size, *self._shape()), np.uint8), ("features", *self.manifest.answer_outputs))

    def _open_sizes(self) -> Callable[[int], object]:
        """What opens the session of a size, in the place of the one that was opened for all."""
        self.session = None  # its memory is needed
        path, data = self._graph(self.way)
        limits = self._limits(len(data))

        def open_one(size: int, graph: bool) -> Session:
            more = _limited(limits[size]) | (cuda_graph.OPTIONS if graph else {})
            session = open_session(path, data, self.way, self.threads, more)
            return GraphSession(session, (size, *self._shape()), self.manifest.outputs) if graph else session

        golden = self._golden()
        found = self.session = SizedSessions(self.sizes, self._shape(), open_one, lambda compute: golden.check(self.way, compute))

        def open_size(size: int) -> None:
            try:
                found.open(size)
            except Exception as err:  # ONNX Runtime's own classes share no base
                raise _explain(err, self.provider) from err

        log.info("each of %d batch sizes has a copy of the weights, %.0f MB", len(self.sizes), len(data) / MB)
        return open_size

    def _limits(self, graph: int) -> dict[int, int]:
        """Bytes of the GPU's memory for each size; graph: of the graph's file."""
        try:
            return memory.shares(self.gpu_memory, self.sizes, graph)
        except ValueError as err:
            raise DeviceError(f"HUBEL_GPU_MEMORY_MB is {self.gpu_memory / MB:.0f} but {err}") from err


def _limited(gpu_memory: int) -> dict[str, str]:
    """Options of the CUDA provider."""
    return {"gpu_mem_limit": str(gpu_memory)} if gpu_memory else {}


def _explain(error: Exception, provider: str) -> Exception:
    """What ONNX Runtime's error means for the service; errors that mean nothing special stay as they are."""
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in NO_MEMORY):
        where = "the GPU has" if provider == CUDA else "there is"
        return OutOfMemory(f"{where} no memory left for this batch; try again, or lower HUBEL_MAX_BATCH")
    if "CUDA failure" in text or "CUDA error" in text or "CUDNN failure" in text:
        return DeviceLost("the GPU failed; this process ends so that another can take its place")
    return error


def _check_preprocessing(manifest: Manifest) -> None:
    if (ours := fingerprint(manifest.input)) != manifest.preprocessing:
        raise PackageError(
            f"{manifest.id} was measured with other preprocessing ({manifest.preprocessing[:12]}…) than this version does "
            f"({ours[:12]}…); evaluate, export and publish it again with this version"
        )


def _check_graph(session: Any, manifest: Manifest) -> None:
    """The graph takes and gives what the manifest says; raises PackageError."""
    spec = manifest.input
    inputs = {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()}
    if inputs != {"images": ("tensor(uint8)", [spec.height, spec.width, 3])}:
        raise PackageError(f"the graph of {manifest.id} takes {inputs}, not images uint8 (batch, {spec.height}, {spec.width}, 3)")
    if isinstance(session.get_inputs()[0].shape[0], int):
        raise PackageError(f"the graph of {manifest.id} has a fixed batch size; export it with a free one")
    outputs = {o.name: (o.type, o.shape[1:]) for o in session.get_outputs()}
    if outputs != (promised := {name: ("tensor(float)", shape) for name, shape in manifest.outputs.items()}):
        raise PackageError(f"the graph of {manifest.id} gives {outputs}, its manifest promises {promised}")
