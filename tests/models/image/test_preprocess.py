"""What decode and fit make of whole images: colours, transparency, orientation, geometry."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from models.image.preprocess import MARGIN, SCALED_FROM, Header, Pixels, Stored, decode, denominator, fit, preprocess, upright
from models.image.spec import InputSpec, Interpolation
from tests.factories import encode, make_image, make_picture

ORIENTATION = 0x0112
SCALED = InputSpec(height=128, width=112, resize=144)  # decodes a JPEG at a fraction from 864 pixels on
STORED = {  # how a camera that was held so stores the upright picture (EXIF 2.3, figure 6)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def pixels(image: Image.Image) -> Pixels:
    assert image.mode == "RGB"
    return np.asarray(image)


def whole(data: bytes) -> Image.Image:
    """The upright image of a file, at its full size."""
    stored = decode(data)
    return upright(stored.image, stored.orientation)


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(pixels(one), pixels(other))


def difference(one: NDArray[np.generic], other: NDArray[np.generic]) -> NDArray[np.float64]:
    assert one.shape == other.shape
    return np.abs(one.astype(float) - other.astype(float))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def raw_png(samples: NDArray[np.uint16], colour_type: int) -> bytes:
    """PNG of 16-bit samples, which Pillow does not write in colour."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks.items()
    )


@pytest.mark.parametrize("orientation", list(STORED))
@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [("PNG", {}, 0), ("WEBP", {"lossless": True}, 0), ("JPEG", {"quality": 98, "subsampling": 0}, 8)],
    ids=["png", "webp", "jpeg"],
)
def test_every_exif_orientation_gives_the_upright_picture(
    orientation: int, format: str, options: dict[str, Any], tolerance: int
) -> None:
    upright = np.asarray(make_picture(40, 24))
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    decoded = whole(encode(stored, format, exif=exif(orientation), **options))
    assert difference(pixels(decoded), upright).max() <= tolerance


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    assert same(whole(make_image("PNG", exif=exif(orientation))), make_picture())


