"""training/data/crop.py: what is kept to cut crops out of, and how they are cut."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from tests.factories import make_image
from tests.training.factories import make_folder, make_images, make_recipe
from training.data import crop, dataset
from training.errors import DataError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("scale", [0.05, 0.35, 0.999])
@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 128), (1, 1)])
def test_what_is_kept_has_the_shape_of_the_input_and_pixels_enough_for_the_smallest_crop(
    height: int, width: int, scale: float
) -> None:
    spec = crop.wider(InputSpec(height, width, 200, "bicubic"), scale)

    assert (spec.height - 1) ** 2 < height**2 / scale <= spec.height**2 + 1e-6
    assert (spec.width - 1) ** 2 < width**2 / scale <= spec.width**2 + 1e-6
    assert spec.resize == max(spec.height, spec.width)
    assert spec.interpolation == "bicubic"


def test_without_crops_the_images_are_those_of_the_data(tmp_path: Path) -> None:
    make_folder(tmp_path, each=4)

    for ours, plain in zip(
        crop.load(tmp_path, make_recipe()), dataset.load_training(tmp_path, make_recipe().input, 0.25, 0), strict=True
    ):
        assert dataset.fingerprint(ours) == dataset.fingerprint(plain)


@pytest.mark.parametrize("validation", [True, False])
def test_only_the_training_images_are_kept_larger(validation: bool, tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=8, side=40)
    if validation:
        make_folder(tmp_path / "val", each=2, side=40, seed=50)
    plain = dataset.load_training(tmp_path, make_recipe().input, 0.25, 0)

    training, held_out = crop.load(tmp_path, make_recipe(scale=0.25))

    assert training.pixels.shape == (len(plain[0]), 16, 16, 3)
    assert training.paths == plain[0].paths
    assert dataset.fingerprint(held_out) == dataset.fingerprint(plain[1])
    shrunk = crop.cut(training.pixels[:], 8, 8, 1, "bilinear", generator())
    assert abs(shrunk.astype(float) - plain[0].pixels).mean() < 8  # the same pictures


def test_images_that_change_while_they_are_read_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "train", each=3)
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    load = dataset.load_training

    def load_and_change(*arguments: object) -> object:
        found = load(*arguments)  # type: ignore[arg-type]
        (tmp_path / "train" / "red" / "001.png").write_bytes(make_image("PNG", seed=99, color="red"))
        return found

    monkeypatch.setattr(dataset, "load_training", load_and_change)
    with pytest.raises(DataError, match=r"red/001\.png changed, or is damaged, while .* was read"):
        crop.load(tmp_path, make_recipe(scale=0.5))


def ramp(height: int, width: int) -> Pixels:
    """An image that tells, at every pixel, the place: row in red, column in green, 0 to 200 over the image."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 200 / height, columns * 200 / width, 0 * rows], 2).round().astype(np.uint8)


def test_a_crop_shows_a_box_of_the_image_stretched_to_the_input() -> None:
    image = ramp(100, 100)

    parts = crop.cut(np.stack([image] * 1500), 25, 20, 0.25, "bilinear", generator()).astype(float)

    reds, greens = parts[..., 0].mean(axis=2), parts[..., 1].mean(axis=1)  # by row, by column
    slopes = np.diff(reds, axis=1).mean(1), np.diff(greens, axis=1).mean(1)
    heights, widths = slopes[0] * 25 / 200, slopes[1] * 20 / 200  # shares of the image's
    areas = heights * widths
    assert 0.2 < areas.min() < 0.29
    assert 0.95 < areas.max() < 1.03
    np.testing.assert_allclose(np.quantile(areas, [0.25, 0.5, 0.75]), [0.4375, 0.625, 0.8125], atol=0.03)  # evenly
    ratios = widths / heights
    assert 0.7 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.45
    assert abs(np.log(ratios).mean()) < 0.02
    assert reds.min() < 3
    assert reds.max() > 195


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_whole_images_are_resized_as_pillow_does(interpolation: str) -> None:
    rough = make_images([3], height=5, width=5).pixels
    smooth = np.stack([np.asarray(Image.fromarray(i).resize((40, 30), Image.Resampling.BICUBIC)) for i in rough])

    ours = crop.cut(smooth, 12, 16, 1, interpolation, generator())  # type: ignore[arg-type]

    pillow = "bicubic" if interpolation == "lanczos" else interpolation
    theirs = [np.asarray(Image.fromarray(i).resize((16, 12), Image.Resampling[pillow.upper()])) for i in smooth]
    assert abs(ours.astype(int) - np.stack(theirs)).max() <= 1


def test_no_colour_is_invented_at_the_edges_of_a_crop() -> None:
    plain = np.full((50, 20, 20, 3), (10, 200, 90), np.uint8)

    for interpolation in ("bilinear", "bicubic"):
        assert (crop.cut(plain, 16, 16, 0.2, interpolation, generator()) == (10, 200, 90)).all()


def test_images_of_the_right_size_are_left_alone_and_none_is_drawn_for() -> None:
    pixels, drawn = make_images([4]).pixels[:], generator()

    np.testing.assert_array_equal(crop.cut(pixels, 8, 8, 1, "bilinear", drawn), pixels)

    assert torch.equal(drawn.get_state(), generator().get_state())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1)])
def test_images_of_one_pixel_can_be_cropped(height: int, width: int) -> None:
    pixels = make_images([4], height=height, width=width).pixels[:]

    assert crop.cut(pixels, height, width, 0.3, "bilinear", generator()).shape == pixels.shape
