"""From what the command line calls a source to the source.

Neighbours: the other files of this folder hold one form of data each.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from training.sources import folder, huggingface, listing, shards, torchvision
from training.sources.source import Source, printable

SCHEMES: dict[str, Callable[[str], Source]] = {
    **{name: partial(torchvision.open_set, name) for name in torchvision.SETS},
    "hf": huggingface.open_saved,
    "wds": shards.open_shards,
}


def open_source(source: str | Path) -> Source:
    """List what ``source`` holds: a path, or one of SCHEMES with a colon and what follows it.

    Raises:
        DataError: it does not exist, or is not what it should be.
    """
    scheme, colon, rest = str(source).partition(":")
    if colon and scheme in SCHEMES:
        return SCHEMES[scheme](rest)
    path = Path(source)
    if path.suffix.lower() in listing.ENDINGS and not path.is_dir():
        return listing.open_listing(path)
    if path.suffix.lower() == ".tar" and not path.is_dir():
        return shards.open_shards(str(path))
    return folder.open_folder(path)


def title(source: str | Path) -> str:
    """What reports call it, without the folders that it lies in."""
    scheme, colon, rest = str(source).partition(":")
    if colon and scheme in torchvision.SETS:
        return scheme
    if colon and scheme in SCHEMES:
        address = rest.partition("?")[0]
        return address if scheme == "hf" and not Path(address).is_dir() else printable(Path(address).name)
    return printable(Path(source).name or Path(source).resolve().name)
