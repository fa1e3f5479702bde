"""from hubel import …: a client of the real service, and the same answers without one."""

import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pytest

import hubel
from hubel import Client, Refusal, ServiceError, load
from models.image.header import ImageError
from models.package.prediction import Classification, Ranking
from tests.conftest import StartServer
from tests.factories import LABELS, make_image
from tests.server import Server

T = TypeVar("T", Classification, Ranking)
IMAGES = [make_image("PNG", 40, 30, seed=seed, color=color) for seed, color in enumerate(LABELS)]


@pytest.mark.server
def test_a_client_and_a_model_in_this_process_answer_alike(server: Server, tiny_store: Path, tmp_path: Path) -> None:
    model, path = load("tiny", tiny_store), tmp_path / "image.png"
    with Client(f"http://127.0.0.1:{server.port}") as client:
        for image, label in zip(IMAGES, LABELS, strict=True):
            path.write_bytes(image)
            assert without_answer(client.classify(image)) == without_answer(client.classify(str(path))) == model.classify(path)
            assert client.classify(image).label == label
            assert without_answer(client.top_k(image, k=2)) == model.top_k(image, k=2)
            for normalize in (True, False):
                ours, theirs = (asked.features(image, normalize) for asked in (model, client))
                np.testing.assert_allclose(ours, theirs, atol=1e-6)
            for named in (None, LABELS[0]):
                here, there = model.explain(image, named), client.explain(image, named)
                assert there.label == (named or label)
                np.testing.assert_allclose(np.asarray(here.map.values), np.asarray(there.map.values), atol=1e-5)
                assert msgspec.structs.replace(here, map=there.map) == there
        with pytest.raises(ServiceError, match="refused with status 422: class is 'a b&c'"):
            client.explain(IMAGES[0], "a b&c")
        assert len(list(client.explain_all(IMAGES * 12))) == 36


def without_answer(result: T) -> T:
    """A result of a service as a model in this process gives it, which nobody can send feedback on."""
    assert result.answer
    return msgspec.structs.replace(result, answer="")


@pytest.mark.server
def test_feedback_and_deletion_go_by_an_answer(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(HUBEL_FEEDBACK_DIR=str(tmp_path / "kept"))
    with Client(f"http://127.0.0.1:{server.port}") as client:
        answer, ranking = client.classify(IMAGES[0]), client.top_k(IMAGES[1], k=2)
        assert client.feedback(answer, LABELS[0])
        assert not client.feedback(answer.answer, LABELS[1])
        assert client.feedback(ranking)
        assert not client.feedback(ranking, wrong=True)
        assert (client.delete(answer), client.delete(ranking.answer)) == (1, 1)
        with pytest.raises(ServiceError, match="refused with status 404: nothing is kept"):
            client.delete(answer)
        with pytest.raises(ServiceError, match="refused with status 422: label is 'violet'"):
            client.feedback(answer, "violet")
        with pytest.raises(ServiceError, match="refused with status 400: the answer has 3 characters"):
            client.delete("a b")


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
