"""A store as version 0.1 first wrote it, whose manifests and pointers lack what came later, is read as it is."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from models.__main__ import main
from models.errors import PackageError
from models.image.fingerprint import fingerprint
from models.image.spec import InputSpec
from models.package import manifest as manifests
from models.registry import registry
from tests.factories import make_package

FIXTURE = Path(__file__).parent / "manifest-0.1.json"
POINTER = '{"version":1,"promoted":"2026-01-02T03:04:05.673068Z","reason":"first version","before":[]}\n'


def make_older(store: Path) -> Path:
    """tiny:1, live, described by the fixture; its files are what a package of today has of those of then."""
    folder = make_package(store, name="tiny")
    written = json.loads(FIXTURE.read_text())
    for path in folder.iterdir():
        if path.name in (manifests.MODEL, manifests.GOLDEN, manifests.CARD):
            written["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            path.unlink()
    written["preprocessing"] = fingerprint(msgspec.convert(written["input"], InputSpec))
    (folder / manifests.FILE).write_text(json.dumps(written))
    (store / "tiny/current.json").write_text(POINTER)
    return folder


def test_a_package_and_a_pointer_of_then_are_read_and_verified(tmp_path: Path) -> None:
    folder = make_older(tmp_path)
    manifest = registry.verify(folder)
    assert (manifest.id, manifest.novelty_threshold, manifest.evaluation.recall_at_1) == ("tiny:1", None, None)
    assert registry.resolve(tmp_path, "tiny") == folder
    assert main(["show", "tiny:1", "--store", str(tmp_path)]) == 0


def test_a_version_of_today_takes_its_place_and_gives_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_older(tmp_path)
    newer = make_package(tmp_path, name="tiny")
    options = ["--store", str(tmp_path)]
    assert main(["promote", "tiny:2", *options]) == 0, capsys.readouterr()
    assert registry.resolve(tmp_path, "tiny") == newer
    assert main(["rollback", "tiny", *options]) == 0
    assert registry.resolve(tmp_path, "tiny").name == "1"


def test_a_manifest_of_a_later_kind_is_refused_with_both_numbers(tmp_path: Path) -> None:
    folder = make_older(tmp_path)
    later = json.loads((folder / manifests.FILE).read_text()) | {"schema": 2}
    (folder / manifests.FILE).write_text(json.dumps(later))
    with pytest.raises(PackageError, match="schema is 2, this version reads 1"):
        manifests.read(folder)
