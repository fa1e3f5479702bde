"""Sources -> arrays. Pixels come from models.image.preprocess, as in serving."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import PackageError
from models.image.spec import InputSpec
from models.package import label_names
from models.package import manifest as manifests
from training.data import cache, decoded
from training.data import split as splits
from training.data.lineage import Past
from training.data.near_duplicates import SIDE
from training.data.pixels import Pixels, chunks, picked
from training.data.pixels import joined as join_pixels
from training.data.sources.catalogue import open_source
from training.data.sources.folder import list_folder
from training.data.sources.source import Part, Source
from training.errors import DataError


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, decoded.

    pixels: (n, height, width, 3) uint8, RGB; on the disk where they are too many for the memory.
    targets: (n,) int64, indices into ``classes``.
    paths: names of the images in their part, which can be printed.
    skipped: "path: reason" for each file that was left out.
    identities: (n,) uint64, models.package.held_out_answers.identity of each file; empty for images that were made.
    small: (n, SIDE, SIDE) uint8, grey copies by which near copies are found; empty for images that were made.
    groups: what the source says belongs together, "" where it says nothing; empty for images that were made.
    """

    pixels: Pixels
    targets: NDArray[np.int64]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    skipped: tuple[str, ...]
    identities: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    small: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, SIDE, SIDE), np.uint8))
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: NDArray[np.int64]) -> "ImageSet":
        return ImageSet(
            picked(self.pixels, indices),
            self.targets[indices],
            self.classes,
            tuple(self.paths[i] for i in indices),
            self.skipped,
            self.identities[indices] if len(self.identities) else self.identities,
            self.small[indices] if len(self.small) else self.small,
            tuple(self.groups[i] for i in indices) if self.groups else (),
        )


@dataclass(frozen=True)
class Sets:
    """What a source gives to train with. pool: images to train on, and to hold some out of where ``validation`` is not given.
    more: images to train on that nothing is held out of."""

    pool: ImageSet
    validation: ImageSet | None
    more: ImageSet | None

    def apart(self, held: NDArray[np.int64]) -> tuple[ImageSet, ImageSet]:
        """Training and validation images: of the pool, those of the indices ``held`` are validated on."""
        rest = self.pool.subset(np.setdiff1d(np.arange(len(self.pool)), held)) if len(held) else self.pool
        validation = self.pool.subset(held) if self.validation is None else self.validation
        return rest if self.more is None else joined(rest, self.more), validation


def load_training(
    source: str | Path, spec: InputSpec, validation_share: float, seed: int, past: Past | None = None
) -> tuple[ImageSet, ImageSet]:
    """Training and validation images of ``source``, which sources/catalogue.py opens.

    Where it gives no validation images, about ``validation_share`` of each class is held out of the training images with
    ``seed``, but for those whose place ``past`` has set. Test images are never decoded here.

    Raises:
        DataError: fewer than two classes, a class without one good image, or one that only the validation images have; and
            see split.held_out.
    """
    sets = load_sets(source, spec)
    if sets.validation is None:
        return sets.apart(splits.held_out(pool_of(sets.pool), validation_share, seed, past or Past()))
    return sets.apart(np.empty(0, np.int64))


@cache.once
def load_run(source: str | Path, spec: InputSpec, classes: tuple[str, ...], past: Past) -> tuple[ImageSet, ImageSet]:
    """Those images of ``source`` that a run of these classes has trained on and held out, in the order of the source; what came
    to it since is left out."""
    sets = load_sets(source, spec, classes)
    if sets.validation is not None:
        held = np.flatnonzero(past.has_held_out(sets.validation.identities))
        sets = replace(sets, validation=sets.validation.subset(held))
        known, validation = sets.apart(np.empty(0, np.int64))
    else:
        known, validation = sets.apart(np.flatnonzero(past.has_held_out(sets.pool.identities)))
    trained = past.has_trained(known.identities)
    return known if trained.all() else known.subset(np.flatnonzero(trained)), validation


def load_sets(source: str | Path, spec: InputSpec, classes: tuple[str, ...] | None = None) -> Sets:
    """Decode what ``source`` gives to train and to validate; given ``classes``, the images of others are left out.

    A class that only the images beside the first source have takes part in the split, where there is one: it would not be
    measured otherwise.
    """
    found = open_source(source) if classes is None else _of_classes(open_source(source), classes)
    pool = decode(found.train, spec, classes)
    known = classes or tuple(dict.fromkeys((*pool.classes, *(found.more.classes if found.more else ()))))
    if classes is None and found.more is not None:
        check_servable(f"{found.train.place} with {found.more.place}", known)
    pool = replace(pool, classes=known)
    validation = None if found.validation is None else decode(found.validation, spec, known)
    if found.more is None:
        return Sets(pool, validation, None)
    more = decode(found.more, spec, known)
    number = {name: i for i, name in enumerate(known)}
    new = ~np.isin(more.targets, [number[name] for name in found.train.classes])
    if validation is None and new.any():
        pool, more = joined(pool, more.subset(np.flatnonzero(new))), more.subset(np.flatnonzero(~new))
    return Sets(pool, validation, more)


def _of_classes(source: Source, classes: tuple[str, ...]) -> Source:
    """The source without the images of other classes."""
    beside = (None if part is None else _part_of(part, classes) for part in (source.validation, source.test, source.more))
    return Source(_part_of(source.train, classes), *beside)


