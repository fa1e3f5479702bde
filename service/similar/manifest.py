"""What an index of similar images says of itself: read, check, write. docs/similar.md describes its files.

DIR/NAME/VERSION/manifest.json names the files beside it. They have a name of their own in each index, so whoever reads the
manifest, which one rename replaces, reads files that belong together.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from models import files
from models.errors import PackageError
from models.package import manifest as packages
from models.package.manifest import Dimension, Line, Manifest, Name, Natural, Sha256, Time, Version, check_times

SCHEMA = 1
FILE = "manifest.json"
MOST_IMAGES = 10**8  # as many as a number of nine digits can count
STAMP = 12  # hexadecimal digits of the SHA-256 of a manifest, by which its thumbnails are asked for
ALWAYS = ("vectors", "names", "hashes", "thumbnails")
BOUNDED = ("bounds", "basis")  # of large indexes


class IndexFault(Exception):
    """An index that cannot be used, written or found; ``str()`` says which, why, and the way out."""


class IndexFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file beside the manifest."""

    name: Annotated[str, Meta(pattern=r"\A[a-z]{1,20}-[0-9a-f]{12}\.bin\Z")]
    bytes: Natural
    sha256: Sha256


class IndexManifest(Struct, frozen=True, forbid_unknown_fields=True):
    """Of an index that belongs to one version of one model.

    package: ``package_hash`` of that version. preprocessing, provider, precision: what computed the vectors. images: rows of
    them. dimensions: columns. leading: columns of the bounds, 0 where there are none. files: by what they hold.
    """

    schema: int
    model: Name
    version: Version
    package: Sha256
    preprocessing: Sha256
    provider: Line
    precision: Line
    created: Time
    images: Annotated[int, Meta(ge=1, le=MOST_IMAGES)]
    dimensions: Dimension
    leading: Natural
    files: dict[str, IndexFile]

    def __post_init__(self) -> None:
        check_times(created=self.created)
        if self.schema != SCHEMA:
            raise ValueError(f"schema is {self.schema}, this version reads {SCHEMA}")
        wanted = {*ALWAYS, *(BOUNDED if self.leading else ())}
        if set(self.files) != wanted:
            raise ValueError(f"files must be {', '.join(sorted(wanted))}; it has {', '.join(sorted(self.files))}")
        for kind, size in self.sizes().items():
            if self.files[kind].bytes != size:
                raise ValueError(f"files.{kind}.bytes is {self.files[kind].bytes}, {self.images} images have {size}")

    def sizes(self) -> dict[str, int]:
        """Bytes of the files whose size the counts give."""
        found = {"vectors": 4 * self.images * self.dimensions, "hashes": 32 * self.images}
        if self.leading:
            found |= {"bounds": 4 * self.images * self.leading, "basis": 8 * (self.leading - 1) * self.dimensions}
        return found

    @property
    def id(self) -> str:
        return f"{self.model}:{self.version}"

    def fits(self, package: Manifest) -> bool:
        """Whether its vectors are those of a package."""
        return (self.model, self.version, self.package, self.preprocessing, self.dimensions) == (
            *(package.name, package.version, package_hash(package), package.preprocessing),
            package.outputs["features"][0],
        )


def package_hash(package: Manifest) -> str:
    """SHA-256 over the names and hashes of a package's files."""
    return hashlib.sha256(msgspec.json.encode(sorted(package.files.items()))).hexdigest()


def place_of(root: Path, package: Manifest) -> Path:
    """The folder of the index of a version, below the folder of all indexes."""
    return root / package.name / str(package.version)


def read(place: Path) -> tuple[IndexManifest, str]:
    """The manifest of the index in a folder, and its stamp.

    Raises:
        FileNotFoundError: there is none.
        IndexFault: it cannot be read or is none.
    """
    path = place / FILE
    try:
        data = files.read(path, files.MAX_TEXT_BYTES)
        return msgspec.json.decode(data, type=IndexManifest), hashlib.sha256(data).hexdigest()[:STAMP]
    except FileNotFoundError:
        raise
    except (PackageError, OSError, *packages.UNREADABLE) as err:
        reason = getattr(err, "strerror", None) or err
        raise IndexFault(f"{path} is not the manifest of an index: {reason}") from err


def write(place: Path, manifest: IndexManifest) -> None:
    """Replace the manifest in a folder by one rename; raises OSError."""
    files.write_atomic(place / FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
