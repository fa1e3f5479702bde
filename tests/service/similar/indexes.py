"""Folders of pictures, and indexes of them, for tests."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models.image.limits import LIMITS
from models.package.manifest import Manifest
from service.inference.classifier import Classifier
from service.similar import manifest as manifests
from service.similar.bounds import Floats
from service.similar.build import Built, build
from service.similar.index import Index
from service.similar.manifest import IndexManifest
from service.similar.walk import walk
from service.similar.writer import IndexWriter
from tests.factories import LABELS, make_image, make_manifest


def load(package: Path) -> Classifier:
    classifier = Classifier.load(package, "cpu")
    classifier.session.warm(4)
    return classifier


def make_photos(folder: Path, each: int = 3) -> Path:
    """Red, green and blue pictures, in a folder for each colour."""
    for color in LABELS:
        (folder / color).mkdir(parents=True)
        for i in range(each):
            (folder / color / f"{i}.png").write_bytes(make_image("PNG", 90, 60, seed=i, color=color))
    return folder


def build_index(folder: Path, root: Path, classifier: Classifier) -> Built:
    """The index of a folder of images, as hubel index makes it."""
    return build(walk(folder), root, classifier, LIMITS, 2, lambda images: None)


def make_vectors(n: int, dimensions: int, seed: int = 0) -> Floats:
    """Of length 1, in clusters, none negative, as features are."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(max(2, n // 100), dimensions))
    noise = random.normal(size=(n, dimensions)) * random.uniform(0.1, 1.0, (n, 1))
    vectors = np.maximum(middles[random.integers(0, len(middles), n)] + noise, 0.001)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def make_index(
    root: Path, vectors: Floats, package: Manifest | None = None, contents: list[bytes] | None = None, **changes: Any
) -> Index:
    """An index with these vectors, for the package; ``changes`` are fields of its manifest."""
    dimensions = vectors.shape[1]
    package = package or make_package_of(dimensions)
    place = manifests.place_of(root, package)
    place.mkdir(parents=True, exist_ok=True)
    writer = IndexWriter(place)
    for i, vector in enumerate(vectors):
        content = contents[i] if contents else str(i).encode()
        writer.append(f"some/{i}.jpg", vector, hashlib.sha256(content).digest(), f"thumbnail {i}".encode())

    def describe(images: int, leading: int, files: Any) -> IndexManifest:
        fields = {
            "schema": manifests.SCHEMA,
            "model": package.name,
            "version": package.version,
            "package": manifests.package_hash(package),
            "preprocessing": package.preprocessing,
            "provider": "CPUExecutionProvider",
            "precision": "fp32",
            "created": datetime(2026, 1, 2, tzinfo=UTC),
            "images": images,
            "dimensions": dimensions,
            "leading": leading,
            "files": msgspec.to_builtins(files),
        }
        return msgspec.convert(fields | changes, IndexManifest)

    writer.finish(describe, dimensions)
    return Index(place)


def make_package_of(dimensions: int, **changes: Any) -> Manifest:
    """The manifest of a package whose features have so many numbers."""
    return make_manifest(outputs={"logits": [3], "features": [dimensions], "feature_map": [dimensions, 8, 8]}, **changes)
