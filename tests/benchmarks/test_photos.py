"""The photographs that are made are the same every time, and are photographs to a decoder."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.photos import COMMON, LARGER, LARGER_EVERY, load_photos, make_photo, spaced
from models.image.preprocess import preprocess
from models.image.spec import InputSpec
from tests.factories import make_image


def test_made_photographs_are_the_same_for_the_same_seed() -> None:
    assert make_photo(3) == make_photo(3)
    assert make_photo(3) != make_photo(3, seed=1)
    assert make_photo(3) != make_photo(4)


@pytest.mark.parametrize("number", [0, 1, LARGER_EVERY - 1])
def test_made_photographs_have_the_sizes_of_photographs_and_decode(number: int) -> None:
    photo = make_photo(number)
    size = Image.open(BytesIO(photo)).size
    assert size in (LARGER if number == LARGER_EVERY - 1 else COMMON)
    assert 0.2 < len(photo) / (size[0] * size[1]) < 0.7  # bytes a pixel
    assert preprocess(photo, InputSpec(32, 32, 36)).std() > 20


def test_photographs_of_a_folder_are_found_whatever_their_suffix_is(tmp_path: Path) -> None:
    (tmp_path / "bees").mkdir()
    for i, name in enumerate(("b.jpg", "a.JPEG", "bees/c.jpeg")):
        (tmp_path / name).write_bytes(make_image(seed=i))
    (tmp_path / "notes.txt").write_text("no photograph")
    photos, words = load_photos(tmp_path)
    assert photos == [make_image(seed=1), make_image(seed=0), make_image(seed=2)]
    assert words.startswith("3 photographs of a folder (`HUBEL_BENCH_PHOTOS`), median 64x48 pixels")


def test_a_folder_without_photographs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="HUBEL_BENCH_PHOTOS"):
        load_photos(tmp_path)


def test_a_large_folder_is_thinned_evenly() -> None:
    files = [Path(str(i)) for i in range(1000)]
    assert [int(path.name) for path in spaced(files, 4)] == [0, 250, 500, 750]
    assert spaced(files[:3], 4) == files[:3]