@pytest.mark.parametrize(
    ("tag", "kind"), [(0x0100, 2), (0x010E, 5), (0x011A, 1)], ids=["width-as-text", "text-as-fraction", "fraction-as-bytes"]
)
def test_odd_exif_tags_do_not_hinder_the_rotation(tag: int, kind: int) -> None:
    directory = struct.pack(">HHHIHHHHI4sI", 2, ORIENTATION, 3, 1, 6, 0, tag, kind, 1, b"\0\0\0\x1a", 0)
    data = make_image("PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + directory + bytes(32))
    assert np.array_equal(pixels(whole(data)), np.rot90(np.asarray(make_picture()), -1))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_does_not_condemn_the_pixels(format: str) -> None:
    assert same(whole(make_image(format, exif=b"Exif\0\0no TIFF at all")), whole(make_image(format)))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_opaque_png_decodes_to_the_colours_that_went_in(mode: str) -> None:
    picture = make_picture(61, 47, mode)
    assert same(whole(encode(picture)), picture.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_transparency_is_composited_on_white(format: str, mode: str) -> None:
    picture = make_picture(61, 256, mode)
    rgba = np.asarray(picture.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    assert alpha.min() == 0
    assert alpha.max() == 1
    assert difference(pixels(whole(encode(picture, format, **options))), expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_marked_as_transparent_becomes_white(mode: str) -> None:
    picture = Image.new("RGB", (4, 2), (10, 10, 10))
    picture.paste((200, 200, 200), (0, 0, 2, 2))
    picture = picture.convert(mode, palette=Image.Palette.ADAPTIVE, colors=2) if mode == "P" else picture.convert(mode)
    marked = picture.getpixel((0, 0))
    decoded = pixels(whole(encode(picture, transparency=marked)))
    assert (decoded[:, :2] == 255).all()
    assert (decoded[:, 2:] == 10).all()


def test_palette_entries_may_be_half_transparent() -> None:
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([0, 0, 0, 100, 100, 100])
    picture.putpixel((1, 0), 1)
    assert pixels(whole(encode(picture, transparency=bytes([51, 255])))).tolist() == [[[204] * 3, [100] * 3]]


@pytest.mark.parametrize(
    ("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["grey", "colour", "grey-alpha", "colour-alpha"]
)
def test_16_bit_png_is_scaled_to_8_bits(colour_type: int, channels: int) -> None:
    ramp = np.linspace(0, 65535, 40).astype(np.uint16).reshape(5, 8, 1)
    samples = np.repeat(ramp, channels, axis=2)
    if channels in (2, 4):
        samples[..., -1] = 65535
    expected = np.repeat(ramp / 257, 3, axis=2)
    rounding = 0.5 if colour_type == 0 else 1  # Pillow keeps the high byte of all but grey
    assert difference(pixels(whole(raw_png(samples, colour_type))), expected).max() <= rounding


def test_cmyk_jpeg_keeps_its_colours() -> None:
    decoded = whole(make_image("JPEG", mode="CMYK", quality=95))
    assert difference(pixels(decoded), np.asarray(make_picture())).mean() < 2


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"optimize": True}, {"subsampling": 2}, {"restart_marker_rows": 1}], ids=str
)
@pytest.mark.parametrize(("mode", "size"), [("RGB", (64, 48)), ("RGB", (33, 17)), ("L", (7, 50)), ("RGB", (1, 1))])
def test_the_fast_jpeg_path_decodes_as_pillow_does(mode: str, size: tuple[int, int], options: dict[str, Any]) -> None:
    data = make_image("JPEG", *size, mode=mode, **options)
    with Image.open(BytesIO(data)) as image:
        assert same(whole(data), image.convert("RGB"))


@pytest.mark.parametrize("height", [999, 1000])
def test_pixels_that_are_copied_and_pixels_that_are_taken_over_give_the_same(height: int) -> None:
    data = make_image("JPEG", 1000, height)
    with Image.open(BytesIO(data)) as image:
        expected = fit(Stored(image.convert("RGB")), SCALED)
    stored = decode(data)
    assert stored.image.mode == ("RGBX" if height == 1000 else "RGB")
    assert np.array_equal(fit(stored, SCALED), expected)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "blue", "lime")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    with Image.open(BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert same(whole(data), frames[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 3), (31, 37), (233, 225)], ids=str)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_any_size_fills_the_whole_input(format: str, size: tuple[int, int]) -> None:
    data = encode(Image.new("RGB", size, (200, 100, 50)), format)
    made = preprocess(data, InputSpec(height=24, width=32, resize=36))
    assert made.shape == (24, 32, 3)
    assert made.dtype == np.uint8
    assert difference(made, np.broadcast_to([200, 100, 50], made.shape)).max() <= 4


def reference(image: Image.Image, spec: InputSpec, resampling: Image.Resampling) -> Pixels:
    """The two steps by Pillow's simplest means: resize the whole image, then crop."""
    scale = spec.resize / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), resampling)
    left, top = (image.width - spec.width) // 2, (image.height - spec.height) // 2
    return np.asarray(image.crop((left, top, left + spec.width, top + spec.height)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(400, 300), (300, 400), (40, 30), (500, 375)], ids=str)
def test_fit_agrees_with_resize_and_crop(size: tuple[int, int], interpolation: Interpolation) -> None:
    image = make_picture(*size)
    spec = InputSpec(height=32, width=30, resize=36, interpolation=interpolation)
    expected = reference(image, spec, Image.Resampling[interpolation.upper()])
    assert difference(fit(Stored(image), spec), expected).max() <= 3


def test_fit_takes_the_centre() -> None:
    image = Image.new("RGB", (90, 30), "red")
    image.paste("blue", (30, 0, 60, 30))
    made = fit(Stored(image), InputSpec(height=10, width=10, resize=10))
    assert (made[:, 1:9] == (0, 0, 255)).all()  # the outermost columns mix with the red beside them


def test_interpolation_nearest_mixes_no_colours() -> None:
    checks = (np.indices((50, 70)).sum(axis=0) % 2 * 255).astype(np.uint8)
    made = fit(Stored(Image.fromarray(checks).convert("RGB")), InputSpec(height=32, width=32, resize=32, interpolation="nearest"))
    assert set(np.unique(made)) == {0, 255}


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_an_image_of_the_right_size_is_left_as_it_is(interpolation: Interpolation) -> None:
    image = make_picture(32, 32)
    assert np.array_equal(fit(Stored(image), InputSpec(32, 32, 32, interpolation)), np.asarray(image))


def test_an_image_of_the_right_scale_is_only_cropped() -> None:
    image = make_picture(48, 36)
    assert np.array_equal(fit(Stored(image), InputSpec(height=32, width=32, resize=36)), np.asarray(image)[2:34, 8:40])


@pytest.mark.parametrize("side", [29, 225, 232, 471, 507])
def test_a_crop_as_large_as_the_resized_side_never_leaves_the_image(side: int) -> None:
    made = fit(Stored(make_picture(side, side)), InputSpec(height=224, width=224, resize=224))
    assert made.shape == (224, 224, 3)


