"""The file of API keys: HUBEL_API_KEYS_FILE -> its entries. It holds the hashes of keys, never a key."""

import hashlib
import ipaddress
import re
import secrets
import socket
import stat
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from models.terminal.program import command
from service.http.rate_limit import UNITS, RateLimit

NOTHING = hashlib.sha256(b"").hexdigest()  # what `sha256sum < /dev/null` writes
KEY_BYTES = 32
NAME = re.compile(r"[a-z0-9._-]{1,64}")
SHA256 = re.compile(r"[0-9a-f]{64}")
LIMIT = re.compile(r"\s*([0-9]{1,15})\s*(?:/|per)\s*([0-9]{1,6})?\s*([a-z]+?)s?\s*", re.IGNORECASE)


class KeysError(Exception):
    """A file of keys that cannot be used; ``str()`` names the file and the fault, and no key."""


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may use the service. ``sha256``: of the key as sent. ``limit``: as "50/second", none without one."""

    name: str
    sha256: str
    limit: str | None = None

    def __post_init__(self) -> None:  # what is wrong is not shown, it might be a key
        if not NAME.fullmatch(self.name):
            raise ValueError("a name is 1 to 64 of a to z, 0 to 9, dot, underscore and hyphen")
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"the sha256 of {self.name} is not 64 digits, 0 to 9 and a to f")
        if self.sha256 == NOTHING:
            raise ValueError(f"the sha256 of {self.name} is that of nothing; '{command('new-key', self.name)}' writes right ones")
        if self.limit is not None:
            parse_limit(self.limit)

    def digest(self) -> bytes:
        return bytes.fromhex(self.sha256)


class KeysFile(Struct, frozen=True, forbid_unknown_fields=True):
    keys: Annotated[list[Key], Meta(min_length=1)]

    def __post_init__(self) -> None:
        for i, key in enumerate(self.keys):
            for other in self.keys[:i]:
                if key.name == other.name:
                    raise ValueError(f"two keys have the name {key.name}")
                if key.sha256 == other.sha256:
                    raise ValueError(f"{other.name} and {key.name} have the same sha256")


def parse_limit(text: str) -> RateLimit:
    """One limit, as "50/second" or "1000 per 5 minutes"; raises ValueError for another text."""
    if found := LIMIT.fullmatch(text):
        limit = RateLimit(int(found[1]), int(found[2] or 1), found[3].lower())
        if limit.amount > 0 and limit.times > 0 and limit.unit in UNITS:
            return limit
    raise ValueError(
        f"limit is {text[:50]!r}, it must be one amount of at most 15 digits and its time, as in '50/second' or "
        "'1000 per 5 minutes'"
    )


def read(file: Path) -> list[Key]:
    """The entries of a file of keys. Raises KeysError."""
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise KeysError(f"{file} is no file; HUBEL_API_KEYS_FILE must name one")
        for bit, who in ((stat.S_IWOTH, "everyone on this machine"), (stat.S_IWGRP, "its group")):
            if mode & bit:
                raise KeysError(f"{file} can be written by {who}, who could let others in: chmod go-w {file}")
        return msgspec.toml.decode(file.read_bytes(), type=KeysFile).keys
    except OSError as err:
        raise KeysError(f"{file} cannot be read: {err.strerror}; HUBEL_API_KEYS_FILE names it") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise KeysError(f"{file} is not a file of keys: {err}") from err


def make(name: str, limit: str | None = None) -> tuple[str, str]:
    """A fresh key, and the block of TOML that lets it in. Raises ValueError for a name or limit that cannot be."""
    key = secrets.token_urlsafe(KEY_BYTES)
    entry = {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}
    entry |= {} if limit is None else {"limit": limit}
    msgspec.convert(entry, Key)
    return key, "\n[[keys]]\n" + "".join(f'{field} = "{value}"\n' for field, value in entry.items())


def require(file: str, anonymous: bool, host: str | None) -> None:
    """Refuse to serve everyone where other machines can ask. host: an address or a name; None: not known.

    Raises:
        KeysError.
        OSError: the name leads nowhere.
    """
    if file or anonymous or (host is not None and is_loopback(host)):
        return
    where, instead = f"HUBEL_HOST is {host}, which other machines can reach", "HUBEL_HOST=127.0.0.1"
    if host is None:
        where, instead = "it is not known where BentoML listens", f"serve with '{command('serve')}'"
    raise KeysError(
        f"{where}, and nobody needs a key: set HUBEL_API_KEYS_FILE ('{command('new-key', 'NAME')}' makes a key), or "
        f"HUBEL_ALLOW_ANONYMOUS=true to let everyone in, or {instead}"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it: each address of a name."""
    addresses = {address[0] for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses)
