"""Pictures -> feature vectors of length 1, hashes and thumbnails: decoded in threads while the graph computes."""

import hashlib
from collections.abc import Callable, Container, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import ImageError
from models.image.header import read_header
from models.image.limits import Limits
from models.image.preprocess import Pixels, decode, fit
from models.image.spec import InputSpec
from models.image.thumbnail import thumbnail
from service.bulk import ordered_pass
from service.inference.postprocess import unit
from service.similar.bounds import Floats
from service.similar.walk import Picture, read

Compute = Callable[[Sequence[Pixels]], Floats]  # decoded images -> their feature vectors (n, dimensions)
NO_NUMBERS = "its features are no numbers (NaN or infinite)"


@dataclass
class Prepared:
    """digest: SHA-256 of the file. pixels, thumbnail: None where the file is known. vector: of length 1, once computed."""

    digest: bytes
    pixels: Pixels | None = None
    thumbnail: bytes = b""
    vector: Floats | None = None


Result = Prepared | str  # or why there is none


def compute_all(
    pictures: Sequence[Picture],
    known: Container[bytes],
    spec: InputSpec,
    limits: Limits,
    compute: Compute,
    size: int,
    threads: int,
) -> Generator[list[tuple[Picture, Result]]]:
    """Each picture with what comes of it, in parts, in their order; ``known``: digests of files that need not be decoded."""

    def prepare(part: Sequence[Picture]) -> list[Result]:
        return [_prepare(picture, known, spec, limits) for picture in part]

    def finish(prepared: list[Result]) -> list[Result]:
        new = [one for one in prepared if isinstance(one, Prepared) and one.pixels is not None]
        rows = compute([one.pixels for one in new if one.pixels is not None]) if new else ()
        for one, row in zip(new, rows, strict=True):
            one.vector, one.pixels = unit(row), None
        return [NO_NUMBERS if isinstance(one, Prepared) and not _is_finite(one.vector) else one for one in prepared]

    return ordered_pass.run(pictures, prepare, finish, size, threads)


def _prepare(picture: Picture, known: Container[bytes], spec: InputSpec, limits: Limits) -> Result:
    try:
        data = read(picture)
        digest = hashlib.sha256(data).digest()
        if digest in known:
            return Prepared(digest)
        stored = decode(data, limits, spec, read_header(data))
        return Prepared(digest, fit(stored, spec), thumbnail(stored))
    except ImageError as err:
        return str(err)
    except OSError as err:
        return f"it cannot be read: {err.strerror}"
    except MemoryError:
        return "there is no memory left for its pixels"


def _is_finite(vector: Floats | None) -> bool:
    return vector is None or bool(np.isfinite(vector).all())
