"""What InputSpec takes and refuses."""

from typing import Any

import msgspec
import pytest

from models.image.spec import InputSpec

FIELDS: dict[str, Any] = {"height": 224, "width": 192, "resize": 256, "interpolation": "bicubic"}


def test_fields_come_back_as_they_went_in() -> None:
    spec = msgspec.json.decode(msgspec.json.encode(FIELDS), type=InputSpec)
    assert spec == InputSpec(height=224, width=192, resize=256, interpolation="bicubic")
    assert msgspec.to_builtins(spec) == FIELDS


def test_interpolation_is_bilinear_unless_said() -> None:
    assert InputSpec(height=32, width=32, resize=32).interpolation == "bilinear"


@pytest.mark.parametrize(("height", "width"), [(257, 10), (10, 257)], ids=["height", "width"])
def test_a_crop_larger_than_the_resized_side_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{height}x{width} is larger than the resized shorter side, 256; raise resize"):
        InputSpec(height=height, width=width, resize=256)


def test_a_crop_as_large_as_the_resized_side_is_taken() -> None:
    assert InputSpec(height=256, width=256, resize=256).height == 256


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"height": 0}, r"\$.height"),
        ({"width": -1}, r"\$.width"),
        ({"resize": 4097}, r"\$.resize"),
        ({"height": 1.5}, r"\$.height"),
        ({"interpolation": "cubic"}, r"\$.interpolation"),
        ({"mean": [0.5, 0.5, 0.5]}, "unknown field `mean`"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_field_that_does_not_fit_is_named(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=path):
        msgspec.convert(FIELDS | changes, InputSpec)


def test_a_field_that_lacks_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `resize`"):
        msgspec.convert({"height": 32, "width": 32}, InputSpec)
