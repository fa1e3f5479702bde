"""hubel/client.py: batches that fit, waiting as long as asked, and one message where it is of no use."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hubel import client
from hubel.client import Client, Refusal
from hubel.errors import ServiceError
from tests.factories import make_image
from tests.training.feature_server import Script, serving

FILES = [make_image("PNG", 8, 8, seed=i, color="red") for i in range(10)]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client slept each time, without sleeping; the clock goes on all the same."""
    slept: list[float] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return sum(slept)

        sleep = slept.append

    monkeypatch.setattr(client, "time", Clock)
    return slept


@pytest.fixture
def service(script: Script) -> Iterator[Client]:
    with serving(script) as url:
        yield Client(url)


def ask(service: Client, files: list[bytes]) -> list[Any]:
    return list(service.features_all(iter(files), normalize=False))


def test_images_go_in_batches_as_large_as_the_service_takes(service: Client, script: Script) -> None:
    found = ask(service, FILES)

    assert script.batches == [4, 4, 2]
    assert service.model == "fake:1"
    assert {path.partition("?")[2] for path in script.paths} == {"normalize=false&encoding=base64"}
    assert all(vector.dtype == np.float32 and vector.shape == (3,) for vector in found)
    alone = [vector for file in FILES for vector in ask(service, [file])]
    np.testing.assert_array_equal(np.stack(found), np.stack(alone))
    assert len({tuple(vector) for vector in found}) == 10


def test_a_batch_is_no_longer_than_a_body_may_be(service: Client, script: Script) -> None:
    script.max_body_bytes = 2 * (max(map(len, FILES)) + client.ROOM)

    ask(service, FILES)

    assert script.batches == [2] * 5


def test_a_file_longer_than_a_body_may_be_is_not_sent(service: Client, script: Script) -> None:
    long = make_image("PNG", 300, 300, seed=1) + b"\0" * 100_000

    first, second, third = ask(service, [FILES[0], long, FILES[1]])

    assert second == Refusal(f"it has {len(long):,} bytes, the service takes 100,000", "body_too_large")
    assert (first.shape, third.shape) == ((3,), (3,))


@pytest.mark.parametrize("n", [1, 3])
def test_a_bad_image_is_told_in_its_place(n: int, service: Client) -> None:
    *others, bad = ask(service, [*FILES[: n - 1], b"no image"])

    assert bad == Refusal("the file is no image", "unsupported_format")
    assert len(others) == n - 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_after_as_long_as_it_says(
    status: int, service: Client, script: Script, waited: list[float]
) -> None:
    script.refusals = [(status, {"Retry-After": "7"}), (status, {"Retry-After": "0"}), (status, {})]

    assert len(ask(service, FILES[:4])) == 4

    assert waited == [7, 0.1, 1]
    assert script.batches == [4]


def test_a_service_that_only_refuses_is_given_up(service: Client, script: Script, waited: list[float]) -> None:
    script.refusals = [(503, {"Retry-After": "60"})] * 20

    with pytest.raises(ServiceError, match=r"http://127.0.0.1:\d+ refused with status 503: refused 503"):
        ask(service, FILES[:4])

    assert 200 < sum(waited) <= client.PATIENCE


@pytest.mark.parametrize("status", [413, 504])
def test_what_is_too_much_is_asked_in_halves(status: int, service: Client, script: Script, waited: list[float]) -> None:
    script.refusals = [(status, {}), (status, {})]

    found = ask(service, FILES[:4])

    assert script.batches == [1, 1, 2]
    assert waited == []
    np.testing.assert_array_equal(np.stack(found), np.stack(ask(service, FILES[:4])))


def test_a_limit_below_that_of_the_service_is_found(service: Client, script: Script) -> None:
    script.most = 1

    assert len(ask(service, FILES)) == 10
    assert script.batches == [1] * 10


def test_a_key_is_sent_and_its_lack_is_told(script: Script) -> None:
    script.key = "secret"
    with serving(script) as url:
        assert len(ask(Client(url, "secret"), FILES)) == 10
        with pytest.raises(ServiceError, match=r"status 401: the key is missing or wrong; put its key into .*HUBEL_API_KEY"):
            ask(Client(url), FILES)


def test_a_service_that_ends_in_between_is_waited_for_and_given_up(script: Script, waited: list[float]) -> None:
    with serving(script) as url:
        service = Client(url)
        service.connect()

    with pytest.raises(ServiceError, match="does not answer any more"):
        list(service.features_all(iter(FILES)))

    assert 200 < len(waited) <= client.PATIENCE


def test_nobody_there_is_told_at_once(waited: list[float]) -> None:
    with pytest.raises(ServiceError, match=r"no service answers at http://127\.0\.0\.1:9"):
        Client("http://127.0.0.1:9").connect()

    assert waited == []


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://host", "http://", "http://host/?a=b"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ServiceError, match="is no address of a service"):
        Client(url)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ([], "something else than it was asked for"),
        ({"model": "fake", "version": 1, "results": [{}]}, "something else than it was asked for"),
        ({"model": "fake", "version": 1, "results": [{"features": "AAAA"}]}, "something else than it was asked for"),
        ({"model": "fake", "version": 1, "results": [{"features": "AADAfw=="}]}, "not a finite number"),
        ({"model": "fake", "version": 1, "results": []}, "0 results"),
        ({"model": "fake", "version": 2, "results": []}, "went from fake:1 to fake:2 in between"),
    ],
)
def test_answers_that_cannot_be_used_are_told(broken: object, reason: str, service: Client, script: Script) -> None:
    script.broken = broken

    with pytest.raises(ServiceError, match=reason):
        ask(service, FILES[:1])
