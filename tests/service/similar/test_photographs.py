"""With the bundled model every photograph is found by its mirrored, cropped and recompressed copy, before all others.

HUBEL_TEST_PHOTOS is a folder of photographs (data/photos), of which no two are the same.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from models.errors import PackageError
from models.image.preprocess import decode, upright
from models.imagenet import package
from models.registry import registry
from service.inference.classifier import Classifier
from service.similar.index import Index
from tests.factories import encode
from tests.server import ROOT
from tests.service.similar.indexes import build_index, load

PHOTOS = Path(os.environ.get("HUBEL_TEST_PHOTOS", ROOT / "data/photos"))
COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "mirrored": lambda image: encode(ImageOps.mirror(image), "JPEG", quality=95),
    "cropped": lambda image: encode(ImageOps.crop(image, min(image.size) // 10), "JPEG", quality=95),
    "recompressed": lambda image: encode(image, "JPEG", quality=30),
}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    try:
        return load(registry.resolve(package.store_of(package.NAME, registry.STORE), package.NAME))
    except PackageError as err:
        pytest.skip(f"there is no model {package.NAME}: {err}")


@pytest.fixture(scope="module")
def index(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(Path(build_index(PHOTOS, tmp_path_factory.mktemp("photographs"), classifier).place))


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="HUBEL_TEST_PHOTOS names no folder of photographs, and there is no data/photos")
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_finds_its_photograph_first(classifier: Classifier, index: Index, kind: str) -> None:
    missed: list[str] = []
    for number in range(index.manifest.images):
        stored = decode((PHOTOS / index.name(number)).read_bytes())
        copy = COPIES[kind](upright(stored.image, stored.orientation))
        (found,), _ = index.nearest(classifier.features([copy])[0], 1)
        if found != number:
            missed.append(f"{index.name(number)} finds {index.name(int(found))}")
    assert index.manifest.images >= 100
    assert missed == []
