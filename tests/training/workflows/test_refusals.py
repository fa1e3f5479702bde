"""What training leaves out and what the service refuses are the same files, for the same reasons."""

import struct
from pathlib import Path

import pytest

from models.errors import ImageError, ImageTooLarge
from models.image.limits import Limits
from models.image.preprocess import preprocess
from service.errors import ClientError
from service.inference.decode import decode
from service.settings import Settings
from service.settings import read as read_settings
from tests.hostile.mutations import png
from tests.training.factories import SPEC, make_folder
from training.data import dataset
from training.data.sources.catalogue import open_source
from training.inspection.facts import look

REFUSED = {
    "more pixels than the limit": png(9000, 8000),
    "one pixel more": png(13_000, 5001),
    "a side longer than the limit": png(65_501, 2),
    "HEIC": struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic",
    "a page": b"<!DOCTYPE html><html>" + b" " * 10_000,
    "a JPEG after a line end": b"\n\xff\xd8\xff\xe0",
    "an empty file": b"",
}


def of_service(settings: Settings) -> Limits:
    return Limits(settings.max_pixels, settings.max_side_pixels)


def test_the_limits_of_the_service_are_those_of_training_unless_it_is_set_to_others() -> None:
    assert of_service(read_settings({})) == Limits()


@pytest.mark.parametrize("file", REFUSED.values(), ids=REFUSED)
def test_what_the_service_refuses_is_left_out_of_training_with_the_same_words(file: bytes, tmp_path: Path) -> None:
    with pytest.raises(ClientError) as refused:
        decode(file, SPEC, of_service(read_settings({})))
    said = str(refused.value).replace(" (HUBEL_MAX_PIXELS); send a smaller one", "; make it smaller")
    said = said.replace(" (HUBEL_MAX_SIDE_PIXELS); send a smaller one", "; make it smaller")
    (make_folder(tmp_path, each=1) / "red" / "refused.png").write_bytes(file)

    trained = dataset.load_folder(tmp_path, SPEC).skipped
    inspected = look(open_source(tmp_path)).left_out["train"]

    assert [line.rpartition(": ")[2] for line in trained] == [said]
    assert [line.rpartition(": ")[2] for line in inspected] == [said]


def test_the_service_may_take_less_and_says_by_which_setting() -> None:
    image = png(40, 50)
    with pytest.raises(ImageError) as caught:
        preprocess(image, SPEC, Limits(1999))
    assert isinstance(caught.value, ImageTooLarge)
    with pytest.raises(ClientError, match=r"0\.002 MP \(40x50 pixels\), the limit is 0\.001999 MP \(HUBEL_MAX_PIXELS\)"):
        decode(image, SPEC, Limits(1999))
