"""What a manifest must say to be read, and how a refusal names the fault."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.package import manifest as manifests
from models.package.manifest import Manifest, PackageError
from tests.factories import make_manifest

MISSING = object()


def document(path: str = "", value: object = MISSING) -> dict[str, Any]:
    """A valid manifest as plain data, with the value at a dotted path set, or taken out when no value is given."""
    whole: dict[str, Any] = msgspec.to_builtins(make_manifest())
    if not path:
        return whole
    *parents, last = path.split(".")
    place: Any = whole
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return whole


def read(folder: Path, content: dict[str, Any]) -> Manifest:
    (folder / manifests.FILE).write_text(json.dumps(content))
    return manifests.read(folder)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    manifest = make_manifest(labels=["Katze", "Hund", "Mäuse & Ratten"], provenance={"seed": 7, "libraries": {"onnx": "1"}})
    manifests.write(tmp_path, manifest)
    assert manifests.read(tmp_path) == manifest


def test_the_file_is_json_for_people(tmp_path: Path) -> None:
    manifests.write(tmp_path, make_manifest(name="flowers", version=12))
    text = (tmp_path / "manifest.json").read_text()
    assert '\n "name": "flowers",\n "version": 12,\n' in text
    assert text.endswith("}\n")
    assert json.loads(text) == document() | {"name": "flowers", "version": 12}


LATER = ("fitted_temperature", "calibration_error_before", "accuracy_kept", "calibration_bins", "calibration_floor")
LATEST = ("calibration_floor_high", "negative_log_likelihood", "brier")


@pytest.mark.parametrize("field", LATER + LATEST)
def test_a_manifest_from_before_a_field_was_there_is_read(field: str, tmp_path: Path) -> None:
    evaluation = read(tmp_path, document(f"evaluation.{field}")).evaluation
    assert getattr(evaluation, field) is None


@pytest.mark.parametrize("field", ["agreement", "lost", "gained", "golden"])
def test_a_provider_from_before_images_were_compared_is_read(field: str, tmp_path: Path) -> None:
    assert getattr(read(tmp_path, document(f"evaluation.providers.0.{field}")).evaluation.providers[0], field) is None


def test_the_id_is_name_and_version() -> None:
    assert make_manifest(name="flowers", version=12).id == "flowers:12"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "schema is 2, this version reads 1"),
        ("schema", "1", r"\$.schema"),
        ("colour", "red", "unknown field `colour`"),
        ("evaluation.colour", "red", r"unknown field `colour` - at `\$.evaluation`"),
        ("input.colour", "red", r"unknown field `colour` - at `\$.input`"),
        ("evaluation.providers.0.colour", "red", r"unknown field `colour` - at `\$.evaluation.providers\[0\]`"),
        ("architecture", MISSING, "missing required field `architecture`"),
        ("evaluation.top1", MISSING, r"missing required field `top1` - at `\$.evaluation`"),
        ("architecture", 18, r"Expected `str`, got `int` - at `\$.architecture`"),
        ("name", "Tiny", r"\$.name"),
        ("name", "../tiny", r"\$.name"),
        ("name", "a" * 65, r"\$.name"),
        ("version", 0, r"\$.version"),
        ("version", 1.5, r"\$.version"),
        ("created", "yesterday", r"\$.created"),
        ("labels", ["red"], r"\$.labels"),
        ("labels", ["red", "green", 3], r"\$.labels\[2\]"),
        ("labels", ["red", "green", "red"], "labels holds a label twice"),
        ("labels", ["red", "green"], r"outputs.logits is \[3\] for 2 labels"),
        ("outputs.logits", [4], r"outputs.logits is \[4\] for 3 labels"),
        ("outputs.logits", [3, 1], r"outputs.logits is \[3, 1\] for 3 labels"),
        ("outputs.features", [0], r"\$.outputs"),
        ("outputs.features", MISSING, "outputs must be logits, features, .* can be novelty; it has logits, feature_map"),
        ("outputs.novelty", [1], "outputs.novelty and novelty_threshold belong together; it has one of them"),
        ("novelty_threshold", 0.97, "outputs.novelty and novelty_threshold belong together; it has one of them"),
        ("outputs.attention", [4], "it has logits, features, feature_map, attention"),
        ("input.width", "32", r"\$.input.width"),
        ("input.width", 37, r"larger than the resized shorter side, 36.* at `\$.input`"),
        ("input.interpolation", "cubic", r"\$.input.interpolation"),
        ("preprocessing", "0" * 63, r"\$.preprocessing"),
        ("temperature", 0, r"\$.temperature"),
        ("threshold", 1.01, r"\$.threshold"),
        ("evaluation.top5", -0.1, r"\$.evaluation.top5"),
        ("evaluation.samples", 0, r"\$.evaluation.samples"),
        ("evaluation.per_class.red", 2, r"\$.evaluation.per_class"),
        ("evaluation.dataset_sha256", "F" * 64, r"\$.evaluation.dataset_sha256"),
        ("evaluation.parity_max_difference", -1, r"\$.evaluation.parity_max_difference"),
        ("evaluation.providers", [], r"\$.evaluation.providers"),
        ("evaluation.providers.0.top1", "all", r"\$.evaluation.providers\[0\].top1"),
        ("provenance", [], r"\$.provenance"),
        ("files", {"model.onnx": "0" * 64}, "files lacks card.md, golden.npz"),
        ("files", {}, "files lacks card.md, golden.npz, model.onnx"),
        ("files.report", "unknown", r"\$.files"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_is_refused_by_name(tmp_path: Path, path: str, value: object, message: str) -> None:
    with pytest.raises(PackageError, match=message) as raised:
        read(tmp_path, document(path, value))
    assert str(raised.value).startswith(f"{tmp_path / 'manifest.json'} is not a manifest that can be served: ")


@pytest.mark.parametrize("name", ["../model.onnx", "data/weights", ".hidden", "", "/etc/passwd", "a b"])
def test_a_file_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    content = document()
    content["files"][name] = "0" * 64
    with pytest.raises(PackageError, match=r"\$.files"):
        read(tmp_path, content)


@pytest.mark.parametrize("name", ["report.json", "confusion_matrix.svg", "LICENSE", "2024-results.txt"])
def test_further_files_may_be_listed(tmp_path: Path, name: str) -> None:
    content = document()
    content["files"][name] = "a" * 64
    assert read(tmp_path, content).files[name] == "a" * 64


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b'{"name": "\xff"}', id="wrong UTF-8"),
        pytest.param(b'{"\xff": 1}', id="wrong UTF-8 in a name"),
        pytest.param(b'{"provenance": {"a": ' + b"[" * 100_000, id="too deep"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / manifests.FILE).write_bytes(content)
    with pytest.raises(PackageError, match=r"manifest.json is not a manifest that can be served"):
        manifests.read(tmp_path)


def test_a_manifest_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=f"{tmp_path} holds no readable manifest.json: No such file"):
        manifests.read(tmp_path)


def test_a_folder_in_the_place_of_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / manifests.FILE).mkdir()
    with pytest.raises(PackageError, match=r"manifest.json is not a plain file but a folder"):
        manifests.read(tmp_path)


def test_a_manifest_longer_than_any_sensible_one_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / manifests.FILE, "wb") as file:
        file.truncate(2**30)
    with pytest.raises(PackageError, match=r"manifest.json has 1,073,741,824 bytes, at most 16,777,216 are read"):
        manifests.read(tmp_path)


LETTERS = "abcdefghijklmnopqrstuvwxyz" * 20
QUOTE = '"'


def many(classes: int, letters: int, letter: str = "") -> list[str]:
    return [f"{i:06d}{letter * (letters - 6) if letter else LETTERS[: letters - 6]}" for i in range(classes)]


@pytest.mark.parametrize(
    ("classes", "letters", "letter"),
    [(6_000, 255, ""), (20_000, 200, ""), (20_000, 255, ""), (20_000, 90, "猫"), (100_000, 50, "")],
)
def test_a_manifest_of_many_classes_is_written_and_read(classes: int, letters: int, letter: str, tmp_path: Path) -> None:
    labels = many(classes, letters, letter)
    manifests.check_labels(labels)
    manifest = make_manifest(labels=labels)
    manifests.write(tmp_path, manifest)
    assert (tmp_path / manifests.FILE).stat().st_size > 2**20
    assert manifests.read(tmp_path).labels == labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (many(20_000, 400), "the names of 20,000 classes take 16,880,000 bytes of a manifest, at most 15,728,640 can be served"),
        (many(100_001, 6), "there are 100,001 classes, at most 100,000 can be served"),
        (["cat", "d" * 2001], "a class has a name of 2,001 letters"),
        ([f"{i:05d}{QUOTE * 20}" for i in range(20_000)], "are full of quotes"),
    ],
    ids=["long", "many", "one", "quotes"],
)
def test_classes_that_no_manifest_can_hold_are_told_before_there_is_one(labels: list[str], message: str) -> None:
    with pytest.raises(PackageError, match=message):
        manifests.check_labels(labels)


def test_a_manifest_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"no version could read its manifest: it has [0-9,]+ bytes, at most 16,777,216"):
        manifests.write(tmp_path, make_manifest(labels=many(20_000, 450)))
    with pytest.raises(PackageError, match="besides the names of its classes, at most 1,048,576"):
        manifests.write(tmp_path, make_manifest(provenance={"data": ["x" * 100] * 20_000}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document("provenance", {"x": [[]] * 1_000_000}), "bytes besides the names of its classes"),
        (document("evaluation.per_class", {"x" * i: 0.5 for i in range(2, 4000)}) | {"labels": ["x"] * 600_000}, "quotes"),
        (document("labels", ["x" * 17_000_000]), "at most 16,777,216 are read"),
    ],
    ids=["provenance", "strings", "bytes"],
)
def test_a_large_manifest_that_is_no_list_of_classes_is_refused_before_it_is_read(
    content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(PackageError, match=message):
        read(tmp_path, content)
