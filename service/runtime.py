"""Stage infer: a package -> a warmed ONNX Runtime session; (n, height, width, 3) uint8 -> named arrays.

Nothing is served that is not what its manifest promises: files, preprocessing, graph and golden answers are checked
before the first request. Neighbours: batcher.py gathers the batches.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models import registry
from models.fingerprint import fingerprint
from models.manifest import GOLDEN, MODEL, OUTPUTS, Manifest, PackageError
from models.preprocess import Pixels

Arrays = dict[str, NDArray[np.float32]]

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
GOLDEN_TOLERANCE = 0.01  # of a logit, relative to the largest golden logit: TF32 on a GPU stays below, another graph does not
log = logging.getLogger("hubel")


class DeviceError(Exception):
    """The device asked for cannot be had; ``str()`` says what there is."""


class Runtime:
    """A package in memory, checked and warm. ``run`` is safe to call from one thread at a time.

    Raises:
        PackageError: the package is not what its manifest says, or was made with other preprocessing.
        DeviceError: ``device`` is "cuda" and there is no usable GPU.
    """

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        self.manifest = registry.verify(folder)
        _check_preprocessing(self.manifest)
        self.session = _open(folder / MODEL, device, threads)
        self.provider = self.session.get_providers()[0]
        _check_graph(self.session, self.manifest)
        self._replay(folder / GOLDEN)

    def run(self, images: Pixels, outputs: Sequence[str]) -> Arrays:
        """Compute the outputs named, and only those: images (n, height, width, 3) uint8 -> arrays of n rows, float32."""
        values = self.session.run(list(outputs), {"images": images})
        return {name: np.asarray(value) for name, value in zip(outputs, values, strict=True)}

    def warm(self, max_batch: int) -> None:
        """Run batches of 1, 2, 4 … ``max_batch``, so that no request pays for the first of its size."""
        spec, size = self.manifest.input, 1
        while True:
            self.run(np.zeros((size, spec.height, spec.width, 3), np.uint8), OUTPUTS[:2])
            if size == max_batch:
                return
            size = min(2 * size, max_batch)

    def _replay(self, path: Path) -> None:
        """Compare with the answers that the package was published with."""
        try:
            with np.load(path, allow_pickle=False) as golden:
                images, expected = golden["images"], golden["logits"]
            logits = self.run(images, ["logits"])["logits"]
            limit = GOLDEN_TOLERANCE * max(1.0, float(np.abs(expected).max()))
            difference = float(np.abs(logits - expected).max()) if logits.shape == expected.shape else float("inf")
        except Exception as err:  # NumPy's, zipfile's and ONNX Runtime's own classes share no base
            raise PackageError(f"{path} does not hold images for this graph and their logits; publish the package again") from err
        if not difference <= limit:  # NaN too
            raise PackageError(
                f"{self.manifest.id} answers its golden inputs differently on {self.provider}: a logit is off by "
                f"{difference:.3g}, the limit is {limit:.3g}; it is not served"
            )


def _check_preprocessing(manifest: Manifest) -> None:
    if (ours := fingerprint(manifest.input)) != manifest.preprocessing:
        raise PackageError(
            f"{manifest.id} was measured with other preprocessing ({manifest.preprocessing[:12]}…) than this version does "
            f"({ours[:12]}…); evaluate, export and publish it again with this version"
        )


def _open(path: Path, device: str, threads: int) -> onnxruntime.InferenceSession:
    """A session on the best provider there is, which for "cuda" must be the GPU: ONNX Runtime falls back silently."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoding needs the cores between batches
    options.log_severity_level = 3
    wanted = [CPU] if device == "cpu" else [CUDA, CPU]
    available = [name for name in wanted if name in onnxruntime.get_available_providers()]
    if CUDA in available:
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=available)
    except Exception as err:  # ONNX Runtime's own classes share no base
        raise PackageError(f"{path} cannot be opened by ONNX Runtime: {str(err).splitlines()[0]}") from err
    used = session.get_providers()[0]
    if device == "cuda" and used != CUDA:
        raise DeviceError(
            f"HUBEL_DEVICE is cuda but ONNX Runtime {onnxruntime.__version__} would run on {used}; install the extra serve-gpu "
            "on a machine with an NVIDIA driver, or set HUBEL_DEVICE to auto or cpu"
        )
    if device == "auto" and CUDA in available and used != CUDA:
        log.warning("no usable GPU, running on %s", used)
    return session


def _check_graph(session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
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
