"""training/inspection/facts.py: what is measured of one image file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from models.errors import ImageError
from tests.factories import encode, make_image, make_picture
from tests.training.data.factories import photo
from tests.training.factories import make_folder
from training.data.sources.catalogue import open_source
from training.inspection.facts import examine_file, look, sharpness


def test_sizes_are_of_the_image_as_it_is_seen() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    upright, _ = examine_file(make_image("JPEG", 90, 60))
    turned, _ = examine_file(make_image("JPEG", 90, 60, exif=exif))

    assert (upright.format, upright.width, upright.height, upright.turned) == ("jpeg", 90, 60, False)
    assert (turned.width, turned.height, turned.turned) == (60, 90, True)


@pytest.mark.parametrize(("mode", "coloured"), [("RGB", True), ("L", False)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_grey_images_are_told_from_coloured_ones(format: str, mode: str, coloured: bool) -> None:
    image = make_picture(80, 60, mode).convert("RGB")  # stored in colours even where it is grey

    assert examine_file(encode(image, format))[0].coloured is coloured


def test_the_same_pixels_in_another_format_have_the_same_digest() -> None:
    picture = make_picture(seed=1)
    png, webp, other = (
        examine_file(data)[0] for data in (encode(picture), encode(picture, "WEBP", lossless=True), make_image("PNG"))
    )

    assert png.pixels == webp.pixels != other.pixels
    assert png.file != webp.file


def test_pixels_in_another_shape_are_another_picture() -> None:
    pixels = np.full((20, 30, 3), 7, np.uint8)

    lying, standing = (examine_file(encode(Image.fromarray(array)))[0] for array in (pixels, pixels.transpose(1, 0, 2)))

    assert lying.pixels != standing.pixels


def test_brightness_is_that_of_the_pixels() -> None:
    pixels = np.full((64, 64), 100, np.uint8)
    pixels[:, :32] = 40

    facts, small = examine_file(encode(Image.fromarray(pixels)))

    assert small.shape == (32, 32)
    assert (facts.low, facts.high) == (40, 100)
    assert facts.deviation == pytest.approx(30, abs=1)


def test_sharpness_falls_with_blur_and_hardly_with_contrast() -> None:
    image = photo(0)
    measured = [sharpness(image.filter(ImageFilter.GaussianBlur(radius))) or 0 for radius in (0, 1, 2, 4)]
    pale = sharpness(Image.eval(image, lambda value: 100 + value // 4))

    assert measured == sorted(measured, reverse=True)
    assert measured[0] > 5 * measured[3]
    assert pale == pytest.approx(measured[0], rel=0.2)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (40, 40)])
def test_what_has_no_edges_has_no_sharpness(size: tuple[int, int]) -> None:
    facts, small = examine_file(encode(Image.new("RGB", size, (9, 9, 9))))

    assert facts.sharpness is None
    assert small.std() == 0


def test_a_damaged_file_is_no_image() -> None:
    with pytest.raises(ImageError):
        examine_file(make_image("JPEG")[:200])


def test_every_part_is_looked_at_and_what_is_left_out_is_named_by_part(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=2)
    make_folder(tmp_path / "test", each=1)
    (tmp_path / "test" / "red" / "bad.png").write_text("hello")

    found = look(open_source(tmp_path))

    assert found.splits == ["train"] * 6 + ["test"] * 3
    assert [item.label for item in found.items] == ["blue", "blue", "green", "green", "red", "red", "blue", "green", "red"]
    assert len(found.facts) == len(found.small) == len(found) == 9
    assert found.left_out["train"] == []
    (line,) = found.left_out["test"]
    assert line.startswith(f"{tmp_path}/test/red/bad.png: ")
