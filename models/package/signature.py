"""A package's signature: STORE/NAME/VERSION.sig, beside the folder, which is never changed after it was published.

It is a Sigstore bundle over the manifest, made with an elliptic-curve key; the manifest holds the SHA-256 of every other file,
so it answers for the whole package. The library model-signing (extra signing) is needed only by those who sign and check.
"""

import stat
import tempfile
from pathlib import Path
from typing import Any

from models import files
from models.errors import PackageError
from models.terminal import program

FILE = "manifest.json"
ENDING = ".sig"


def path(folder: Path) -> Path:
    """Where the signature of the package in ``folder`` is."""
    return folder.with_name(folder.name + ENDING)


def sign(folder: Path, data: bytes, key: Path) -> None:
    """Sign the manifest ``data`` of the package in ``folder`` with a private key (PEM); a signature before is replaced.

    Raises:
        PackageError: the library or the key is missing, or the key is no elliptic-curve key without a password.
    """
    signing = _library("signing")
    _check_key(key)
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "sig"
        try:
            config = signing.Config().use_elliptic_key_signer(private_key=key)
            config.sign(_written(Path(place), data), made)
        except Exception as err:  # cryptography's and sigstore's classes share no base
            raise PackageError(f"{key} cannot sign: {_reason(err)}; make a key as docs/model-package.md says") from err
        files.write_atomic(path(folder), made.read_bytes(), prefix=".sign-")


def check(folder: Path, data: bytes, key: Path) -> None:
    """Check that the manifest ``data`` of the package in ``folder`` was signed by the owner of the public key (PEM).

    Raises:
        PackageError: it was not, or this cannot be told because the library, the key or the signature is missing.
    """
    verifying = _library("verifying")
    _check_key(key)
    model = f"{folder.parent.name}:{folder.name}"
    try:
        bundle = files.read(path(folder), files.MAX_TEXT_BYTES)
    except FileNotFoundError as err:
        sign = program.command("models", "sign", model, "--key", "PRIVATE", *program.store(folder.parents[1]))
        raise PackageError(f"{model} is not signed; there is no {path(folder)}: '{sign}' makes one") from err
    except OSError as err:
        raise PackageError(f"{path(folder)} cannot be read: {err.strerror}") from err
    with tempfile.TemporaryDirectory() as place:  # the bytes in hand are checked, not what the path leads to by now
        (Path(place) / "sig").write_bytes(bundle)
        try:
            config = verifying.Config().use_elliptic_key_verifier(public_key=key)
            config.verify(_written(Path(place), data), Path(place) / "sig")
        except Exception as err:  # cryptography's and sigstore's classes share no base
            reason = f"the signature of {model} does not fit its manifest and the key {key} ({_reason(err)})"
            raise PackageError(f"{reason}; sign it again or get {path(folder)} from who signed it") from err


def _written(folder: Path, data: bytes) -> Path:
    (folder / FILE).write_bytes(data)
    return folder / FILE


def _library(module: str) -> Any:
    try:
        if module == "signing":
            from model_signing import signing as library
        else:
            from model_signing import verifying as library
    except ImportError as err:
        raise PackageError(f"signatures need {err.name}, which is not installed: {program.extra('signing')}") from err
    return library


def _check_key(key: Path) -> None:
    try:
        if not stat.S_ISREG(key.stat().st_mode):  # a pipe would be waited for; a link may lead to a key
            raise PackageError(f"the key {key} is no file; give the PEM file of a key")
        with open(key, "rb"):
            pass
    except OSError as err:
        raise PackageError(f"the key {key} cannot be read: {err.strerror}") from err


def _reason(error: Exception) -> str:
    if str(error).startswith("Signature mismatch"):
        return "the manifest is not the one that was signed"
    return " ".join(str(error).split())[:200] or type(error).__name__
