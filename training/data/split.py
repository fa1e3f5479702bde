"""Which images are held out to validate on.

A hash of the seed and of an image's group decides, so that a place depends on no other image: data may grow, and files may be
renamed or moved, and every image stays where it was. A group is a picture with its copies and near copies, and what a
source says belongs together. What a run before has held out or trained on keeps its place.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data import near_duplicates
from training.data.lineage import Identities, Past
from training.data.near_duplicates import exact_copies, is_plain, tied
from training.errors import DataError

MOST = 0.5  # of a class; a larger group is trained on, for held out it would leave too little

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


class Pool(NamedTuple):
    """n images to split. targets: (n,), indices into ``classes``. small: (n, side, side), as copies.small_copy; none where
    near copies are not looked for. groups: what the source calls the group of each, "" where it names none."""

    classes: tuple[str, ...]
    targets: NDArray[np.int64]
    identities: Identities
    small: NDArray[np.uint8]
    groups: Sequence[str] = ()


def held_out(pool: Pool, share: float, seed: int, past: Past) -> Indices:
    """Indices of the images to validate on, ascending: about ``share`` of each class, one image at least and not all.

    Raises:
        DataError: a class of one picture; or the run before leaves none to validate on, or none of a class to train on.
    """
    _check_classes(pool)
    group = components(pool)
    trained = past.has_trained(pool.identities)
    kept = past.has_held_out(pool.identities) & ~trained
    draws = _draws(_keys(pool, group), seed)[group]
    large = np.isin(group, _large(pool, group))
    held = (draws < share) & ~large
    held[np.isin(group, group[kept])] = True
    held[np.isin(group, group[trained])] = False
    held |= kept
    place = _Places(pool, group, draws + large, ~(trained | kept), held)  # a large group is the last to be held out
    for c in np.unique(pool.targets):
        place.mend(int(c), share, seed)
    if not held.any():
        raise DataError(
            f"all {len(held)} images were trained on by the run that this one starts from, so none is left to validate on: add "
            "others, or begin without its weights"
        )
    return np.flatnonzero(held)


def components(pool: Pool) -> NDArray[np.int64]:
    """The number of each image's group, (n,)."""
    return near_duplicates.components(len(pool.targets), np.array([*_edges(pool)], np.int64).reshape(-1, 2))


def _edges(pool: Pool) -> Iterator[tuple[int, int]]:
    """Pairs of images of one group."""
    named = [name or i for i, name in enumerate(pool.groups)]
    for group in (*exact_copies(pool.identities.tolist()), *exact_copies(named)):
        yield from ((group[0], other) for other in group[1:])
    if not len(pool.small):
        return
    plain = is_plain(pool.small)
    same = exact_copies(i if plain[i] else picture.tobytes() for i, picture in enumerate(pool.small))
    for group in same:
        yield from ((group[0], other) for other in group[1:])
    yield from map(tuple, tied(pool.small, same).tolist())


def _keys(pool: Pool, group: NDArray[np.int64]) -> list[str]:
    """What decides the place of each group: a name that it was given, else the lowest identity in it."""
    lowest = np.full(group.max() + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, group, pool.identities)
    keys = [f"{identity:016x}" for identity in lowest.tolist()]
    for name, g in sorted(zip(pool.groups, group.tolist(), strict=False), reverse=True):  # the first name stays
        keys[g] = f"group {name}" if name else keys[g]
    return keys


def _draws(keys: Sequence[str], seed: int) -> NDArray[np.float64]:
    """A number from 0 to 1 for each key, evenly spread and always the same."""
    numbers = [int.from_bytes(blake2b(f"{seed} {key}".encode(), digest_size=8).digest()) for key in keys]
    return np.array(numbers, np.float64) / 2**64


def _large(pool: Pool, group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups that hold more than MOST of a class."""
    pairs, counts = np.unique(np.stack([group, pool.targets], 1), axis=0, return_counts=True)
    sizes = np.bincount(pool.targets, minlength=len(pool.classes))
    return np.unique(pairs[(counts > MOST * sizes[pairs[:, 1]]) & (counts > 1), 0])


def _check_classes(pool: Pool) -> None:
    counts = np.bincount(pool.targets, minlength=len(pool.classes))
    for c in np.flatnonzero(counts):
        pictures = len(np.unique(pool.identities[pool.targets == c]))
        if pictures == 1:
            times = f", {counts[c]} times" if counts[c] > 1 else ""
            raise DataError(f"class {pool.classes[c]} has 1 usable image{times}; at least 2 are needed, 1 of them to validate")


class _Places(NamedTuple):
    """Where the images are; ``held`` is changed in place. free: those whose place no run before has set."""

    pool: Pool
    group: NDArray[np.int64]
    draws: NDArray[np.float64]
    free: Mask
    held: Mask

    def mend(self, c: int, share: float, seed: int) -> None:
        """Have at least one image of a class held out, and not all: the group of the lowest hash, or of the highest, is moved.
        Where there is but one group, its images are placed one by one."""
        mine = self.pool.targets == c
        if 0 < self.held[mine].sum() < mine.sum():
            return
        wanted = not self.held[mine].any()
        movable = mine & self.free
        if not movable.any():
            if wanted:
                return  # all were trained on before: the class cannot be measured, which inspection/ says
            raise DataError(
                f"all {mine.sum()} images of the class {self.pool.classes[c]} were held out by the run that this one starts "
                "from, so none is left to train on: add others, or begin without its weights"
            )
        chosen = np.flatnonzero(movable)
        order = chosen[np.argsort(self.draws[chosen] if wanted else -self.draws[chosen], kind="stable")]
        for g in dict.fromkeys(self.group[order].tolist()):
            members = self.group == g
            if self.free[members].all() and self._leaves_some(members, wanted):
                self.held[members] = wanted
                return
        self._one_by_one(movable, mine, wanted, share, seed)

    def _leaves_some(self, members: Mask, wanted: bool) -> bool:
        """Whether each class that moves keeps an image on the side that it leaves."""
        after = self.held.copy()
        after[members] = wanted
        touched = np.unique(self.pool.targets[members])
        return all((after[self.pool.targets == c] != wanted).any() for c in touched)

    def _one_by_one(self, movable: Mask, mine: Mask, wanted: bool, share: float, seed: int) -> None:
        """By the identities of its images; copies of one file stay together."""
        identities, where = np.unique(self.pool.identities[movable], return_inverse=True)
        draws = _draws([f"{identity:016x}" for identity in identities.tolist()], seed)
        order = np.argsort(draws if wanted else -draws)
        chosen = draws < share if wanted else draws >= share
        chosen[order[0]] = True
        if movable.sum() == mine.sum() and chosen.all():
            chosen[order[-1]] = False
        self.held[np.flatnonzero(movable)[chosen[where]]] = wanted
