"""models/imagenet/package.py: the package that is made where it is wanted, and what is said where that cannot be."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from models.errors import PackageError
from models.imagenet import package
from models.package import drift_reference
from models.package import manifest as manifests
from models.package.precision import refusal
from models.registry import registry
from tests.factories import make_package


def has_weights() -> bool:
    try:
        return bool(distribution(package.PACKAGE))
    except PackageNotFoundError:
        return False


needs_weights = pytest.mark.skipif(not has_weights(), reason=f"{package.PACKAGE} is not installed")


@needs_weights
def test_it_is_made_whole_and_live_as_it_was_measured(tmp_path: Path) -> None:
    package.make(tmp_path)

    manifest = registry.verify(registry.resolve(tmp_path, package.NAME))
    draft = manifests.read(package.HERE)
    assert manifest.files == draft.files
    assert (manifest.labels, manifest.evaluation) == (draft.labels, draft.evaluation)
    assert [path.name for path in tmp_path.iterdir()] == [package.NAME]


def test_each_class_has_a_name_of_its_own_and_a_wordnet_id() -> None:
    labels = package.labels()
    assert [row.label for row in labels] == manifests.read(package.HERE).labels
    assert len({row.label.casefold() for row in labels}) == 1000
    assert [row.wordnet for row in labels] == sorted({row.wordnet for row in labels})  # the order of ImageNet's classes
    assert package.Label("n02099601", "golden retriever") in labels


def test_it_names_nearly_as_many_photographs_in_int8_as_in_fp32() -> None:
    manifest = manifests.read(package.HERE)
    right = {(a.provider, a.precision): round(a.top1 * manifest.evaluation.samples) for a in manifest.evaluation.providers}
    fp32 = min(count for (_, precision), count in right.items() if precision == "fp32")
    assert fp32 >= 110
    assert all(count >= fp32 - 3 for count in right.values())
    assert refusal(manifest, "int8") is None


def test_its_evaluation_says_that_it_is_no_accuracy() -> None:
    evaluation = manifests.read(package.HERE).evaluation
    assert "smoke test" in evaluation.split
    text = (package.HERE / "card.md").read_text()
    assert "Published by others" in text
    assert "Apache License 2.0" in text


def test_its_card_says_that_drift_cannot_be_told() -> None:
    assert drift_reference.FILE not in manifests.read(package.HERE).files
    assert "It has no reference to tell drift from" in (package.HERE / "card.md").read_text()


def test_without_the_weights_one_line_tells_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "LITE0", package.LITE0._replace(package="no-such-package"))
    with pytest.raises(PackageError, match=r"not installed: .*EXTRAS=imagenet.* HUBEL_MODEL=cifar10") as caught:
        package.store_of("imagenet", tmp_path)
    assert "\n" not in str(caught.value)
    assert package.store_of("cifar10", tmp_path) == tmp_path
    assert not list(tmp_path.iterdir())


@needs_weights
@pytest.mark.parametrize(("name", "message"), [("LITE0", "is damaged or another file"), ("SKELETONS", "came out otherwise")])
def test_other_bytes_than_were_measured_are_not_published(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = package.LITE0._replace(sha256="0" * 64) if name == "LITE0" else dict.fromkeys(package.SKELETONS, "model.skeleton")
    monkeypatch.setattr(package, name, wrong)
    with pytest.raises(PackageError, match=message):
        package.make(tmp_path)
    assert not list(tmp_path.iterdir())


@needs_weights
def test_a_store_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    store = tmp_path / "file"
    store.write_text("")
    with pytest.raises(PackageError, match=r"imagenet cannot be made in .*file: .*HUBEL_MODEL=cifar10"):
        package.make(store)


def test_what_a_store_has_of_that_name_is_served(tmp_path: Path) -> None:
    make_package(tmp_path, name="imagenet")
    assert package.store_of("imagenet:1", tmp_path) == tmp_path


def test_in_a_container_the_package_of_the_image_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "BUNDLED", tmp_path / "bundled")
    make_package(tmp_path / "bundled", name="imagenet")
    assert package.store_of("imagenet", tmp_path / "store") == tmp_path / "bundled"


@needs_weights
def test_where_another_process_was_first_its_package_stays(tmp_path: Path) -> None:
    make_package(tmp_path, name="imagenet")
    package.make(tmp_path)
    assert registry.versions(tmp_path, "imagenet") == [1]
    assert len(manifests.read(registry.resolve(tmp_path, "imagenet")).labels) == 3
