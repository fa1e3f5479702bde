"""What may stand in the place of a plain file."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest


def make_link(path: Path) -> None:
    (path.parent / "target").write_bytes(b"data")
    path.symlink_to(path.parent / "target")


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, endless
    except PermissionError:
        pytest.skip("only root may make devices")


SPECIAL: list[tuple[Callable[[Path], None], str]] = [
    (make_link, "a link"),
    (make_dangling_link, "a link"),
    (make_folder, "a folder"),
    (make_pipe, "a pipe"),
    (make_socket, "a socket"),
    (make_device, "a device"),
]
SPECIAL_IDS = [make.__name__.removeprefix("make_") for make, _ in SPECIAL]
