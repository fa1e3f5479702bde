"""models/lifecycle/rename.py: a class by another name in everything that names it, and nothing else changed."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.errors import PackageError
from models.lifecycle import rename
from models.package import held_out_answers, signature
from models.package import manifest as manifests
from models.registry import registry
from tests.factories import make_files, make_manifest

CARD = """# pets

| | |
| --- | --- |
| top-1 | 90.00 % |

| class | images | right (recall) | precision | F1 |
| --- | --- | --- | --- | --- |
| red | 10 | 90.0 % | 90.0 % | 90.0 % |
| green | 10 | 90.0 % | 90.0 % | 90.0 % |
| blue | 10 | 90.0 % | 90.0 % | 90.0 % |

## Limits

It knows these classes alone and gives every image one of them: red, green, blue.
"""
SIDECAR = {"classes": ["red", "green", "blue"], "mean": [0.1], "recipe": {"architecture": "tiny"}, "data": {"folder": "red"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package that holds all that a package may hold."""
    files = tmp_path / "files"
    files.mkdir()
    draft = make_manifest(name="pets")
    make_files(files, draft)
    (files / manifests.CARD).write_text(CARD)
    (files / manifests.REPORT).write_text("<html><body class='a'><h1>red & green</h1></body></html>")
    (files / "checkpoint.json").write_text(json.dumps(SIDECAR))
    (files / "weights-0001.pt").write_bytes(b"weights")
    given = np.arange(3)
    held_out_answers.write(
        files / manifests.ANSWERS, held_out_answers.of_logits(given.astype(np.uint64), given, np.eye(3, dtype=np.float32))
    )
    store = tmp_path / "store"
    return store / "pets" / str(registry.publish(store, files, draft).version)


def renamed(folder: Path, old: str, new: str) -> Path:
    return folder.with_name(str(rename.rename(folder.parents[1], folder, old, new, "why").version))


def test_everything_that_names_the_class_names_it_anew(folder: Path) -> None:
    new = renamed(folder, "red", "crimson & rose")

    manifest = registry.verify(new)
    assert manifest.labels == ["crimson & rose", "green", "blue"]
    assert manifest.evaluation.per_class == {"crimson & rose": 0.9, "green": 0.9, "blue": 0.9}
    card = (new / manifests.CARD).read_text()
    assert "\n| crimson & rose | 10 | 90.0 % |" in card
    assert "one of them: crimson & rose, green, blue." in card
    assert card.startswith("# pets\n\nThe class red of pets:1 is called crimson & rose in this version.\n")
    assert "\n| red |" not in card
    page = (new / manifests.REPORT).read_text()
    assert "<body class='a'>\n<p><strong>The class red of pets:1 is called crimson &amp; rose in this version." in page
    assert json.loads((new / "checkpoint.json").read_text()) == SIDECAR | {"classes": ["crimson & rose", "green", "blue"]}


def test_what_counts_classes_by_number_stays_as_it_was(folder: Path) -> None:
    new = renamed(folder, "red", "crimson")

    for name in (manifests.MODEL, manifests.GOLDEN, manifests.ANSWERS, "weights-0001.pt"):
        assert (new / name).read_bytes() == (folder / name).read_bytes()
    before, after = manifests.read(folder), manifests.read(new)
    assert (after.threshold, after.temperature, after.evaluation.top1) == (before.threshold, before.temperature, 0.9)


def test_the_next_version_says_what_it_was_made_of_and_by_whom(folder: Path) -> None:
    second = renamed(folder, "red", "crimson")
    third = renamed(second, "blue", "azure")

    first_entry, entry = manifests.read(third).provenance["renamed"]
    assert (first_entry["from"], first_entry["old"], first_entry["new"]) == ("pets:1", "red", "crimson")
    assert (entry["from"], entry["old"], entry["new"], entry["reason"]) == ("pets:2", "blue", "azure", "why")
    assert "@" in entry["by"]
    assert manifests.read(third).provenance.items() >= manifests.read(folder).provenance.items()


def test_a_signature_is_not_taken_along_and_the_version_waits(folder: Path) -> None:
    signature.path(folder).write_text("of the first")

    new = renamed(folder, "red", "crimson")

    assert not signature.path(new).exists()
    now = registry.pointer(folder.parents[1], "pets")
    assert now is not None
    assert now.version == 1


def test_a_damaged_package_is_not_published_anew_under_another_name(folder: Path) -> None:
    (folder / manifests.CARD).write_text("another")

    with pytest.raises(PackageError, match=r"card.md was changed"):
        renamed(folder, "red", "crimson")
    assert registry.versions(folder.parents[1], "pets") == [1]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"classes": 5}', "[]", "\N{SNOWMAN}", '{"a": 1}'])
def test_a_description_that_is_none_is_told(folder: Path, text: str) -> None:
    (folder / "checkpoint.json").write_text(text)
    files = manifests.read(folder).files | {"checkpoint.json": registry.sha256(folder / "checkpoint.json")}
    manifests.write(folder, msgspec.structs.replace(manifests.read(folder), files=files))

    with pytest.raises(PackageError, match=r"checkpoint.json of the package cannot be changed"):
        renamed(folder, "red", "crimson")
    assert registry.versions(folder.parents[1], "pets") == [1]


def test_a_file_that_is_exchanged_once_it_was_verified_is_not_published_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = registry.verify

    def verified(path: Path) -> manifests.Manifest:
        found = verify(path)
        (folder / "weights-0001.pt").write_bytes(b"others")
        return found

    monkeypatch.setattr(registry, "verify", verified)
    with pytest.raises(PackageError, match=r"weights-0001.pt was changed"):
        renamed(folder, "red", "crimson")
    assert registry.versions(folder.parents[1], "pets") == [1]
