"""drift_reference.py: what an exported graph finds its held-out images to be like, as the service will see it."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import PackageError
from models.package import drift_reference as references
from models.package import manifest as manifests
from models.package.drift_reference import FILE
from models.package.manifest import MODEL
from models.registry import registry
from tests.factories import make_package, run_onnx
from tests.training.conftest import Journey
from tests.training.factories import make_folder
from training.__main__ import main
from training.data import dataset
from training.errors import DataError
from training.publishing import drift_reference


def test_a_package_holds_the_reference_of_its_test_images(journey: Journey) -> None:
    manifest = registry.verify(journey.package)
    found = references.read(registry.load(journey.package, manifest, FILE), 3, 240)
    images = dataset.load_test(journey.data, manifest.input, tuple(manifest.labels))
    assert images is not None
    outputs = run_onnx(journey.package / MODEL, images.pixels[:])
    assert found.classes.tolist() == np.bincount(outputs["logits"].argmax(1), minlength=3).tolist()
    assert found.confidence.sum() == found.brightness.sum() == len(images) == 18
    np.testing.assert_allclose(found.mean, outputs["features"].mean(0), atol=1e-4)
    assert references.counts(np.full(18, 16.0), found.size_edges).tolist() == found.size.tolist()  # all are 16 pixels wide

    coordinates = np.stack([references.project(found, row) for row in outputs["features"]])
    assert references.distance(found, coordinates) < 0.01


def test_a_package_without_a_reference_is_published_again_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    before = make_package(store)
    images = make_folder(tmp_path / "images", each=6)
    command = ["reference", "tiny", str(images), "--store", str(store)]
    assert main(command) == 0
    assert "tiny:2" in capsys.readouterr().out
    after = registry.verify(store / "tiny" / "2")
    assert set(after.files) == {*manifests.read(before).files, FILE}
    found = references.read(registry.load(store / "tiny" / "2", after, FILE), 3, 4)
    assert found.classes.sum() == 18
    with pytest.raises(PackageError, match="has a reference already"):
        drift_reference.publish(store / "tiny" / "2", images, store)


def test_images_of_other_classes_are_refused(tmp_path: Path) -> None:
    package = make_package(tmp_path / "store")
    with pytest.raises(DataError, match="violet"):
        drift_reference.publish(package, make_folder(tmp_path / "images", ("red", "violet"), each=2), tmp_path / "store")
    assert registry.versions(tmp_path / "store", "tiny") == [1]


def test_of_many_images_some_are_taken_evenly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(drift_reference, "MAX_IMAGES", 7)
    images = dataset.load_folder(make_folder(tmp_path / "images", each=6), manifests.read(make_package(tmp_path / "store")).input)
    chosen = drift_reference.some_of(images)
    assert len(chosen) == 6
    assert set(chosen.targets) == {0, 1, 2}
