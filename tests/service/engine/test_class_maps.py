"""Class maps, computed in the engine beside other work: what they cost those who ask for none, and who fails with whom."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import pytest

from models.package.head import Unexplained
from service.engine.client import EngineClient
from service.inference.class_map import CLASS_MAP
from service.inference.job import Job
from tests.service.engine.fakes import BLOCKED, LATE, NAN, Engines, Session, image, until

EXPLAINED = (CLASS_MAP, "logits")


@pytest.fixture
def engines() -> Iterator[Engines]:
    made = Engines()
    yield made
    made.close()


def ask(engines: Engines, scenario: Callable[[EngineClient], Awaitable[None]]) -> None:
    async def run() -> None:
        client = EngineClient.connect(engines.address, 16, LATE)
        client.attach(asyncio.get_running_loop())
        try:
            await scenario(client)
        finally:
            client.close()

    asyncio.run(run())


def together(client: EngineClient, session: Session, *asked: tuple[int, tuple[str, ...], int]) -> "asyncio.Future[list[object]]":
    """number, outputs and class of images that are computed in one batch."""
    blocked = asyncio.ensure_future(client.submit(image(BLOCKED), ("logits",), math.inf))

    async def run() -> list[object]:
        await asyncio.to_thread(session.busy.wait, LATE)
        waiting = [
            asyncio.ensure_future(client.submit(image(number), outputs, math.inf, target=target))
            for number, outputs, target in asked
        ]
        await asyncio.sleep(0.05)
        session.gate.set()
        await blocked
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    return asyncio.ensure_future(run())


def map_of(job: object) -> list[list[float]]:
    assert isinstance(job, Job)
    return job.row[CLASS_MAP].tolist()


def test_each_image_of_a_batch_is_explained_for_the_class_asked_and_others_get_no_map(engines: Engines) -> None:
    session = engines.start()

    async def scenario(client: EngineClient) -> None:
        asked = ((1, EXPLAINED, 0), (2, EXPLAINED, 2), (3, EXPLAINED, -1), (4, ("logits",), -1))
        first, second, third, plain = await together(client, session, *asked)
        assert map_of(first) == [[1, 0], [0, 0]]
        assert map_of(second) == [[0, 0], [1, 0]]
        assert map_of(third) == [[0, 1], [0, 0]]  # of class 1, the likeliest of all images here
        assert isinstance(plain, Job)
        assert set(plain.row) == {"logits"}
        assert plain.row["logits"].tolist() == [-4, 4, 0]

    ask(engines, scenario)
    assert session.batches == [[BLOCKED], [1, 2, 3, 4]]


def test_what_is_not_explained_has_no_feature_map_computed(engines: Engines) -> None:
    session = engines.start()

    async def scenario(client: EngineClient) -> None:
        await client.submit(image(1), ("logits",), math.inf)
        await client.submit(image(1), ("features", "logits"), math.inf)
        await client.submit(image(1), EXPLAINED, math.inf)

    ask(engines, scenario)
    assert session.asked == [{"logits"}, {"features", "logits"}, {"logits", "feature_map"}]


@pytest.mark.parametrize(("number", "target", "said"), [(NAN, 0, "no numbers"), (5, 7, "IndexError")])
def test_a_map_that_cannot_be_made_fails_alone(engines: Engines, number: int, target: int, said: str) -> None:
    session = engines.start()

    async def scenario(client: EngineClient) -> None:
        bad, good, plain = await together(client, session, (number, EXPLAINED, target), (2, EXPLAINED, 0), (3, ("logits",), -1))
        assert said in str(bad)
        assert map_of(good) == [[1, 0], [0, 0]]
        assert isinstance(plain, Job)
        assert map_of(await client.submit(image(1), EXPLAINED, math.inf, target=0)) == [[1, 0], [0, 0]]

    ask(engines, scenario)


def test_an_engine_that_takes_the_place_of_another_explains_the_same_class(engines: Engines) -> None:
    first = engines.start()

    async def scenario(client: EngineClient) -> None:
        waiting = asyncio.ensure_future(client.submit(image(66), EXPLAINED, math.inf, target=2))  # which ends an engine
        await asyncio.to_thread(until, lambda: first.batches)
        await asyncio.to_thread(engines.wait)
        second = Session()
        second.deadly = False
        engines.start(second)
        assert map_of(await waiting) == [[0, 0], [1, 0]]

    ask(engines, scenario)


def test_a_front_knows_why_there_are_no_maps(engines: Engines) -> None:
    engines.start(head=Unexplained("it has no places"))

    async def scenario(client: EngineClient) -> None:
        assert client.unexplained == "it has no places"
        with pytest.raises(RuntimeError):
            await client.submit(image(1), EXPLAINED, math.inf)
        assert (await client.submit(image(1), ("logits",), math.inf)).row["logits"].tolist() == [-1, 1, 0]

    ask(engines, scenario)


def test_a_map_is_as_the_head_says(engines: Engines) -> None:
    engines.start()

    async def scenario(client: EngineClient) -> None:
        assert client.unexplained == ""
        row = (await client.submit(image(3), EXPLAINED, math.inf, target=0)).row
        assert row[CLASS_MAP].dtype == np.float32
        assert row[CLASS_MAP].shape == (2, 2)

    ask(engines, scenario)
