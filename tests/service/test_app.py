"""service/app.py: what is said where an answer comes too late."""

import pytest

from service.app import SETTINGS, describe_delay

LIMIT = SETTINGS.deadline_ms


@pytest.mark.parametrize(
    ("images", "stages", "limit_ms", "spent", "ways"),
    [
        (1, {"read": 0.002, "decode": 0.05}, LIMIT, "2 ms of these", "waiting and computing; try again"),
        (1, {"read": 0.5, "decode": 9.0}, LIMIT, "9000 with decoding, 500 with", "; send a smaller image, or try again"),
        (3, {"read": 0.5, "decode": 9.0}, LIMIT, "9000 with decoding, 500 with", "; send fewer images at once, or try again"),
        (
            1,
            {"read": 0.001},
            50,
            "0 with decoding, 49 with waiting",
            f"computing; allow more time (X-Deadline-Ms, at most {LIMIT}), or try again",
        ),
        (2, {"read": 0.1, "decode": 0.2}, 100, "200 with decoding, 0 with", "try again"),
    ],
)
def test_who_waited_in_vain_is_told_where_the_time_went_and_what_helps(
    images: int, stages: dict[str, float], limit_ms: int, spent: str, ways: str
) -> None:
    said = describe_delay(images, stages, limit_ms)
    assert said.startswith(f"no answer to {'1 image' if images == 1 else f'{images} images'} within {limit_ms} ms (")
    assert spent in said
    assert said.endswith(ways)
    assert ("fewer images" in said) == (images > 1)
