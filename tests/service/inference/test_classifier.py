"""A package computed without a server, in batches."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import ImageError
from service.inference.classifier import Classifier
from tests.factories import LABELS, encode, make_image, make_package

IMAGES = [make_image("PNG", 40, 30, seed=seed, color=color) for seed, color in enumerate(LABELS)]


@pytest.fixture(scope="module")
def classifier(tiny_store: Path) -> Classifier:
    return Classifier.load(tiny_store / "tiny" / "1", device="cpu")


def test_a_batch_is_answered_in_order_and_as_its_images_alone(classifier: Classifier) -> None:
    assert [answer.label for answer in classifier.classify(IMAGES)] == list(LABELS)
    assert [ranking.top[0].label for ranking in classifier.top_k(IMAGES, k=2)] == list(LABELS)
    alone = np.concatenate([classifier.features([image]) for image in IMAGES])
    np.testing.assert_allclose(classifier.features(IMAGES), alone, atol=1e-6)


def test_features_have_length_1_unless_asked_for_as_they_are(classifier: Classifier) -> None:
    unit, plain = (classifier.features(IMAGES, normalize) for normalize in (True, False))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5)


def test_a_package_that_tells_novelty_is_unsure_of_what_is_novel(tmp_path: Path) -> None:
    light, dark = (encode(Image.new("RGB", (32, 32), shade)) for shade in ((255, 160, 160), (60, 0, 0)))  # both surely red
    knowing = Classifier.load(make_package(tmp_path, novelty=0.5), device="cpu")
    novel, usual = knowing.classify([light, dark])
    assert novel.novelty == pytest.approx((255 + 2 * 160) / 3 / 255, abs=1e-3)
    assert (novel.label, usual.label) == ("red", "red")
    assert (novel.unsure, usual.unsure) == (True, False)
    assert [ranking.unsure for ranking in knowing.top_k([light, dark], k=2)] == [True, False]


def test_a_package_without_novelty_tells_none(classifier: Classifier) -> None:
    assert [answer.novelty for answer in classifier.classify(IMAGES)] == [None] * len(IMAGES)


def test_no_image_is_no_answer_and_what_is_none_is_told(classifier: Classifier) -> None:
    assert classifier.classify([]) == []
    assert len(classifier.features([])) == 0
    with pytest.raises(ImageError):
        classifier.classify([IMAGES[0], b"no image"])
