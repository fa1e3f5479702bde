"""The name of a package and of its run, of what its data are called, where nobody chose one."""

import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from training.errors import RecipeError

MOST = 64  # characters, as models/package/manifest.py takes them
SAYS_NOTHING = {  # of a folder: what lies beside it, or above, tells one from another
    *("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation"),
    *("data", "dataset", "datasets", "images", "image", "imgs", "img", "pictures", "classes"),
}
SCHEME = re.compile(r"[a-z][a-z0-9-]+")


def name_of(source: str) -> str:
    """Lower-case letters, digits, '.', '_' and '-' of the last part of a path, of those before it too where that says nothing.

    Raises:
        RecipeError: it has none.
    """
    name = "-".join(reversed([*_parts(source)]))
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"([^a-z0-9._]|-)+", "-", plain).lstrip("._-")[:MOST].rstrip("._-")
    if not name:
        raise RecipeError(f"no name can be made of {source!r}: give one with NAME=… (--name), in lower-case letters and digits")
    return name


def _parts(source: str) -> Iterator[str]:
    """The last part of a path, and those before it up to one that says something."""
    scheme, colon, rest = source.partition(":")
    if colon and SCHEME.fullmatch(scheme) and not Path(source).exists():
        if scheme not in ("hf", "wds", "join"):  # a set that is known by its name
            yield scheme
            return
        source = rest.partition("?")[0]
        if scheme != "wds" and not Path(source).exists():
            yield source
            return
    path = Path(source).absolute()
    if ".." in path.parts:
        path = path.resolve()
    for part in (path, *path.parents):
        yield part.name
        if part.stem.lower() not in SAYS_NOTHING:
            return


if __name__ == "__main__":
    try:
        sys.stdout.write(name_of(sys.argv[1]))
    except RecipeError as err:
        sys.exit(f"error: {err}")
