"""service/bulk/remote.py: a service is asked as patiently as it wants, and every image gets its answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubel import client
from service.bulk.errors import BulkError, Failure
from service.bulk.item import Item, LocalFile
from service.bulk.model import Pair
from service.bulk.remote import RemoteModel
from tests.factories import LABELS, make_image
from tests.server import Server
from tests.service.bulk.bytes_items import items
from tests.training.feature_server import Script, serving

N = 100


def by_its_bytes(file: bytes) -> dict[str, Any]:
    return {"label": file.decode(), "probability": 0.75, "unsure": False, "novelty": 0.5, "answer": "token"}


@pytest.fixture
def script() -> Script:
    return Script(result=by_its_bytes)


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with serving(script) as url:
        yield url


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return sum(slept)

        sleep = slept.append

    monkeypatch.setattr(client, "time", Clock)
    return slept


def classify(url: str, listed: list[Item]) -> list[Pair]:
    return [pair for part in RemoteModel(url, 1000).classify_all(listed) for pair in part]


def numbers(n: int) -> list[Item]:
    return items(*(str(number).encode() for number in range(n)))


def test_every_image_is_answered_in_order(url: str, script: Script) -> None:
    found = classify(url, numbers(N))
    assert [(item.path, getattr(answer, "label", None)) for item, answer in found] == [(str(n), str(n)) for n in range(N)]
    assert sum(script.batches) == N


def test_a_busy_service_is_waited_for_and_no_image_is_lost(url: str, script: Script, waited: list[float]) -> None:
    script.refusals = [(429, {"Retry-After": "3"}), (503, {"Retry-After": "2"}), (429, {"Retry-After": "3"}), (503, {})]
    found = classify(url, numbers(N))
    assert [getattr(answer, "label", None) for _, answer in found] == [str(n) for n in range(N)]
    assert sorted(waited) == [1, 2, 3, 3]


def test_a_service_that_is_busy_for_too_long_ends_the_run(url: str, script: Script, waited: list[float]) -> None:
    script.refusals = [(503, {"Retry-After": "60"})] * 100
    with pytest.raises(BulkError, match=r"status 503.*; run the same command again once it answers, it goes on where it stopped"):
        classify(url, numbers(4))


def test_what_cannot_be_read_or_is_refused_keeps_its_place(url: str, script: Script, tmp_path: Path) -> None:
    script.result = lambda file: (
        by_its_bytes(file) if file != b"1" else {"error": {"status": 415, "code": "unsupported_format", "detail": "no image"}}
    )
    gone = Item("gone", "", LocalFile(str(tmp_path / "gone")))
    (tmp_path / "long").write_bytes(bytes(1001))
    long = Item("long", "", LocalFile(str(tmp_path / "long")))
    found = [answer for _, answer in classify(url, [gone, *numbers(2), long, gone])]
    assert [getattr(answer, "label", None) for answer in found] == [None, "0", None, None, None]
    codes = [answer.code for answer in found if isinstance(answer, Failure)]
    assert codes == ["unreadable", "unsupported_format", "body_too_large", "unreadable"]


def test_another_version_in_between_ends_the_run(url: str, script: Script) -> None:
    script.broken = {"model": "fake", "version": 2, "results": [by_its_bytes(b"0")]}
    with pytest.raises(BulkError, match=r"went from fake:1 to fake:2 in between; .*--overwrite"):
        classify(url, numbers(1))


def test_a_missing_key_and_a_service_that_is_not_there_are_told(url: str, script: Script) -> None:
    script.key = "secret"
    with pytest.raises(BulkError, match="HUBEL_API_KEY"):
        RemoteModel(url, 1000)
    with pytest.raises(BulkError, match="no service answers at"):
        RemoteModel("http://127.0.0.1:9", 1000)


def test_the_key_of_the_environment_is_sent(url: str, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script.key = "secret"
    monkeypatch.setenv("HUBEL_API_KEY", "secret")
    assert len(classify(url, numbers(3))) == 3


@pytest.mark.server
def test_a_real_service_answers_as_the_package_alone(server: Server, tiny_store: Path) -> None:
    from service.bulk.local import LocalModel
    from service.settings import Settings

    listed = items(*(make_image("JPEG", seed=n, color=LABELS[n % 3]) for n in range(70)), b"no image", b"")
    here = LocalModel(Settings(store=str(tiny_store), model="tiny", device="cpu")).classify(listed)
    remote = RemoteModel(server.url, 10**6)
    there = [pair for part in remote.classify_all(listed) for pair in part]
    assert remote.facts["model"] == "tiny:1"
    for (_, ours), (_, theirs) in zip(here, there, strict=True):
        assert type(ours) is type(theirs)
        if isinstance(ours, Failure) or isinstance(theirs, Failure):
            assert ours == theirs
        else:
            assert (ours.label, ours.probability, ours.unsure) == (theirs.label, theirs.probability, theirs.unsure)
