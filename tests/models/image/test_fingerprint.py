"""When the fingerprint of preprocessing changes and when it must not."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import models
from models.image import preprocess
from models.image.fingerprint import JPEG, LARGE, fingerprint
from models.image.preprocess import Header, decode, denominator, read_header
from models.image.spec import InputSpec

MODELS = Path(models.__file__).parent
SPEC = InputSpec(height=24, width=20, resize=28)


def test_it_is_a_sha256_in_hexadecimal() -> None:
    assert len(fingerprint(SPEC)) == 64
    assert set(fingerprint(SPEC)) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("code", "changed", "same"),
    [
        ("BACKGROUND = ", "BACKGROUND = ", True),
        ("BACKGROUND = (255, 255, 255)", "BACKGROUND = (0, 0, 0)", False),
        ('else "RGBX"', 'else "BGRX"', False),
    ],
    ids=["same code", "other background", "other colours of JPEG"],
)
def test_another_process_agrees_unless_its_code_decodes_otherwise(tmp_path: Path, code: str, changed: str, same: bool) -> None:
    shutil.copytree(MODELS, tmp_path / "models", ignore=shutil.ignore_patterns("store", "__pycache__"))
    source = (tmp_path / "models/image/preprocess.py").read_text()
    assert source.count(code) == 1
    (tmp_path / "models/image/preprocess.py").write_text(source.replace(code, changed))
    program = f"from models.image.fingerprint import *; print(fingerprint({SPEC!r}))"
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (result.stdout.strip() == fingerprint(SPEC)) is same


@pytest.mark.parametrize(
    "change",
    [{"height": 23}, {"width": 21}, {"resize": 29}, {"interpolation": "bicubic"}, {"interpolation": "nearest"}],
    ids=str,
)
def test_it_changes_with_every_part_of_the_geometry(change: dict[str, Any]) -> None:
    assert fingerprint(msgspec.structs.replace(SPEC, **change)) != fingerprint(SPEC)


def test_swapped_sides_are_another_geometry() -> None:
    assert fingerprint(InputSpec(20, 24, 28)) != fingerprint(InputSpec(24, 20, 28))


def test_its_jpeg_is_what_the_comment_says() -> None:
    assert read_header(JPEG) == Header("jpeg", 40, 24)
    assert JPEG[JPEG.index(b"\xff\xc0") + 10 :][:3] == b"\x01\x22\x00"  # component 1, sampled 2x2: halved chroma


def test_its_large_jpeg_is_what_the_comment_says() -> None:
    assert read_header(LARGE) == Header("jpeg", 1549, 1541)
    assert decode(LARGE).orientation == 6
    assert [denominator(read_header(LARGE), InputSpec(32, 32, resize)) for resize in (32, 128, 144, 256)] == [1, 4, 2, 2]


@pytest.mark.parametrize("resize", [128, 144, 256])
@pytest.mark.parametrize(("name", "value"), [("MARGIN", 100), ("SCALED_FROM", 5000)])
def test_it_changes_with_the_fraction_that_is_decoded(
    monkeypatch: pytest.MonkeyPatch, resize: int, name: str, value: int
) -> None:
    spec = InputSpec(100, 100, resize)
    before = fingerprint(spec)
    monkeypatch.setattr(preprocess, name, value)
    assert fingerprint(spec) != before
