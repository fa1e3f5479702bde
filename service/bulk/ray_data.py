"""Many images on several machines: Ray Data hands out parts of the list, and each actor answers them as one process does.

docs/bulk.md says what Ray needs, and what it does not promise.
"""

import os
from collections.abc import Sequence
from typing import Any

from service.bulk.errors import BulkError
from service.bulk.formats import COLUMNS, arrow_table
from service.bulk.item import Item, LocalFile
from service.bulk.row import row_of
from service.bulk.storage import StoredFile, found
from service.bulk.walk import walk
from service.settings import Settings

PART = 128  # images at a time; Ray spills larger blocks


class Actor:
    """Keeps a model, and answers parts of the list: {"path": paths} -> a table of Arrow with their rows."""

    def __init__(self, config: Settings) -> None:
        from service.bulk.local import LocalModel

        self.model = LocalModel(config)

    def __call__(self, part: dict[str, Any]) -> Any:
        pairs = self.model.classify([item_of(str(path)) for path in part["path"]])
        return arrow_table([row_of(item.path, result) for item, result in pairs], COLUMNS)


def classify(paths: Sequence[str], out: str, config: Settings, actors: int, cpus: int) -> None:
    """Answer all images below ``paths`` with so many actors of ``cpus`` cores each; ``out`` becomes a folder of Parquet files.

    Raises BulkError. What Ray cannot do it raises in its own way.
    """
    import ray.data  # pyright: ignore[reportMissingImports]

    data: Any = ray.data.from_items([{"path": path_of(item)} for item in walk(paths).items])
    ways = ray.data.ActorPoolStrategy(size=actors)
    answered = data.map_batches(Actor, fn_constructor_args=(config,), batch_size=PART, compute=ways, num_cpus=cpus)
    answered.write_parquet(out)


def path_of(item: Item) -> str:
    """As the machine of an actor finds it: an address, or a path on a disk that all of them have."""
    if isinstance(item.source, StoredFile):
        return item.path
    if not isinstance(item.source, LocalFile):
        raise BulkError(f"{item.path} is in an archive, which is not handed to other machines; unpack it and give the folder")
    return os.path.abspath(item.source.path)


def item_of(path: str) -> Item:
    if "://" not in path:
        return Item(path, "", LocalFile(path))
    return next(item for item in found(path) if item is not None)
