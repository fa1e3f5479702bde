"""A signature tells who published a package: whatever was changed after it was signed, or signed by another, is refused."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from models.__main__ import main
from models.errors import PackageError
from models.lifecycle import candidate, gate, promotion
from models.lifecycle.candidate import Candidate
from models.lifecycle.gate import GateRequest
from models.package import manifest as manifests
from models.package import signature
from models.registry import archive, registry
from tests.models.conftest import MakeStore

Keys = tuple[Path, Path]  # private, public


def write_keys(folder: Path, key: Any, password: bytes | None = None) -> Keys:
    folder.mkdir()
    sealed = BestAvailableEncryption(password) if password else NoEncryption()
    (folder / "private.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
    (folder / "public.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return folder / "private.pem", folder / "public.pem"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return write_keys(tmp_path_factory.mktemp("keys") / "ours", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return write_keys(tmp_path_factory.mktemp("keys") / "others", ec.generate_private_key(ec.SECP256R1()))


def sign(folder: Path, key: Path) -> None:
    signature.sign(folder, manifests.read_bytes(folder), key)


@pytest.fixture
def signed(make_store: MakeStore, keys: Keys) -> Path:
    """Folder of tiny:1, signed; tiny:2 is not."""
    folder = make_store(tiny=2) / "tiny/1"
    sign(folder, keys[0])
    return folder


def refusal(folder: Path, key: Path) -> str:
    with pytest.raises(PackageError) as caught:
        registry.verify(folder, key)
    return str(caught.value)


def test_a_signed_package_verifies_with_the_public_key_and_without(signed: Path, keys: Keys) -> None:
    assert registry.verify(signed, keys[1]) == registry.verify(signed)


def test_the_signature_lies_beside_the_version_and_others_may_read_it(signed: Path) -> None:
    assert signature.path(signed) == signed.parent / "1.sig"
    assert (signed.parent / "1.sig").stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in signed.parent.iterdir()) == ["1", "1.sig", "2", "current.json"]
    assert registry.versions(signed.parents[1], "tiny") == [1, 2]


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1], ids=lambda curve: curve.name)
def test_each_curve_of_the_documentation_signs(
    make_store: MakeStore, tmp_path: Path, curve: Callable[[], ec.EllipticCurve]
) -> None:
    folder = make_store(tiny=1) / "tiny/1"
    private, public = write_keys(tmp_path / "keys", ec.generate_private_key(curve()))
    sign(folder, private)
    assert registry.verify(folder, public).id == "tiny:1"


def test_a_package_that_is_not_signed_is_refused(signed: Path, keys: Keys) -> None:
    assert "tiny:2 is not signed; there is no " in refusal(signed.parent / "2", keys[1])


def test_a_package_that_another_signed_is_refused(signed: Path, keys: Keys, other_keys: Keys) -> None:
    assert "the signature of tiny:1 does not fit its manifest and the key " in refusal(signed, other_keys[1])
    sign(signed, other_keys[0])
    assert registry.verify(signed, other_keys[1]).id == "tiny:1"
    assert "does not fit" in refusal(signed, keys[1])


def test_a_manifest_that_was_changed_after_it_was_signed_is_refused(signed: Path, keys: Keys) -> None:
    text = (signed / "manifest.json").read_text()
    (signed / "manifest.json").write_text(text.replace('"threshold": 0.5', '"threshold": 0.6'))
    assert "(the manifest is not the one that was signed)" in refusal(signed, keys[1])


def test_a_file_and_its_hash_changed_together_are_refused(signed: Path, keys: Keys) -> None:
    before = registry.sha256(signed / "card.md")
    (signed / "card.md").write_text("another card")
    text = (signed / "manifest.json").read_text()
    (signed / "manifest.json").write_text(text.replace(before, registry.sha256(signed / "card.md")))
    assert registry.verify(signed).id == "tiny:1"
    assert "(the manifest is not the one that was signed)" in refusal(signed, keys[1])


def test_the_signature_of_another_version_is_refused(signed: Path, keys: Keys) -> None:
    shutil.copy(signed.parent / "1.sig", signed.parent / "2.sig")
    assert "the signature of tiny:2 does not fit" in refusal(signed.parent / "2", keys[1])


def test_a_signed_version_in_the_place_of_another_is_refused(signed: Path, keys: Keys) -> None:
    shutil.rmtree(signed.parent / "2")
    shutil.copytree(signed, signed.parent / "2")
    shutil.copy(signed.parent / "1.sig", signed.parent / "2.sig")
    assert "2 holds a package that calls itself tiny:1" in refusal(signed.parent / "2", keys[1])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95], ids=str)
def test_a_changed_byte_of_the_signature_is_refused(signed: Path, keys: Keys, share: float) -> None:
    path = signature.path(signed)
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 1
    path.write_bytes(data)
    assert "the signature of tiny:1 does not fit its manifest and the key " in refusal(signed, keys[1])


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"verificationMaterial": {}}', b"[" * 100_000],
    ids=["empty", "object", "list", "null", "no text", "half", "deep"],
)  # fmt: skip
def test_a_signature_that_is_none_is_refused(signed: Path, keys: Keys, data: bytes) -> None:
    signature.path(signed).write_bytes(data)
    assert "the signature of tiny:1 does not fit its manifest and the key " in refusal(signed, keys[1])


def test_a_signature_of_a_gigabyte_or_behind_a_link_is_not_read(signed: Path, keys: Keys, tmp_path: Path) -> None:
    path = signature.path(signed)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "1.sig is not a plain file but a link" in refusal(signed, keys[1])
    path.unlink()
    with open(path, "wb") as file:
        file.truncate(2**30)
    assert "1.sig has 1,073,741,824 bytes" in refusal(signed, keys[1])


def test_signing_again_replaces_the_signature(signed: Path, keys: Keys, other_keys: Keys) -> None:
    sign(signed, other_keys[0])
    sign(signed, keys[0])
    assert registry.verify(signed, keys[1]).id == "tiny:1"


@pytest.mark.parametrize(
    ("key", "password"),
    [
        (rsa.generate_private_key(65537, 2048), None),
        (ed25519.Ed25519PrivateKey.generate(), None),
        (ec.generate_private_key(ec.SECP256K1()), None),
        (ec.generate_private_key(ec.SECP256R1()), b"secret"),
    ],
    ids=["RSA", "Ed25519", "another curve", "with a password"],
)
def test_a_key_that_cannot_sign_is_told_and_nothing_is_left(
    make_store: MakeStore, tmp_path: Path, key: Any, password: bytes | None
) -> None:
    folder = make_store(tiny=1) / "tiny/1"
    private, _ = write_keys(tmp_path / "keys", key, password)
    with pytest.raises(PackageError, match=r"private.pem cannot sign: .*; make a key as docs/model-package.md says"):
        sign(folder, private)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1", "current.json"]


def test_a_key_that_is_not_there_is_told(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"the key .*nothing.pem cannot be read: No such file or directory"):
        sign(signed, tmp_path / "nothing.pem")
    assert "nothing.pem cannot be read: No such file or directory" in refusal(signed, tmp_path / "nothing.pem")


def test_without_the_library_all_else_works_and_the_extra_is_named(
    signed: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: ModuleType | None = None
    for name in ("model_signing", "model_signing.signing", "model_signing.verifying"):
        monkeypatch.setitem(sys.modules, name, missing)
    assert registry.verify(signed).id == "tiny:1"
    assert "'make setup EXTRAS=signing' installs it" in refusal(signed, keys[1])
    with pytest.raises(PackageError, match="EXTRAS=signing"):
        sign(signed, keys[0])


def test_an_archive_is_unpacked_only_if_it_is_signed_where_a_key_is_given(
    signed: Path, keys: Keys, other_keys: Keys, tmp_path: Path
) -> None:
    archive.pack(signed, tmp_path / "signed.tar.gz")
    archive.pack(signed.parent / "2", tmp_path / "unsigned.tar.gz")
    with pytest.raises(PackageError, match="tiny:2 is not signed"):
        archive.unpack(tmp_path / "there", tmp_path / "unsigned.tar.gz", keys[1])
    with pytest.raises(PackageError, match="the signature of tiny:1 does not fit"):
        archive.unpack(tmp_path / "there", tmp_path / "signed.tar.gz", other_keys[1])
    assert not (tmp_path / "there").exists()
    archive.unpack(tmp_path / "there", tmp_path / "signed.tar.gz", keys[1])
    assert registry.verify(tmp_path / "there/tiny/1", keys[1]).id == "tiny:1"


def test_a_signature_that_is_none_is_told_by_its_file(signed: Path, keys: Keys) -> None:
    path = signature.path(signed)
    whole = path.read_bytes()
    wrong = [json.dumps(value) for value in (None, -1, 10**30, "", "x" * 9000, [], {}, "2026-01-01T00:00:00")]
    contents = [b"", b"\xff\xfe", b"\xef\xbb\xbf" + whole, whole[:-40], b"[" * 100_000, bytes(500), b"[]", b"null", b"1e400"]
    bundle = json.loads(whole)
    for field in bundle:
        contents += [json.dumps({key: value for key, value in bundle.items() if key != field}).encode()]
        contents += [json.dumps(bundle | {field: "RAW"}).replace('"RAW"', raw).encode() for raw in (*wrong, "NaN", "[" * 50_000)]
    for content in contents:
        path.write_bytes(content)
        said = refusal(signed, keys[1])
        assert str(path) in said
        assert "\n" not in said
        assert len(said) < 1000
    path.write_bytes(whole + b" " * 2**21)
    assert "at most 1,048,576 are read" in refusal(signed, keys[1])
    for make in (Path.mkdir, os.mkfifo, lambda target: target.symlink_to("1/manifest.json")):
        path.unlink() if not path.is_dir() else path.rmdir()
        make(path)
        assert f"{path} is not a plain file but " in refusal(signed, keys[1])


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_key_that_is_a_folder_or_pipe_is_not_waited_for(signed: Path, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "key")
    assert f"the key {tmp_path / 'key'} is no file; give the PEM file of a key" in refusal(signed, tmp_path / "key")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("trial", [None, Candidate(2, "shadow", 50)], ids=["at once", "as a candidate"])
def test_a_package_that_is_exchanged_once_the_gate_has_judged_it_is_not_promoted(
    signed: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, trial: Candidate | None
) -> None:
    store, write = signed.parents[1], gate.write
    sign(store / "tiny/2", keys[0])

    def exchange(*arguments: Any) -> None:
        write(*arguments)
        manifest = msgspec.structs.replace(manifests.read(store / "tiny/2"), architecture="another")
        manifests.write(store / "tiny/2", manifest)

    monkeypatch.setattr(gate, "write", exchange)
    with pytest.raises(PackageError, match="the signature of tiny:2 does not fit"):
        promotion.promote(store, "tiny", 2, GateRequest(key=keys[1]), "test", trial=trial)
    assert registry.resolve(store, "tiny") == signed
    assert candidate.read(store, "tiny") is None


def test_a_manifest_that_is_exchanged_while_it_is_checked_is_not_signed_or_sent(
    signed: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = registry.verify

    def exchange() -> None:
        found = manifests.read(signed)
        manifests.write(signed, msgspec.structs.replace(found, architecture=found.architecture + "."))

    def verified(*arguments: Any) -> Any:
        exchange()
        found = verify(*arguments)
        exchange()
        return found

    monkeypatch.setattr(registry, "verify", verified)
    before = signature.path(signed).read_bytes()
    where = ["--store", str(signed.parents[1])]
    assert main(["sign", "tiny:1", "--key", str(keys[0]), *where]) == 1
    assert main(["push", "tiny:1", "memory://exchanged", *where]) == 1
    assert capsys.readouterr().err.count("was exchanged while it was") == 2
    assert signature.path(signed).read_bytes() == before
