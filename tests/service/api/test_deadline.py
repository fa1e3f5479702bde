"""service/api/deadline.py: how long a request may take, and what is said where an answer comes too late."""

import pytest

from service.api.deadline import Deadline
from service.errors import InvalidParameter
from service.http.request import nothing, parse_head

LIMIT = 10_000


def make_deadline(header: str | None = None) -> Deadline:
    headers = [] if header is None else [(b"x-deadline-ms", header.encode())]
    scope = {"method": "POST", "path": "/v1/classify", "query_string": b"", "headers": headers}
    return Deadline(parse_head(scope, nothing), LIMIT)


@pytest.mark.parametrize(("header", "ms"), [(None, LIMIT), ("1", 1), ("50", 50), ("10001", LIMIT), ("999999999", LIMIT)])
def test_a_client_may_allow_less_time_than_the_service_and_no_more(header: str | None, ms: int) -> None:
    limit = make_deadline(header)
    assert (limit.ms, limit.chosen) == (ms, ms < LIMIT)


@pytest.mark.parametrize("header", ["", "0", "-1", "1.5", "x", "1000000000", "\u0663"])
def test_what_is_no_number_of_milliseconds_is_refused(header: str) -> None:
    with pytest.raises(InvalidParameter, match="it must be a whole number of milliseconds from 1 on"):
        make_deadline(header)


@pytest.mark.parametrize(
    ("header", "name", "way"), [(None, "HUBEL_DEADLINE_MS", "; send it faster, or less"), ("50", "X-Deadline-Ms", "allow")]
)
def test_whose_body_is_slow_is_told_which_limit_it_met(header: str | None, name: str, way: str) -> None:
    said = make_deadline(header).describe_body("less")
    assert f"({name})" in said
    assert way in said


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
    said = make_deadline(str(limit_ms)).describe_delay(images, stages)
    assert said.startswith(f"no answer to {'1 image' if images == 1 else f'{images} images'} within {limit_ms} ms (")
    assert spent in said
    assert said.endswith(ways)
    assert ("fewer images" in said) == (images > 1)
