"""service/bulk/decoder.py: pixels as the service decodes them, and a code of the API for what is no image."""

import threading
from pathlib import Path

import numpy as np

from models.image.limits import LIMITS, Limits
from models.image.preprocess import preprocess
from models.image.spec import InputSpec
from service.bulk.decoder import Decoder, Memory
from service.bulk.errors import Failure
from service.bulk.item import Item, LocalFile
from tests.factories import make_image, png_header
from tests.service.bulk.bytes_items import items

SPEC = InputSpec(height=32, width=32, resize=36)


def test_images_become_the_pixels_of_the_service_and_the_rest_keeps_its_place() -> None:
    good = [make_image("JPEG", 900, 700), make_image("PNG", seed=1), make_image("WEBP", seed=2)]
    found = Decoder(SPEC, LIMITS, 10**6, 10**9)(items(good[0], b"text", good[1], b"", png_header(9000, 9000), good[2]))
    np.testing.assert_array_equal(found.pixels, np.stack([preprocess(data, SPEC) for data in good]))
    codes = [failure and failure.code for failure in found.failures]
    assert codes == [None, "unsupported_format", None, "undecodable_image", "image_too_large", None]
    merged = found.merge("abc")
    assert [each if isinstance(each, str) else each.code for each in merged] == [
        *("a", "unsupported_format", "b", "undecodable_image", "image_too_large", "c")
    ]


def test_limits_are_those_of_the_settings() -> None:
    (failure,) = Decoder(SPEC, Limits(100, 100), 10**6, 10**9)(items(make_image())).failures
    assert failure == Failure(
        "image_too_large", "image has 0.003 MP (64x48 pixels), the limit is 0.0001 MP (HUBEL_MAX_PIXELS); send a smaller one"
    )


def test_files_that_are_not_there_or_too_long_are_told(tmp_path: Path) -> None:
    (tmp_path / "long.jpg").write_bytes(bytes(101))
    paths = [str(tmp_path / name) for name in ("gone.jpg", "long.jpg")]
    found = Decoder(SPEC, LIMITS, 100, 10**9)([Item(path, "", LocalFile(path)) for path in paths])
    assert found.failures == [
        Failure("unreadable", "it cannot be read: No such file or directory"),
        Failure("body_too_large", "the file has 101 bytes, the limit is 100 (HUBEL_MAX_BODY_BYTES); make it smaller"),
    ]
    assert len(found.pixels) == 0


def test_a_file_that_gives_more_than_it_says_is_bounded() -> None:
    (failure,) = Decoder(SPEC, LIMITS, 100, 10**9)([Item("zero", "", LocalFile("/dev/zero"))]).failures
    assert failure
    assert failure.code == "body_too_large"


def test_large_images_wait_for_memory_and_one_that_needs_more_than_there_is_has_all() -> None:
    memory = Memory(100)
    second = threading.Event()

    def take() -> None:
        with memory.taken(60):
            second.set()

    with memory.taken(1000):
        waiting = threading.Thread(target=take)
        waiting.start()
        assert not second.wait(0.05)
    assert second.wait(60)
    waiting.join()
    assert memory.left == 100
