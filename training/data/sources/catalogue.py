"""From what the command line calls a source to the source."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from training.data.sources import folder, huggingface, listing, shards, torchvision
from training.data.sources.source import Source, make_part, printable
from training.errors import DataError

JOIN, BETWEEN = "join", " + "
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
    if colon and scheme == JOIN:
        return open_joined(rest)
    if colon and scheme in SCHEMES:
        return SCHEMES[scheme](rest)
    path = Path(source)
    if path.suffix.lower() in listing.ENDINGS and not path.is_dir():
        return listing.open_listing(path)
    if path.suffix.lower() == ".tar" and not path.is_dir():
        return shards.open_shards(str(path))
    return folder.open_folder(path)


def open_joined(sources: str) -> Source:
    """The first of several sources, with the training images of the others beside its own. What is validated and tested
    on, and what is held out, is the first one's alone.

    Raises:
        DataError: one of them does not exist, or the others hold no image.
    """
    first, *others = (open_source(source.strip()) for source in sources.split(BETWEEN))
    parts = [part for other in others for part in (other.train, other.more) if part is not None]
    items = [replace(item, path=f"{i}/{item.path}") for i, part in enumerate(parts, 1) for item in part.items]
    if not items:
        raise DataError(f"{JOIN}:{sources} joins no image to the first; write {JOIN}:OLD{BETWEEN}NEW")
    left_out = [line for part in parts for line in part.left_out]
    return replace(first, more=make_part(BETWEEN.join(part.place for part in parts), items, left_out))


def join(first: str | Path, other: str | Path) -> str:
    """The source that ``open_joined`` makes of two."""
    scheme, colon, rest = str(first).partition(":")
    return f"{JOIN}:{rest if colon and scheme == JOIN else first}{BETWEEN}{other}"


def title(source: str | Path) -> str:
    """What reports call it, without the folders that it lies in."""
    scheme, colon, rest = str(source).partition(":")
    if colon and scheme == JOIN:
        return BETWEEN.join(title(part.strip()) for part in rest.split(BETWEEN))
    if colon and scheme in torchvision.SETS:
        return scheme
    if colon and scheme in SCHEMES:
        address = rest.partition("?")[0]
        return address if scheme == "hf" and not Path(address).is_dir() else printable(Path(address).name)
    return printable(Path(source).name or Path(source).resolve().name)
