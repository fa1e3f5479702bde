"""Stage postprocess: logits and features of one image become its result."""

import math
from base64 import b64decode

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.package.manifest import Manifest
from models.package.prediction import Prediction
from service.inference.postprocess import Encoding, classify, encode_features, rank
from tests.factories import make_manifest


def row(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def manifest(temperature: float = 1.0, threshold: float = 0.5, labels: tuple[str, ...] = ("cat", "dog", "owl")) -> Manifest:
    return make_manifest(labels=labels, temperature=temperature, threshold=threshold)


def test_the_likeliest_class_is_the_answer() -> None:
    answer = classify(row(0, 3, 1), manifest())
    assert answer.label == "dog"
    assert answer.probability == pytest.approx(math.exp(3) / (1 + math.exp(3) + math.e), abs=1e-6)
    assert answer.unsure is False


def test_a_higher_temperature_lowers_the_probability_and_keeps_the_label() -> None:
    cool, warm = (classify(row(0, 3, 1), manifest(temperature)) for temperature in (1.0, 4.0))
    assert warm.label == cool.label
    assert warm.probability < cool.probability


def test_an_answer_below_the_threshold_is_unsure() -> None:
    logits = row(0, 0, 0)  # each class a third
    assert classify(logits, manifest(threshold=0.34)).unsure is True
    assert rank(logits, manifest(threshold=0.34), 2).unsure is True
    assert classify(logits, manifest(threshold=0.33)).unsure is False
    assert rank(logits, manifest(threshold=0.33), 2).unsure is False


def test_a_probability_equal_to_the_threshold_is_sure() -> None:
    assert classify(row(0, 0), manifest(threshold=0.5, labels=("cat", "dog"))).unsure is False


@pytest.mark.parametrize(("novelty", "unsure"), [(0.2, False), (0.97, False), (0.98, True)])
def test_a_probable_class_of_a_novel_image_is_unsure(novelty: float, unsure: bool) -> None:
    knowing = msgspec.structs.replace(
        manifest(), outputs=manifest().outputs | {"novelty": [1]}, novelty_threshold=float(np.float32(0.97).round(6))
    )
    logits = row(0, 9, 0)
    for answer in (classify(logits, knowing, row(novelty)), rank(logits, knowing, 2, row(novelty))):
        assert answer.unsure is unsure
        assert answer.novelty == pytest.approx(novelty, abs=1e-6)


def test_an_improbable_class_is_unsure_however_usual_the_image_is() -> None:
    assert classify(row(0, 0, 0), manifest(threshold=0.34), row(0)).unsure is True


def test_of_a_package_without_the_output_no_novelty_is_told() -> None:
    answer = classify(row(0, 9, 0), manifest())
    assert answer.novelty is None
    assert b"novelty" not in msgspec.json.encode(answer)


def test_top_k_is_in_falling_order() -> None:
    ranking = rank(row(0, 3, 1), manifest(), 3)
    assert [prediction.label for prediction in ranking.top] == ["dog", "owl", "cat"]
    shares = [prediction.probability for prediction in ranking.top]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=3e-6)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_has_k_entries_and_begins_with_the_answer_of_classify(k: int) -> None:
    logits = row(0.2, -1, 0.7)
    ranking, answer = rank(logits, manifest(), k), classify(logits, manifest())
    assert len(ranking.top) == k
    assert ranking.top[0] == Prediction(answer.label, answer.probability)
    assert ranking.unsure is answer.unsure


def test_equal_classes_keep_the_model_s_order() -> None:
    ranking = rank(row(1, 2, 2), manifest(), 3)
    assert [prediction.label for prediction in ranking.top] == ["dog", "owl", "cat"]
    assert classify(row(1, 2, 2), manifest()).label == "dog"


def test_normalised_features_have_length_one_and_the_same_direction() -> None:
    numbers = encode_features(row(3, 0, 4), True, "float").features
    assert numbers == pytest.approx([0.6, 0, 0.8], abs=1e-7)


def test_features_as_they_are_keep_their_length() -> None:
    assert encode_features(row(3, 0, 4), False, "float").features == [3, 0, 4]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_zero_vector_stays_zero(encoding: Encoding) -> None:
    features = encode_features(row(0, 0, 0), True, encoding).features
    decoded = np.frombuffer(b64decode(features), "<f4").tolist() if isinstance(features, str) else features
    assert decoded == [0, 0, 0]


def test_base64_holds_little_endian_float32_exactly() -> None:
    features = np.random.default_rng(0).normal(0, 3, 64).astype(np.float32)
    text = encode_features(features, False, "base64").features
    assert isinstance(text, str)
    assert np.array_equal(np.frombuffer(b64decode(text, validate=True), "<f4"), features)


def test_both_encodings_say_the_same() -> None:
    features = np.random.default_rng(1).normal(0, 3, 64).astype(np.float32)
    text, numbers = (encode_features(features, True, encoding).features for encoding in ("base64", "float"))
    assert isinstance(text, str)
    assert np.frombuffer(b64decode(text), "<f4") == pytest.approx(numbers, abs=1e-7)
    assert np.linalg.norm(np.array(numbers, np.float64)) == pytest.approx(1, abs=1e-6)
