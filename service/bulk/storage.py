"""Images in object storage and wherever else fsspec reaches."""

from collections.abc import Iterator
from dataclasses import dataclass
from glob import has_magic
from typing import Any

from models.errors import PackageError
from models.registry.locations import Storage, told
from service.bulk import names
from service.bulk.errors import BulkError, reason
from service.bulk.item import Item, check_size, shown

CHANGES = (
    "ETag",
    "etag",
    "md5Hash",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)  # what tells of another content


@dataclass(frozen=True, slots=True)
class StoredFile:
    """files: a file system of fsspec. size: of the listing; -1 where it does not say."""

    files: Any
    path: str
    size: int

    def read(self, limit: int) -> bytes:
        check_size(self.size, limit)
        try:
            data: bytes = self.files.cat_file(self.path, start=0, end=limit + 1 if self.size < 0 else self.size)
        except Exception as err:  # their classes share no base
            raise OSError(reason(err)) from err
        check_size(len(data), limit)
        return data


def found(address: str) -> Iterator[Item | None]:
    """Each file at or below an address or a pattern; None for one that is no image by its name. Raises BulkError."""
    try:
        place = Storage(address)
        with told(address):
            listed: dict[str, dict[str, Any]] = (place.files.glob if has_magic(place.root) else place.files.find)(
                place.root, detail=True
            )
    except (PackageError, FileNotFoundError) as err:
        raise BulkError(
            f"{err}" if isinstance(err, PackageError) else f"there is nothing at {address}; name what is there"
        ) from err
    if not listed:
        raise BulkError(f"there is nothing at {address}; name what is there")
    for path, info in sorted(listed.items()):
        if info.get("type") == "directory":
            continue
        parts = path.removeprefix(place.root).strip("/").split("/")
        if path != place.root and not (names.is_image(path) and not any(map(names.is_passed_over, parts))):
            yield None
            continue
        size, change = info.get("size"), next((str(info[name]) for name in CHANGES if info.get(name)), "")
        source = StoredFile(place.files, path, -1 if size is None else int(size))
        yield Item(shown(place.files.unstrip_protocol(path)), f"{size}-{change}", source)
