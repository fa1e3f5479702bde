"""A folder of images -> an index for one version of a model. What did not change since the index before is taken over."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from models import files
from models.image.limits import Limits
from service.inference.classifier import Classifier
from service.similar import manifest as manifests
from service.similar.features import Prepared, Result, compute_all
from service.similar.index import Index
from service.similar.manifest import SCHEMA, IndexFault, IndexFile, IndexManifest
from service.similar.walk import Listing, Picture
from service.similar.writer import IndexWriter, clear


@dataclass
class Built:
    """What came of it. anew: why nothing of an index before was taken over; "" where there was none, or it was."""

    place: str
    images: int = 0
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    computed: int = 0
    others: int = 0
    anew: str = ""
    failed: dict[str, str] = field(default_factory=dict[str, str])


class Before:
    """The index before, as far as it can be taken over: the numbers of its images by name, and by the hash of their files."""

    def __init__(self, index: Index | None) -> None:
        self.index = index
        hashes = () if index is None else index.hashes
        self.digests = [digest.tobytes() for digest in hashes]
        self.numbers = {digest: i for i, digest in enumerate(self.digests)}
        self.names = {} if index is None else {index.name(i): i for i in range(len(self.digests))}

    def count(self, built: Built, name: str, digest: bytes) -> None:
        """Whether an image is another than before."""
        number = self.names.pop(name, None)
        if number is None:
            built.added += 1
        elif self.digests[number] == digest:
            built.unchanged += 1
        else:
            built.changed += 1

    def put(self, writer: IndexWriter, name: str, made: Prepared) -> bool:
        """Append an image to the next index; whether it was computed for it."""
        if made.vector is not None:
            writer.append(name, made.vector, made.digest, made.thumbnail)
            return True
        assert self.index is not None
        number = self.numbers[made.digest]
        writer.append(name, self.index.vectors[number], made.digest, self.index.thumbnails[number])
        return False


def build(
    listing: Listing, root: Path, classifier: Classifier, limits: Limits, threads: int, advance: Callable[[int], object]
) -> Built:
    """Make the index of a package below ``root``, by one rename; advance: told how many more images are done.

    Raises:
        IndexFault: no image can be used, the disk cannot be written to, or another process makes this index.
    """
    place = manifests.place_of(root, classifier.manifest)
    built = Built(str(place), others=listing.others, failed=dict(listing.failed))
    try:
        with _alone(place):
            clear(place)
            _write(listing, place, classifier, limits, threads, advance, built)
            clear(place)
    except OSError as err:
        raise IndexFault(f"{place} cannot be written to: {err.strerror or err}; what was there before stays") from err
    return built


def _write(
    listing: Listing,
    place: Path,
    classifier: Classifier,
    limits: Limits,
    threads: int,
    advance: Callable[[int], object],
    built: Built,
) -> None:
    package, session = classifier.manifest, classifier.session
    before = _before(place, classifier, built)
    writer = IndexWriter(place)
    try:
        parts = compute_all(
            listing.pictures,
            before.numbers,
            package.input,
            limits,
            lambda pixels: classifier.compute(pixels, "features"),
            session.sizes[-1],
            threads,
        )
        for part in parts:
            _append(part, before, writer, built)
            advance(len(part))
        built.images, built.removed = writer.images, len(before.names)
        if not built.images:
            raise IndexFault(f"none of {len(listing.pictures)} images can be used: {next(iter(built.failed.items()))}")
        writer.finish(lambda *what: _describe(classifier, *what), package.outputs["features"][0])
    except BaseException:
        writer.abandon()
        raise


def _append(part: list[tuple[Picture, Result]], before: Before, writer: IndexWriter, built: Built) -> None:
    for picture, made in part:
        if isinstance(made, str):
            built.failed[picture.name] = made
        else:
            before.count(built, picture.name, made.digest)
            built.computed += before.put(writer, picture.name, made)


def _before(place: Path, classifier: Classifier, built: Built) -> Before:
    session = classifier.session
    try:
        index = Index(place)
    except FileNotFoundError:
        return Before(None)
    except IndexFault as err:
        built.anew = str(err)
        return Before(None)
    manifest = index.manifest
    if not manifest.fits(classifier.manifest):
        built.anew = f"{manifest.id} is another package than the index before was made with"
    elif (manifest.provider, manifest.precision) != (session.provider, session.precision):
        built.anew = f"the index before was computed by {manifest.provider} in {manifest.precision}"
    return Before(None if built.anew else index)


def _describe(classifier: Classifier, images: int, leading: int, made: dict[str, IndexFile]) -> IndexManifest:
    package, session = classifier.manifest, classifier.session
    return msgspec.convert(
        {
            "schema": SCHEMA,
            "model": package.name,
            "version": package.version,
            "package": manifests.package_hash(package),
            "preprocessing": package.preprocessing,
            "provider": session.provider,
            "precision": session.precision,
            "created": datetime.now(UTC),
            "images": images,
            "dimensions": package.outputs["features"][0],
            "leading": leading,
            "files": msgspec.to_builtins(made),
        },
        IndexManifest,
    )


@contextmanager
def _alone(place: Path) -> Generator[None]:
    """The folder of an index, made where it lacks, while no other process changes it."""
    place.mkdir(parents=True, exist_ok=True)
    handle = os.open(place, os.O_RDONLY)
    try:
        if not files.lock(handle):
            raise IndexFault(f"another process is making the index in {place}; wait for it")
        yield
    finally:
        os.close(handle)
