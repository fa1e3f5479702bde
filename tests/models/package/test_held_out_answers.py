"""models/package/held_out_answers.py: what is written is read; what does not fit is refused."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.package import held_out_answers
from models.package.held_out_answers import Answers
from models.package.manifest import PackageError
from tests.models.conftest import MakeStore
from tests.models.forgery import answered, forge

MADE = Answers(
    np.array([2**64 - 1, 0, 7], np.uint64),
    np.array([0, 1, -1], np.int32),
    np.array([0, 0, 2], np.int32),
    np.array([0.5, 0.25, 1], np.float32),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    held_out_answers.write(tmp_path / "a.npz", MADE)
    found = held_out_answers.read((tmp_path / "a.npz").read_bytes(), 3, tmp_path)
    for one, other in zip(found, MADE, strict=True):
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()
    assert found.top1() == pytest.approx(1 / 3)


def test_an_image_is_known_by_the_first_8_bytes_of_its_hash() -> None:
    assert held_out_answers.identity(b"picture").to_bytes(8, "big") == hashlib.sha256(b"picture").digest()[:8]


def test_logits_become_the_class_and_probability_that_the_service_gives() -> None:
    logits = np.array([[1, 3, 2], [0, 0, 5]], np.float32)
    made = held_out_answers.of_logits(np.array([1, 2], np.uint64), np.array([1, 0]), logits, temperature=2)
    assert made.predicted.tolist() == [1, 2]
    assert made.probability.tolist() == pytest.approx([1 / (1 + np.exp(-1) + np.exp(-0.5)), 1 / (1 + 2 * np.exp(-2.5))])


@pytest.mark.parametrize(
    "changes",
    [
        {"image": MADE.image.astype(np.int64)},
        {"target": MADE.target[:2]},
        {"target": np.array([0, 1, 3], np.int32)},
        {"target": np.array([0, 1, -2], np.int32)},
        {"predicted": np.array([0, 1, -1], np.int32)},
        {"predicted": np.array([0, 1, 3], np.int32)},
        {"probability": np.array([0.5, 0.5, np.nan], np.float32)},
        {"probability": np.array([0.5, 0.5, 1.5], np.float32)},
        {"image": np.array([], np.uint64)},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **(MADE._asdict() | changes))
    with pytest.raises(PackageError, match="does not hold answers for 3 classes"):
        held_out_answers.read((tmp_path / "a.npz").read_bytes(), 3, tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no archive"])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="does not hold answers"):
        held_out_answers.read(data, 3, tmp_path)


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out_answers.write(tmp_path / "a.npz", MADE)
    monkeypatch.setattr(held_out_answers, "MAX_BYTES", 100)
    with pytest.raises(PackageError, match="bytes unpacked, at most 100"):
        held_out_answers.read((tmp_path / "a.npz").read_bytes(), 3, tmp_path)


def test_a_package_with_damaged_answers_does_not_pass_the_gate(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    from models.__main__ import main

    store = make_store(tiny=1)
    forge(store, answered([0, 7], [0, 1]))
    assert main(["promote", "tiny:2", "--store", str(store)]) == 1
    assert "files: " in (err := capsys.readouterr().err)
    assert "does not hold answers for 3 classes: a class is beyond the last label" in err
