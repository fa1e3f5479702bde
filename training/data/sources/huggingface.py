"""Data sets of the Hugging Face library ``datasets``: saved folders, and names on the hub. Needs the extra ``datasets``.

Only the bytes of image files are taken from it, never pixels that it decoded.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from models.terminal import program
from training.data.sources.source import SPLITS, Item, Part, Source, make_part, make_source, printable, read_image
from training.errors import DataError

OPTIONS = ("config", "image", "label", "group", "revision")
LABELS = ("label", "labels", "class", "target")  # tried in this order where no column is a ClassLabel


def open_saved(address: str) -> Source:
    """A folder that ``save_to_disk`` wrote, a folder of parquet files, or a name on the hub; after ``?`` may follow
    ``config``, ``image``, ``label``, ``group`` (columns) and ``revision``, as in ``uoft-cs/cifar100?label=coarse_label``.

    Raises:
        DataError: the library is missing, the data cannot be loaded, or it is not clear which columns to take.
    """
    name, _, query = address.partition("?")
    options = dict(parse_qsl(query))
    if unknown := set(options) - set(OPTIONS):
        raise DataError(f"hf:{address}: unknown option {', '.join(sorted(unknown))}; known are {', '.join(OPTIONS)}")
    tables = _load(name, options)
    parts: dict[str, Part] = {}
    unused: list[str] = []
    for split, table in tables.items():
        meant = SPLITS.get(str(split))
        part = _part(f"hf:{name}, {split}", table, options) if meant and meant not in parts else None
        if meant and part:
            parts[meant] = part
        else:
            unused.append(f"hf:{name}, {split}: it is not used, being none of train, val and test or without classes")
    if unused and "train" in parts:
        parts["train"] = replace(parts["train"], left_out=(*unused, *parts["train"].left_out))
    return make_source(f"hf:{name}", parts)


def _library() -> Any:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as err:
        raise DataError(f"hf: needs the library datasets, which is not installed: {program.extra('datasets')}") from err
    return datasets


def _load(name: str, options: dict[str, str]) -> dict[str, Any]:
    """Tables by their splits; one that was saved alone is to be trained on."""
    library = _library()
    saved = Path(name)
    try:
        if any((saved / file).is_file() for file in ("dataset_dict.json", "state.json")):
            loaded = library.load_from_disk(name)
        else:
            loaded = library.load_dataset(name, options.get("config"), revision=options.get("revision"))
    except Exception as err:
        raise DataError(f"hf:{name} cannot be loaded: {' '.join(str(err).split())[:300]}") from err
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _part(place: str, table: Any, options: dict[str, str]) -> Part | None:
    """None where no row has a class, as in test images whose labels are kept secret."""
    image, label = _columns(place, table, options)
    named: list[str] | None = getattr(table.features[label], "names", None)
    labels: list[Any] = table.select_columns([label])[:][label]
    files = table.select_columns([image]).cast_column(image, _library().Image(decode=False))
    groups = _groups(place, table, options)
    known = _stamp(table, files, image) if len(labels) else None
    items: list[Item] = []
    left_out: list[str] = []
    for i, value in enumerate(labels):
        row = f"{place} {i:06d}"
        if value is None or (named and not 0 <= value < len(named)):
            left_out.append(f"{row}: it has no class")
        else:
            text = named[value] if named else str(value).strip()
            stamp = None if known is None else partial("{} {}".format, known, i)
            items.append(Item(printable(row), f"{i:06d}", text, partial(_read, files, image, i), stamp, groups[i]))
    return make_part(place, items, left_out, named) if items else None


def _groups(place: str, table: Any, options: dict[str, str]) -> list[str]:
    """Of each row, "" where no column is named."""
    column = options.get("group")
    if column is None:
        return [""] * len(table)
    if column not in table.features:
        raise DataError(f"{place} has no column {column!r}; it has {', '.join(table.features)}")
    values: list[Any] = table.select_columns([column])[:][column]
    return ["" if value is None else printable(str(value)) for value in values]


def _stamp(table: Any, files: Any, column: str) -> str | None:
    """The library's own hash of what the table is made of; None where it only names the files of its images."""
    holds_them = (files[0][column] or {}).get("bytes") is not None
    return getattr(table, "_fingerprint", None) if holds_them else None


def _columns(place: str, table: Any, options: dict[str, str]) -> tuple[str, str]:
    """The column of images and the column of classes."""
    library = _library()
    features: dict[str, Any] = dict(table.features)
    images = [name for name, kind in features.items() if isinstance(kind, library.Image)]
    labels = [name for name, kind in features.items() if isinstance(kind, library.ClassLabel)]
    labels = labels or [name for name in LABELS if isinstance(features.get(name), library.Value)][:1]
    chosen: list[str] = []
    for option, found in (("image", images), ("label", labels)):
        name = options.get(option)
        if name is None and len(found) != 1:
            what = f"{len(found)} columns that could be the {option}"
            raise DataError(f"{place} has {what}; name one of {', '.join(features)}: hf:NAME?{option}=COLUMN")
        if name is not None and name not in features:
            raise DataError(f"{place} has no column {name!r}; it has {', '.join(features)}")
        chosen.append(name or found[0])
    for name, kinds, what in ((chosen[0], library.Image, "images"), (chosen[1], (library.ClassLabel, library.Value), "classes")):
        if not isinstance(features[name], kinds):
            raise DataError(f"{place}: the column {name!r} does not hold {what}")
    return chosen[0], chosen[1]


def _read(files: Any, column: str, i: int) -> bytes:
    cell = files[i][column]
    if not cell:
        raise FileNotFoundError(2, "the row holds no image")
    return cell["bytes"] if cell["bytes"] is not None else read_image(Path(cell["path"]))