def _part_of(part: Part, classes: tuple[str, ...]) -> Part:
    part, wanted = named_as(part, classes), set(classes)
    items = tuple(item for item in part.items if item.label in wanted)
    return replace(part, classes=tuple(name for name in part.classes if name in wanted), items=items)


def joined(images: ImageSet, more: ImageSet) -> ImageSet:
    """Both, of the same classes."""
    return ImageSet(
        join_pixels(images.pixels, more.pixels),
        np.concatenate([images.targets, more.targets]),
        images.classes,
        images.paths + more.paths,
        images.skipped + tuple(line for line in more.skipped if line not in images.skipped),
        np.concatenate([images.identities, more.identities]),
        np.concatenate([images.small, more.small]),
        images.groups + more.groups,
    )


def pool_of(images: ImageSet) -> splits.Pool:
    """The images for ``split.held_out``."""
    return splits.Pool(images.classes, images.targets, images.identities, images.small, images.groups)


@cache.once
def load_test(source: str | Path, spec: InputSpec, classes: tuple[str, ...]) -> ImageSet | None:
    """Test images of ``source`` where it gives some; raises DataError as ``decode``."""
    part = open_source(source).test
    return None if part is None else decode(part, spec, classes)


def load_folder(folder: Path, spec: InputSpec, classes: tuple[str, ...] | None = None) -> ImageSet:
    """Every image below the class folders of ``folder``, in a fixed order; raises DataError as ``decode``."""
    return decode(list_folder(folder), spec, classes)


def decode(part: Part, spec: InputSpec, classes: tuple[str, ...] | None = None) -> ImageSet:
    """Decode the images of a part; one that cannot be decoded is left out and named in ``skipped``.

    Raises:
        DataError: fewer than two classes, a class that is not in ``classes``, a class without one good image, or more
            pixels than memory and disk hold.
    """
    part = named_as(part, classes)
    check_classes(part, classes)
    classes = classes or part.classes
    found, items = decoded.decoded(part, spec), part.items
    kept = [i for i, why in enumerate(found.reasons) if not why]
    skipped = [f"{item.name}: {why}" for item, why in zip(items, found.reasons, strict=True) if why]
    present = {items[i].label for i in kept}
    if empty := [name for name in part.classes if name not in present]:
        raise DataError(f"no usable image of the class {', '.join(empty)} in {part.place}; add images or remove the class")
    number = {name: i for i, name in enumerate(classes)}
    targets = np.array([number[items[i].label] for i in kept], np.int64)
    pixels, small, identities = found.pixels, found.small, found.identities
    if skipped:
        pixels, small, identities = picked(pixels, kept), small[kept], identities[kept]
    paths, groups = (tuple(getattr(items[i], key) for i in kept) for key in ("path", "group"))
    return ImageSet(pixels, targets, classes, paths, (*part.left_out, *skipped), identities, small, groups)


def named_as(part: Part, classes: tuple[str, ...] | None) -> Part:
    """The part with its classes called as the ``classes`` that they are when written alike: a network of old may know an accent
    in another form."""
    known = label_names.by_writing(classes or ())
    new = {
        name: known[normal]
        for name in part.classes
        if (normal := label_names.normalised(name)) in known and known[normal] != name
    }
    if not new:
        return part
    items = tuple(replace(item, label=new.get(item.label, item.label)) for item in part.items)
    return replace(part, classes=tuple(dict.fromkeys(new.get(name, name) for name in part.classes)), items=items)


def check_classes(part: Part, known: tuple[str, ...] | None) -> None:
    """Raises DataError when there are fewer than two classes to train on, or one that is not among the known ones."""
    if len(part.classes) < (1 if known else 2):
        raise DataError(
            f"{part.place} holds {len(part.classes)} classes, a classifier needs at least 2; in a folder, the images of "
            f"each class lie in a folder of their own, such as {part.place}/cat and {part.place}/dog"
        )
    if known is None:
        check_servable(part.place, part.classes)
    if unknown := sorted(set(part.classes) - set(known or part.classes)):
        forms = label_names.by_form(known or ())
        told = "; ".join(label_names.told(name, forms) for name in unknown)
        raise DataError(f"{part.place} holds classes that the network does not know: {told}")


def check_servable(place: str, classes: Sequence[str]) -> None:
    """Raises DataError where a network of these classes could be trained, and no package of it served."""
    try:
        manifests.check_labels(classes)
    except PackageError as err:
        raise DataError(f"{place} cannot be trained on: {err}") from err


def fingerprint(images: ImageSet) -> str:
    """SHA-256 over classes, paths, targets and pixels: the same images in the same order give the same value."""
    digest = hashlib.sha256("\n".join((*images.classes, "", *images.paths)).encode())
    digest.update(images.targets.tobytes())
    for pixels in chunks(images.pixels):
        digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def channel_statistics(images: ImageSet) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (1 at least, to divide by) of each channel, in units of the 0 to 255 scale."""
    values, counts = np.arange(256), np.zeros((3, 256), np.int64)
    for some in chunks(picked(images.pixels, slice(None, None, max(1, len(images) // 5000)))):
        counts += [np.bincount(some[..., channel].ravel(), minlength=256) for channel in range(3)]
    mean = np.array([np.average(values, weights=count) for count in counts])
    variance = np.array([np.average((values - m) ** 2, weights=count) for m, count in zip(mean, counts, strict=True)])
    return mean.round(2).tolist(), np.sqrt(variance).clip(1).round(2).tolist()
