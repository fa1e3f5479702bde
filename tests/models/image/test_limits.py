"""How large an image may be, and that the words about a larger one make sense to who reads them."""

import pytest

from models.errors import ImageTooLarge
from models.image.limits import LIMITS, Limits, megapixels


def said_of(limits: Limits, width: int, height: int) -> ImageTooLarge:
    with pytest.raises(ImageTooLarge) as caught:
        limits.check(width, height)
    assert ": " not in str(caught.value)  # lists of what was left out are cut at ": "
    return caught.value


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((8160, 6144), id="telephone of 50 MP"),
        pytest.param((8192, 6144), id="telephone of 200 MP, at 50"),
        pytest.param((9248, 6936), id="telephone of 64 MP"),
        pytest.param((9504, 6336), id="camera of 60 MP"),
        pytest.param((4960, 7016), id="A4 at 600 dpi"),
        pytest.param((13_000, 3000), id="panorama"),
        pytest.param((16_383, 3900), id="widest WebP"),
        pytest.param((1080, 20_000), id="long screenshot"),
        pytest.param((2048, 12_288), id="cube map"),
        pytest.param((1000, 65_000), id="exactly all pixels"),
        pytest.param((65_500, 992), id="longest JPEG"),
    ],
)
def test_what_telephones_cameras_and_scanners_make_is_taken_either_way_round(size: tuple[int, int]) -> None:
    LIMITS.check(*size)
    LIMITS.check(*size[::-1])


@pytest.mark.parametrize("size", [(12_000, 9000), (16_320, 12_240), (100_000, 100_000)])
def test_more_pixels_than_decoding_should_cost_are_refused(size: tuple[int, int]) -> None:
    said_of(LIMITS, *size)


def test_limits_are_inclusive() -> None:
    Limits(12, 4).check(3, 4)
    said_of(Limits(11, 4), 3, 4)
    said_of(Limits(12, 3), 3, 4)


def test_the_message_has_the_value_the_limit_and_the_way_out() -> None:
    error = said_of(LIMITS, 12_000, 9000)
    assert str(error) == "image has 108.0 MP (12000x9000 pixels), the limit is 65 MP; make it smaller"
    assert error.limit == "max_pixels"
    error = said_of(LIMITS, 10, 65_501)
    assert str(error) == "image is 10x65501 pixels, the limit is 65500 a side; make it smaller"
    assert error.limit == "max_side_pixels"


@pytest.mark.parametrize(
    ("pixels", "limit", "shown"),
    [
        (50_135_040, 50_000_000, ("50.1", "50")),
        (50_000_001, 50_000_000, ("50.000001", "50")),
        (50_012_000, 50_000_000, ("50.01", "50")),
        (72_000_000, 65_000_000, ("72.0", "65")),
        (2000, 1999, ("0.002", "0.001999")),
        (64_144_128, 64_144_127, ("64.14413", "64.144127")),
    ],
)
def test_what_is_over_the_limit_never_reads_as_if_it_were_within(pixels: int, limit: int, shown: tuple[str, str]) -> None:
    assert megapixels(pixels, limit) == shown
