"""A large WebP is decoded by libwebp itself: the same pixels as Pillow's, still or animated, whole or damaged."""

import struct
import sys
import threading
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageError
from models.image import preprocess, webp
from tests.factories import make_image, make_picture
from tests.hostile.costly import tiny_webp


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "UNCOPIED_FROM", 0)  # so that small ones count as large


def pixels(data: bytes) -> NDArray[np.uint8]:
    stored = preprocess.decode(data)
    return np.asarray(preprocess.upright(stored.image, stored.orientation))


def by_pillow(data: bytes, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    with monkeypatch.context() as change:
        change.setattr(preprocess, "decode_first", lambda *_: None)
        return pixels(data)


def animation(mode: str, **options: bool) -> bytes:
    """Its first frame shows in the middle alone, so that encoders store no more of it."""
    first = Image.new("RGBA", (70, 50))
    first.paste(make_picture(20, 16), (31, 17))
    file = BytesIO()
    others = [make_picture(70, 50, mode, seed=i) for i in range(2)]
    first.save(file, "WEBP", save_all=True, append_images=others, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(make_image("WEBP", 61, 47, quality=70), id="lossy"),
        pytest.param(make_image("WEBP", 61, 47, mode="RGBA", quality=70), id="lossy with transparency"),
        pytest.param(make_image("WEBP", 61, 47, lossless=True), id="lossless"),
        pytest.param(make_image("WEBP", 61, 47, mode="RGBA", lossless=True, exact=True), id="lossless with transparency"),
        pytest.param(
            make_image("WEBP", 60, 40, exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"), id="turned"
        ),
        pytest.param(animation("RGB", lossless=True), id="animated"),
        pytest.param(animation("RGBA", minimize_size=True), id="animated, as small as can be"),
    ],
)
def test_the_pixels_are_those_that_pillow_gives(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(BytesIO(data)) as image:
        assert webp.decode_first(data, image) is not None
    assert np.array_equal(pixels(data), by_pillow(data, monkeypatch))


@pytest.mark.parametrize("length", [20, 30, 60, 200, -2])
@pytest.mark.parametrize("make", [lambda: make_image("WEBP", 61, 47), lambda: animation("RGB")], ids=["still", "animated"])
def test_what_is_cut_off_is_refused(make: "type[bytes]", length: int) -> None:
    with pytest.raises(ImageError):
        pixels(make()[:length])


def test_a_frame_beyond_the_picture_is_not_written_outside_of_it() -> None:
    data = bytearray(animation("RGB", lossless=True))
    at = data.index(b"ANMF") + 8
    for width in (35, 400, 2**24 - 1):
        data[at + 6 : at + 9] = width.to_bytes(3, "little")
        with Image.open(BytesIO(animation("RGB", lossless=True))) as image:
            assert webp.decode_first(bytes(data), image) is None
    for offset in (0, 3):
        data = bytearray(animation("RGB", lossless=True))
        data[at + offset : at + offset + 3] = (32).to_bytes(3, "little")  # in steps of two pixels
        with Image.open(BytesIO(animation("RGB", lossless=True))) as image:
            assert webp.decode_first(bytes(data), image) is None


def test_a_file_whose_pixels_are_more_than_it_announces_is_left_to_pillow() -> None:
    data = make_image("WEBP", 61, 47, lossless=True)
    extended = b"VP8X" + struct.pack("<IIHBHB", 10, 0, 9, 0, 9, 0)
    body = b"WEBP" + extended + data[12:]
    with Image.open(BytesIO(make_image("WEBP", 10, 10))) as image:
        assert webp.decode_first(b"RIFF" + struct.pack("<I", len(body)) + body, image) is None


def test_other_threads_have_their_turn_while_libwebp_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data, library = tiny_webp(6000, 5000), vars(webp)["_library"]()
    turns, meanwhile, ended = 0, list[int](), threading.Event()

    def count() -> None:
        nonlocal turns
        while not ended.wait(0.001):
            turns += 1

    def decode(*args: object) -> object:
        before = turns
        result = library.WebPDecodeRGBAInto(*args)
        meanwhile.append(turns - before)
        return result

    monkeypatch.setattr(webp, "_library", lambda: SimpleNamespace(WebPGetInfo=library.WebPGetInfo, WebPDecodeRGBAInto=decode))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # a turn is given, never taken
    thread = threading.Thread(target=count)
    thread.start()
    try:
        pixels(data)
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert len(meanwhile) == 1
    assert meanwhile[0] > 0


def test_without_libwebp_pillow_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_image("WEBP", 61, 47, lossless=True)
    expected = pixels(data)
    monkeypatch.setattr(webp, "_library", lambda: None)
    assert np.array_equal(pixels(data), expected)
