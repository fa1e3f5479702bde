"""service/rollout/packages.py: by which manifest a package is read after the start."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from models.errors import PackageError
from models.package import drift_reference, signature
from models.package import manifest as manifests
from models.registry import registry
from service.rollout.loaded import LoadedModels
from service.rollout.packages import KNOWN, Packages
from tests.factories import make_files, make_manifest
from tests.models.conftest import MakeStore as MakeStore
from tests.models.conftest import make_store as make_store
from tests.models.conftest import shelf as shelf


class Reader(Packages):
    """``held``: versions that a worker holds."""

    def __init__(self, store: Path, *held: int, key: Path | None = None) -> None:
        held_ones = {v: SimpleNamespace(manifest=manifests.read(store / f"tiny/{v}")) for v in held}
        super().__init__(store, "tiny", key, cast(LoadedModels, SimpleNamespace(held=held_ones)))


def write_reference(folder: Path, brightness: float) -> None:
    """The reference of a package, and a manifest that fits it, as one writes who can write to the store."""
    random = np.random.default_rng(4)
    features, grey = random.normal(size=(40, 4)).astype(np.float32), np.full(40, brightness)
    made = drift_reference.make(random.integers(0, 3, 40), random.uniform(0.4, 1, 40), 3, features, grey, grey, grey)
    drift_reference.write(folder / drift_reference.FILE, made)
    manifest = manifests.read(folder)
    files = manifest.files | {drift_reference.FILE: registry.sha256(folder / drift_reference.FILE)}
    manifests.write(folder, msgspec.structs.replace(manifest, labels=["a", "b", f"{brightness:g}"], files=files))


def brightness(reader: Reader) -> float:
    reference = reader.reference(2)
    assert reference is not None
    return float(reference.brightness_edges[0])


def test_what_is_read_after_the_start_is_read_by_the_manifest_that_was_checked(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    write_reference(store / "tiny/2", 100)
    assert brightness(Reader(store, 2)) == 100
    reader = Reader(store, 2)
    write_reference(store / "tiny/2", 7)
    with pytest.raises(PackageError, match=r"reference\.npz was changed: its SHA-256 is"):
        reader.reference(2)
    assert reader.labels(2) == ["a", "b", "100"]
    reader.loaded.held.clear()  # another version has taken its place
    assert reader.labels(2) == ["a", "b", "100"]


def test_of_a_version_that_is_not_held_what_is_read_is_signed(make_store: MakeStore, tmp_path: Path) -> None:
    store, key = make_store(tiny=2), ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    write_reference(store / "tiny/2", 100)
    signature.sign(store / "tiny/2", manifests.read_bytes(store / "tiny/2"), private)
    assert brightness(Reader(store, 1, key=public)) == 100
    write_reference(store / "tiny/2", 7)
    for read in (Reader(store, 1, key=public).reference, Reader(store, 1, key=public).labels):
        with pytest.raises(PackageError, match="the signature of tiny:2 does not fit"):
            read(2)
    (store / "tiny/2").rename(tmp_path / "away")
    (store / "tiny/2").symlink_to(tmp_path / "away")
    with pytest.raises(PackageError, match="is a link; a store holds folders and plain files alone"):
        Reader(store, 1, key=public).labels(2)


def test_few_manifests_are_remembered(tmp_path: Path) -> None:
    files, store = tmp_path / "files", tmp_path / "store"
    files.mkdir()
    draft = make_manifest()
    make_files(files, draft)
    for _ in range(KNOWN + 3):
        registry.publish(store, files, draft)
    reader = Reader(store, 1)
    for version in range(1, KNOWN + 4):
        assert reader.labels(version) == list(draft.labels)
    assert len(reader.known) == KNOWN
