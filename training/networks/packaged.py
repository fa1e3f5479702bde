"""A file of weights that comes within an installed package: pip and uv bring it, and uv.lock pins it."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from training.errors import CheckpointError
from training.networks import download


class Packaged(NamedTuple):
    """package: as a package index calls it. path: of the file, below the folder that packages are installed in. sha256: of its
    bytes."""

    package: str
    path: str
    sha256: str

    def find(self) -> Path:
        """The file, verified.

        Raises:
            CheckpointError: the package is not installed, or its file is damaged.
        """
        try:
            path = Path(str(distribution(self.package).locate_file(self.path)))
            digest = download.sha256(path)
        except (PackageNotFoundError, OSError) as err:
            raise CheckpointError(
                f"the Python package {self.package}, which holds the weights, is not installed or lacks its file: 'make setup' "
                "installs it"
            ) from err
        if digest != self.sha256:
            raise CheckpointError(
                f"{path} is damaged or another file: its SHA-256 begins with {digest[:8]}, not {self.sha256[:8]}; remove .venv, "
                "then 'make setup' installs it again"
            )
        return path