FRACTIONS = [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (100, 8)]  # how often MARGIN x resize fits in, and what follows


@pytest.mark.parametrize(("times", "n"), FRACTIONS)
@pytest.mark.parametrize("resize", [128, 256, 300])
def test_a_jpeg_is_decoded_at_a_fraction_that_leaves_the_margin(times: int, n: int, resize: int) -> None:
    side = times * MARGIN * resize
    spec = InputSpec(height=100, width=128, resize=resize)
    assert denominator(Header("jpeg", side, 2 * side), spec) == n
    assert denominator(Header("jpeg", 2 * side, side), spec) == n
    if n == times:
        assert denominator(Header("jpeg", side - 1, 2 * side), spec) < n or n == 1


@pytest.mark.parametrize(
    "spec",
    [None, InputSpec(32, 32, SCALED_FROM - 1), InputSpec(32, 32, 128, "nearest")],
    ids=["no spec", "small input", "nearest"],
)
def test_a_jpeg_is_decoded_whole_where_every_pixel_counts(spec: InputSpec | None) -> None:
    assert denominator(Header("jpeg", 9000, 9000), spec) == 1


def make_photograph(width: int, height: int, **options: Any) -> bytes:
    """A smooth picture under the grain that photographs have."""
    grain = np.random.default_rng(0).normal(0, 8, (height, width, 1))
    picture = np.asarray(make_picture(width, height)) + grain
    return encode(Image.fromarray(picture.clip(0, 255).astype(np.uint8)), "JPEG", quality=90, **options)


def plain(data: bytes, spec: InputSpec) -> Pixels:
    """The same geometry on all pixels of the file."""
    return fit(decode(data), spec)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(1000, 864), (865, 1001), (900, 2011)], ids=str)
def test_a_fraction_of_the_pixels_gives_nearly_the_same_input(size: tuple[int, int], mode: str) -> None:
    with Image.open(BytesIO(make_photograph(*size))) as image:
        data = encode(image.convert(mode), "JPEG", quality=90)
    width, height = size
    stored = decode(data, spec=SCALED)
    assert stored.image.size == ((width + 1) // 2, (height + 1) // 2)
    assert stored.overhang == (width % 2 / 2, height % 2 / 2)
    apart = difference(preprocess(data, SCALED), plain(data, SCALED))
    assert 0 < apart.mean() < 0.6
    assert apart.max() <= 8


@pytest.mark.parametrize("n", [2, 4, 8])
def test_the_content_does_not_move_when_a_side_does_not_divide(n: int) -> None:
    """A ramp shows a shift: one column further is brighter by 255 / side."""
    side = n * MARGIN * 128 + 1
    ramp = np.broadcast_to(np.linspace(0, 255, side), (side, side))
    data = encode(Image.fromarray(ramp.astype(np.uint8)), "JPEG", quality=95)
    spec = InputSpec(height=128, width=128, resize=128)
    assert decode(data, spec=spec).image.size == (side // n + 1, side // n + 1)
    made, expected = preprocess(data, spec).astype(float), plain(data, spec).astype(float)
    assert abs((made - expected).mean()) < 0.1
    assert difference(made, expected).max() <= 2


@pytest.mark.parametrize("orientation", list(STORED))
def test_a_fraction_is_turned_upright_as_the_whole_is(orientation: int) -> None:
    upright_picture = np.asarray(make_picture(1001, 867))
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright_picture)))
    data = encode(stored, "JPEG", quality=95, exif=exif(orientation))
    assert max(decode(data, spec=SCALED).image.size) == 501
    made = preprocess(data, SCALED)
    assert made.shape == (128, 112, 3)
    assert difference(made, fit(Stored(Image.fromarray(upright_picture)), SCALED)).mean() < 1


def test_what_libjpeg_warns_of_is_decoded_at_the_same_fraction_by_pillow() -> None:
    data = make_photograph(1001, 867)
    at = data.index(b"\xff\xda")
    odd = data[:at] + bytes(16) + data[at:]  # bytes that belong to no segment: libjpeg warns and goes on
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(odd)
    stored = decode(odd, spec=SCALED)
    assert (stored.image.mode, stored.image.size, stored.overhang) == ("RGB", (501, 434), (0.5, 0.5))
    assert np.array_equal(preprocess(odd, SCALED), preprocess(data, SCALED))


def test_png_and_webp_are_decoded_whole() -> None:
    for format in ("PNG", "WEBP"):
        assert decode(make_image(format, 900, 900), spec=SCALED).image.size == (900, 900)
