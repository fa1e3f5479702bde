"""What held-out images are like to an exported graph -> reference.npz, which the service compares its traffic with."""

import math
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tqdm import tqdm

from models.errors import PackageError
from models.package import drift_reference as references
from models.package.drift_reference import FILE, Reference
from models.package.manifest import MODEL, Manifest
from models.package.probability import softmax
from models.registry import registry
from training import files
from training.data import dataset
from training.data.dataset import ImageSet
from training.data.sources.catalogue import open_source
from training.data.sources.source import Part
from training.errors import DataError

MAX_IMAGES, FEATURE_IMAGES = 5000, 2000  # that are looked at, evenly out of all; and of which features are compared
BATCH = 64


def measure(
    session: onnxruntime.InferenceSession, images: ImageSet, sizes: NDArray[np.floating], temperature: float = 1.0
) -> Reference:
    """The reference of a graph. sizes: (n or fewer,) shorter sides of the files of ``images``, in pixels. temperature: what is
    left to divide the graph's logits by."""
    parts: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    for begin in tqdm(range(0, len(images), BATCH), "reference", unit=" batches", leave=False):
        found = session.run(["logits", "features"], {"images": images.pixels[begin : begin + BATCH]})
        parts.append((np.asarray(found[0]), np.asarray(found[1])))
    logits, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return references.make(
        answers=logits.argmax(1),
        confidence=softmax(logits, temperature).max(1),
        classes=len(images.classes),
        features=features[:: math.ceil(len(features) / FEATURE_IMAGES)],
        brightness=np.array([references.brightness(picture) for picture in images.pixels]),
        sharpness=np.array([references.sharpness(picture) for picture in images.pixels]),
        size=sizes,
    )


def some_of(images: ImageSet) -> ImageSet:
    """At most MAX_IMAGES, evenly out of all."""
    return images.subset(np.arange(0, len(images), math.ceil(len(images) / MAX_IMAGES)))


def sizes_of(images: ImageSet, parts: list[Part]) -> NDArray[np.float64]:
    """The shorter side of the file of each image, in pixels; ``parts``: where they came from. One that is gone has none.

    Raises:
        DataError: all are gone.
    """
    items = {item.path: item for part in parts for item in part.items}
    sizes: list[float] = []
    for path in images.paths:
        with suppress(KeyError, OSError):
            sizes.append(references.size(items[path].read()))
    if not sizes:
        raise DataError(f"none of the {len(images)} images that were measured is there any more; bring the data back")
    return np.array(sizes, np.float64)


def write(run: Path, images: ImageSet, source: str | Path) -> None:
    """Write run/reference.npz of ``images``, the test images of ``source`` or those that were held out of it."""
    from training.publishing.export import open_session  # which calls this

    chosen = some_of(images)
    found = open_source(source)
    part = found.test or found.validation or found.train
    found = measure(open_session(run / MODEL), chosen, sizes_of(chosen, [part]))
    with files.whole(run / FILE) as (beside,):
        references.write(beside, found)


def publish(package: Path, source: str | Path, store: Path) -> Manifest:
    """Publish a package once more, as its next version, with the reference of the test images of ``source``, or of all its
    images where it has none.

    Raises:
        PackageError: the package does not verify, or has a reference.
        DataError: the images are not of its classes.
    """
    from training.publishing.export import open_session

    manifest = registry.verify(package)
    if FILE in manifest.files:
        raise PackageError(f"{manifest.id} has a reference already, and a version never changes; train and publish the next one")
    found = open_source(source)
    part = found.test or found.train
    images = some_of(dataset.decode(part, manifest.input, tuple(manifest.labels)))
    reference = measure(open_session(package / MODEL), images, sizes_of(images, [part]), manifest.temperature)
    with tempfile.TemporaryDirectory() as folder:
        for name in manifest.files:
            shutil.copyfile(package / name, Path(folder) / name)
        references.write(Path(folder) / FILE, reference)
        return registry.publish(store, Path(folder), manifest)
