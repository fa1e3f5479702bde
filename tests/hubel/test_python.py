"""from hubel import …: a client of the real service, and the same answers without one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hubel
from hubel import Client, Refusal, ServiceError, load
from models.image.header import ImageError
from tests.factories import LABELS, make_image
from tests.server import Server

IMAGES = [make_image("PNG", 40, 30, seed=seed, color=color) for seed, color in enumerate(LABELS)]


@pytest.mark.server
def test_a_client_and_a_model_in_this_process_answer_alike(server: Server, tiny_store: Path, tmp_path: Path) -> None:
    model, path = load("tiny", tiny_store), tmp_path / "image.png"
    with Client(f"http://127.0.0.1:{server.port}") as client:
        for image, label in zip(IMAGES, LABELS, strict=True):
            path.write_bytes(image)
            assert client.classify(image) == client.classify(str(path)) == model.classify(path)
            assert client.classify(image).label == label
            assert client.top_k(image, k=2) == model.top_k(image, k=2)
            for normalize in (True, False):
                ours, theirs = (asked.features(image, normalize) for asked in (model, client))
                np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.server
def test_many_images_are_answered_in_their_order_and_a_bad_one_in_its_place(server: Server) -> None:
    with Client(f"http://127.0.0.1:{server.port}") as client:
        *rest, bad = client.classify_all([*IMAGES * 20, b"no image"])
        assert [answer.label for answer in rest if not isinstance(answer, Refusal)] == list(LABELS) * 20
        assert isinstance(bad, Refusal)
        with pytest.raises(ServiceError, match="the image is refused: "):
            client.classify(b"no image")


def test_what_is_no_image_is_told_by_a_model_in_this_process(tiny_store: Path) -> None:
    with pytest.raises(ImageError):
        load("tiny", tiny_store).classify(b"no image")


def test_importing_the_package_costs_nothing_and_offers_what_it_names() -> None:
    code = "import sys, hubel; sys.exit(len({'numpy', 'msgspec', 'onnxruntime', 'service'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert all(getattr(hubel, name) for name in hubel.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hubel.nothing
