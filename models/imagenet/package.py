"""The package `imagenet`: a thousand classes of everyday things, made of our graph and of weights that a Python package brings.

Neither torch nor ONNX is needed for it, and nothing is downloaded. What comes out is known to the byte: a file with another hash
is not published.
"""

import hashlib
import tempfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from models.errors import PackageError
from models.imagenet import graph, state_dict
from models.imagenet.packaged import LITE0, LITE0_VERSION, Absent, Damaged
from models.package import manifest as manifests
from models.package.manifest import CARD, GOLDEN, MODEL, Manifest
from models.package.precision import GRAPHS
from models.registry import registry
from models.terminal import program

HERE = Path(__file__).parent
NAME, OTHER = "imagenet", "cifar10"
PACKAGE, VERSION, SHA256 = LITE0.package, LITE0_VERSION, LITE0.sha256
WEIGHTS = PurePosixPath(LITE0.path)
LABELS = "labels.tsv"
SKELETONS = {MODEL: "model.skeleton", GRAPHS["int8"]: "model.int8.skeleton"}
BUNDLED = HERE.parent / "bundled"  # the store within an image of containers, which was built with the package


class Label(NamedTuple):
    wordnet: str
    label: str


def labels() -> list[Label]:
    """In the order of the outputs."""
    rows = (HERE / LABELS).read_text(encoding="utf-8").splitlines()
    return [Label(*row.split("\t")) for row in rows]


def weights() -> bytes:
    """The file of the weights.

    Raises:
        PackageError: the Python package that holds it is not installed, or holds another file.
    """
    try:
        return LITE0.find().read_bytes()
    except Absent as err:
        raise PackageError(
            f"the Python package {PACKAGE}, of whose weights {NAME} is made, is not installed: {program.extra(NAME)} where a "
            f"package index can be reached; till then HUBEL_MODEL={OTHER} serves ten classes"
        ) from err
    except Damaged as err:
        raise PackageError(
            f"{WEIGHTS.name} of the Python package {PACKAGE} is damaged or another file: its SHA-256 is {err.digest[:12]}…, not "
            f"{SHA256[:12]}…; install {PACKAGE}=={VERSION} again, or serve ten classes with HUBEL_MODEL={OTHER}"
        ) from err


def make(store: Path) -> None:
    """Put the package into a store, live; where another process was first, its package stays.

    Raises:
        PackageError: the weights are not there, this machine makes other bytes of them, or the store cannot be written to.
    """
    draft = manifests.read(HERE)
    layers = graph.layers_of(state_dict.read(weights()))
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".publish-", dir=store) as temporary:
            folder = Path(temporary) / "files"
            folder.mkdir()
            for name, skeleton in SKELETONS.items():
                (folder / name).write_bytes(graph.read((HERE / skeleton).read_bytes()).filled(layers))
            for name in (CARD, GOLDEN, LABELS):
                (folder / name).write_bytes((HERE / name).read_bytes())
            _check(folder, draft)
            made = Path(temporary) / "store"
            registry.publish(made, folder, draft)
            if not (store / NAME).exists():
                (made / NAME).rename(store / NAME)
    except OSError as err:
        raise PackageError(
            f"{NAME} cannot be made in {store}: {err.strerror or err}; let it be written to, name another store with "
            f"HUBEL_STORE, or serve ten classes with HUBEL_MODEL={OTHER}"
        ) from err


def _check(folder: Path, draft: Manifest) -> None:
    for name, expected in draft.files.items():
        if (digest := hashlib.sha256((folder / name).read_bytes()).hexdigest()) != expected:
            raise PackageError(
                f"{name} of {NAME} came out otherwise than where it was measured: its SHA-256 is {digest[:12]}…, not "
                f"{expected[:12]}…; report that, and serve ten classes with HUBEL_MODEL={OTHER}"
            )


def store_of(model: str, store: Path) -> Path:
    """Where ``model`` is served from: ``store``, where it is; else, of this name, the store within the image, or ``store`` once
    the package is made there.

    Raises:
        PackageError: see ``make``.
    """
    if model.partition(":")[0] != NAME or registry.versions(store, NAME):
        return store
    if registry.versions(BUNDLED, NAME):
        return BUNDLED
    make(store)
    return store
