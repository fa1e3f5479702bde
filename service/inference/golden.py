"""The answers that a package was published with, replayed before it serves."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.image.preprocess import Pixels
from models.package import npz
from models.package.manifest import Manifest, PackageError
from models.package.precision import Backend
from service.errors import OutOfMemory
from service.inference.backends.choice import DeviceError, DeviceLost

GOLDEN_BYTES = 2**28  # unpacked; 4 images of 4096x4096 pixels have 192 MiB


@dataclass(frozen=True)
class Golden:
    """path, data: the package's file; manifest: of the package."""

    path: Path
    data: bytes
    manifest: Manifest

    def check(self, way: Backend, compute: Callable[[Pixels], NDArray[np.float32]]) -> None:
        """Compare the logits that ``compute`` gives.

        Raises:
            PackageError: they differ, or the file does not fit the graph.
            DeviceError: the device failed or has no memory left.
        """
        try:
            golden = npz.unpack(self.data, ("images", "logits"), GOLDEN_BYTES)
            images, expected = golden["images"], golden["logits"]
            logits = compute(images)
            limit = (way.tolerance + self._measured(way)) * max(1.0, float(np.abs(expected).max()))
            difference = float(np.abs(logits - expected).max()) if logits.shape == expected.shape else float("inf")
        except (OutOfMemory, DeviceLost) as err:
            what = "which has no memory left" if isinstance(err, OutOfMemory) else "which failed"
            raise DeviceError(f"{self.manifest.id} cannot answer its golden inputs on {way.provider}, {what}") from err
        except Exception as err:  # NumPy's, zipfile's and ONNX Runtime's own classes share no base
            raise PackageError(
                f"{self.path} does not hold images for this graph and their logits; publish the package again"
            ) from err
        if not np.isfinite(logits).all():
            raise PackageError(
                f"{self.manifest.id} gives values that are no numbers (NaN or infinite) for its golden inputs on "
                f"{way.provider}; it is not served"
            )
        if not difference <= limit:  # NaN too
            raise PackageError(
                f"{self.manifest.id} answers its golden inputs differently on {way.provider}: a logit is off by "
                f"{difference:.3g}, the limit is {limit:.3g}; it is not served"
            )

    def _measured(self, way: Backend) -> float:
        """By how much this way differed where the package was made, with an accuracy that was found good enough."""
        figures = (a for a in self.manifest.evaluation.providers if (a.provider, a.precision) == (way.provider, way.precision))
        return next((figure.golden or 0.0 for figure in figures), 0.0)
