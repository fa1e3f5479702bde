"""service/bulk/local.py: the answers of the service, in batches, and a bad image fails alone."""

from pathlib import Path

import pytest

from models.package.prediction import Classification
from service.bulk import local
from service.bulk.errors import BulkError, Failure
from service.bulk.item import Item
from service.bulk.local import LocalModel
from service.inference.backends.choice import DeviceLost
from service.inference.classifier import Classifier
from service.settings import Settings
from tests.factories import LABELS, encode, make_image, make_package, make_picture
from tests.service.bulk.bytes_items import items

IMAGES = [make_image("JPEG", 90, 70, seed=seed, color=LABELS[seed % 3]) for seed in range(40)]


def config(store: Path, **changes: object) -> Settings:
    return Settings(store=str(store), model="tiny", device="cpu", **changes)  # type: ignore[arg-type]


def test_answers_are_those_of_the_package_alone_in_order(tiny_store: Path) -> None:
    model = LocalModel(config(tiny_store, decode_threads=3))
    found = model.classify(items(*IMAGES[:20], b"no image", *IMAGES[20:]))
    alone = Classifier.load(tiny_store / "tiny" / "1", device="cpu")
    answers = [answer for _, answer in found]
    assert isinstance(bad := answers.pop(20), Failure)
    assert bad.code == "unsupported_format"
    assert answers == [alone.classify([image])[0] for image in IMAGES]
    assert [item.path for item, _ in found] == [str(number) for number in range(41)]


def test_what_an_output_depends_on_is_told(tiny_store: Path) -> None:
    facts = LocalModel(config(tiny_store)).facts
    assert facts["model"] == "tiny:1"
    assert len(facts["package"]) == 64
    assert " in fp32" in facts["computed by"]
    assert LocalModel(config(tiny_store, max_pixels=1000)).facts["limits"] != facts["limits"]


def test_an_image_on_which_the_graph_fails_fails_alone(tmp_path: Path) -> None:
    make_package(tmp_path, graph={"poison": True})
    white = encode(make_picture(32, 32).point(lambda _: 255))
    found = LocalModel(config(tmp_path, precision="fp32")).classify(items(IMAGES[0], white, IMAGES[1]))
    kinds = [type(answer) for _, answer in found]
    assert kinds == [Classification, Failure, Classification]
    assert isinstance(bad := found[1][1], Failure)
    assert bad.code == "internal_error"


def test_a_lost_gpu_ends_the_run(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LocalModel(config(tiny_store))

    def lose(*_: object) -> None:
        raise DeviceLost("gone")

    monkeypatch.setattr(model.session, "run", lose)
    with pytest.raises(BulkError, match="the GPU failed; run the same command again"):
        model.classify(items(*IMAGES))


def test_a_device_that_is_not_there_is_told(tiny_store: Path) -> None:
    with pytest.raises(BulkError, match="cuda"):
        local.load(Settings(store=str(tiny_store), model="tiny", device="cuda"))


def test_items_are_read_by_the_threads_and_not_ahead_of_all(tiny_store: Path) -> None:
    read: list[int] = []

    class Counted:
        def __init__(self, number: int) -> None:
            self.number = number

        def read(self, limit: int) -> bytes:
            read.append(self.number)
            return IMAGES[0]

    model = LocalModel(config(tiny_store, decode_threads=1, max_batch=4))
    parts = model.classify_all([Item(str(number), "", Counted(number)) for number in range(400)])
    next(parts)
    parts.close()
    assert 4 <= len(read) <= 4 * 5
