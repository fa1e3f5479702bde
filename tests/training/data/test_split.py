"""training/data/split.py: which images are held out, and that they stay so."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.factories import encode
from tests.training.data.factories import digit, make_look, photo, saved_anew
from training.data import split
from training.data.lineage import Past, pack, past_of, unpack
from training.data.split import Pool
from training.errors import DataError

NOTHING = np.empty((0, 32, 32), np.uint8)
Indices = NDArray[np.int64]


def make_pool(counts: Sequence[int], seed: int = 0, groups: Sequence[str] = (), small: NDArray[np.uint8] = NOTHING) -> Pool:
    """``counts[c]`` images of each class c, of files that are all different."""
    targets = np.repeat(np.arange(len(counts)), counts)
    identities = np.random.default_rng(seed).integers(0, 2**64, len(targets), np.uint64)
    return Pool(tuple(f"class-{c}" for c in range(len(counts))), targets, identities, small, groups)


def some(pool: Pool, indices: Indices) -> Pool:
    small = pool.small[indices] if len(pool.small) else pool.small
    groups = [str(pool.groups[i]) for i in indices] if pool.groups else []
    return Pool(pool.classes, pool.targets[indices], pool.identities[indices], small, groups)


def held(pool: Pool, share: float = 0.2, seed: int = 0, past: Past | None = None) -> set[int]:
    """Identities of what is held out."""
    return set(pool.identities[split.held_out(pool, share, seed, past or Past())].tolist())


def ids(pool: Pool, indices: Sequence[int] | Indices) -> NDArray[np.uint64]:
    return pool.identities[np.asarray(indices)]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.75, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_trained_on_and_held_out(share: float, seed: int) -> None:
    pool = make_pool([2, 3, 40])

    chosen = split.held_out(pool, share, seed, Past())

    rest = np.setdiff1d(np.arange(45), chosen)
    assert set(pool.targets[chosen]) == set(pool.targets[rest]) == {0, 1, 2}


def test_about_the_share_of_each_class_is_held_out() -> None:
    pool = make_pool([4000, 1000])
    counts = np.bincount(pool.targets[split.held_out(pool, 0.2, 0, Past())])
    assert abs(counts[0] - 800) < 4 * np.sqrt(4000 * 0.2 * 0.8)
    assert abs(counts[1] - 200) < 4 * np.sqrt(1000 * 0.2 * 0.8)


def test_the_seed_decides() -> None:
    pool = make_pool([50, 50])
    assert held(pool, seed=1) == held(pool, seed=1) != held(pool, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_images_that_are_added_or_taken_away_move_no_other(seed: int) -> None:
    grown = make_pool([60, 40, 80], seed)
    kept = np.flatnonzero(np.random.default_rng(seed).random(180) < 0.7)
    before = some(grown, kept)

    assert held(grown) & set(before.identities.tolist()) == held(before)


def test_an_order_moves_nothing() -> None:
    pool = make_pool([60, 40])
    assert held(some(pool, np.random.default_rng(1).permutation(100))) == held(pool)


def test_of_a_tiny_class_an_image_is_held_out_and_never_one_that_was_trained_on_before() -> None:
    """However a class of a few images grows, a run that knows the one before keeps its places."""
    grown = make_pool([12, 12], seed=3)
    past = Past()
    for n in range(2, 13):
        pool = some(grown, np.flatnonzero(np.arange(24) % 12 < n))
        chosen = held(pool, 0.1, past=past)
        everything = set(pool.identities.tolist())
        assert not chosen & set(unpack(past.trained).tolist())
        assert set(unpack(past.held_out).tolist()) <= chosen < everything
        past = past_of(np.array([*(everything - chosen)], np.uint64), np.array([*chosen], np.uint64))


def test_a_larger_share_holds_out_what_a_smaller_one_does() -> None:
    pool = make_pool([300, 300])
    assert held(pool, 0.1) < held(pool, 0.2)


@pytest.mark.parametrize("times", [1, 3])
def test_a_class_of_one_picture_cannot_be_split(times: int) -> None:
    pool = make_pool([5, times])
    pool.identities[5:] = 7
    with pytest.raises(DataError, match=r"class class-1 has 1 usable image" + (", 3 times" if times > 1 else "")):
        split.held_out(pool, 0.2, 0, Past())


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_on_one_side_across_classes(seed: int) -> None:
    groups = [f"person {i % 9}" for i in range(90)]
    pool = make_pool([30, 60], groups=groups)

    chosen = split.held_out(pool, 0.3, seed, Past())

    inside, outside = {groups[i] for i in chosen}, {groups[i] for i in range(90) if i not in chosen}
    assert inside
    assert outside
    assert not inside & outside


def test_a_named_group_keeps_its_place_whatever_is_added_to_it() -> None:
    groups = [f"person {i % 20}" for i in range(400)]
    grown = make_pool([200, 200], groups=groups)
    before = some(grown, np.arange(0, 400, 3))

    assert held(grown) & set(before.identities.tolist()) == held(before)


def test_a_class_of_one_group_is_divided_all_the_same() -> None:
    pool = make_pool([20, 20], groups=["one"] * 20 + [""] * 20)
    chosen = split.held_out(pool, 0.2, 0, Past())
    assert 0 < (chosen < 20).sum() < 20


@pytest.mark.parametrize("seed", range(20))
def test_a_group_of_most_of_a_class_is_trained_on(seed: int) -> None:
    pool = make_pool([20, 20], groups=["one"] * 15 + [""] * 25)
    chosen = split.held_out(pool, 0.3, seed, Past())
    assert not (chosen < 15).any()
    assert ((chosen >= 15) & (chosen < 20)).any()


def pictures(n: int) -> list[bytes]:
    return [encode(photo(seed, 64)) for seed in range(n)]


def test_copies_and_near_copies_are_on_one_side() -> None:
    files = pictures(12)
    files += [saved_anew(photo(seed, 64)) for seed in range(12)] + [files[3]]
    look = make_look(files)
    n = len(look)
    pool = Pool(("a", "b"), np.arange(n) % 2, np.arange(n).astype(np.uint64), look.small)
    pool.identities[24] = pool.identities[3]

    group = split.components(pool)

    assert [*group[12:24]] == [*group[:12]]
    assert group[24] == group[3]
    assert len(set(group)) == 12


def test_shots_of_one_thing_before_a_wall_are_on_one_side_and_digits_are_not_chained() -> None:
    def shot(thing: int, shift: int) -> bytes:
        wall = Image.new("RGB", (640, 640), (200, 198, 190))
        wall.paste(photo(thing, 160 + 40 * thing), (170 + shift, 190 + shift // 2))
        return encode(wall)

    look = make_look([*(shot(thing, 4 * i) for thing in range(4) for i in range(5)), *(encode(digit(s)) for s in range(300))])
    n = len(look)

    group = split.components(Pool(("a", "b"), np.arange(n) % 2, np.arange(n).astype(np.uint64), look.small))

    assert [*group[:20]] == np.repeat(group[:20:5], 5).tolist()
    assert len(set(group[:20])) == 4
    assert np.bincount(group).max() <= 20


@pytest.mark.parametrize("seed", range(8))
def test_a_near_copy_that_comes_later_follows_the_picture_that_was_there(seed: int) -> None:
    files = pictures(10)
    look = make_look([*files, *(saved_anew(photo(s, 64)) for s in range(10))])
    identities = np.random.default_rng(seed).integers(0, 2**64, 20, np.uint64)
    grown = Pool(("a", "b"), np.arange(20) % 2, identities, look.small)
    first = some(grown, np.arange(10))
    chosen = split.held_out(first, 0.3, 0, Past())
    past = past_of(ids(first, np.setdiff1d(np.arange(10), chosen)), ids(first, chosen))

    after = split.held_out(grown, 0.3, 0, past)

    assert [*after] == [*chosen, *(chosen + 10)]


def test_what_was_trained_on_is_never_held_out_and_what_was_held_out_stays() -> None:
    pool = make_pool([50, 50])
    chosen = split.held_out(pool, 0.3, 0, Past())
    rest = np.setdiff1d(np.arange(100), chosen)
    swapped = past_of(ids(pool, chosen[:-3]), ids(pool, rest[:30]))

    after = split.held_out(pool, 0.3, 0, swapped)

    assert set(rest[:30]) <= set(after)
    assert not set(chosen[:-3]) & set(after)
    assert set(chosen[-3:]) <= set(after)  # new ones go by their hash


def test_a_class_that_was_trained_on_whole_is_not_held_out_from() -> None:
    pool = make_pool([10, 10])
    after = split.held_out(pool, 0.3, 0, past_of(ids(pool, range(10)), np.empty(0, np.uint64)))
    assert set(pool.targets[after]) == {1}


@pytest.mark.parametrize(
    ("past", "reason"),
    [("trained", "all 20 images were trained on by the run"), ("held_out", "all 10 images of the class class-0 were held out")],
)
def test_nothing_new_is_refused_with_the_reason(past: str, reason: str) -> None:
    pool = make_pool([10, 10])
    with pytest.raises(DataError, match=reason):
        split.held_out(pool, 0.3, 0, Past(**{past: pack(pool.identities)}))
