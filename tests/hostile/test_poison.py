"""One bad image among many at once fails alone: at decoding, and in the network, where it is in one batch with good ones."""

import asyncio

import pytest
from PIL import Image

from tests.client import samples
from tests.conftest import StartServer
from tests.factories import LABELS, encode, make_image, make_package
from tests.server import Server

pytestmark = pytest.mark.server

CLIENTS, ROUNDS = 64, 100
WHITE = encode(Image.new("RGB", (40, 40), "white"))


class Connection:
    """A client that stays connected: httpx would take longer than the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def classify(self, image: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        head = f"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: {len(image)}\r\n\r\n"
        self.writer.write(head.encode() + image)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        (length,) = (int(line.split(":")[1]) for line in answer if line.startswith("content-length:"))
        return int(answer[0].split()[1]), await self.reader.readexactly(length)


def rounds(server: Server, bad: bytes, count: int) -> tuple[list[tuple[int, bytes]], list[tuple[int, str]]]:
    """What the bad image and the good ones were answered: statuses with bodies, and statuses with the label that is right."""

    async def scenario() -> tuple[list[tuple[int, bytes]], list[tuple[int, str]]]:
        opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(CLIENTS)]
        clients = [Connection(*streams) for streams in opened]
        good = [make_image("PNG", 16, 16, color=color) for color in LABELS]
        bad_answers, good_answers = list[tuple[int, bytes]](), list[tuple[int, str]]()
        for turn in range(count):
            place = turn % CLIENTS
            images = [bad if i == place else good[i % len(good)] for i in range(CLIENTS)]
            answers = await asyncio.gather(*(client.classify(image) for client, image in zip(clients, images, strict=True)))
            bad_answers.append(answers.pop(place))
            labels = [LABELS[i % len(good)] for i in range(CLIENTS) if i != place]
            for (status, body), label in zip(answers, labels, strict=True):
                good_answers.append((status, label if f'"label":"{label}"' in body.decode() else body.decode()))
        for client in clients:
            client.writer.close()
        return bad_answers, good_answers

    return asyncio.run(scenario())


def test_an_image_that_cannot_be_decoded_fails_alone(server: Server) -> None:
    bad, good = rounds(server, make_image("JPEG")[:-200], ROUNDS)
    assert {status for status, _ in bad} == {400}
    assert set(good) == {(200, label) for label in LABELS}
    assert (len(bad), len(good)) == (ROUNDS, ROUNDS * (CLIENTS - 1))


@pytest.fixture(scope="module")
def poisoned(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A service whose network fails on every batch that has a white picture in it."""
    store = tmp_path_factory.mktemp("poisoned") / "store"
    make_package(store, graph={"poison": True})
    return start_server(store, HUBEL_LOG_LEVEL="error")


def test_an_image_that_the_network_fails_on_fails_alone(poisoned: Server) -> None:
    bad, good = rounds(poisoned, WHITE, ROUNDS)
    assert {status for status, _ in bad} == {500}
    assert all(b"onnx" not in body.lower() and b"reshape" not in body.lower() for _, body in bad)
    assert set(good) == {(200, label) for label in LABELS}
    assert (len(bad), len(good)) == (ROUNDS, ROUNDS * (CLIENTS - 1))


def test_images_do_meet_in_batches_here(poisoned: Server) -> None:
    with poisoned.client() as client:
        before = samples(client)
        rounds(poisoned, make_image("PNG", 16, 16, color="red"), 5)
        after = samples(client)
    images, batches = (after[name] - before[name] for name in (f"hubel_batch_size_images_{end}" for end in ("sum", "count")))
    assert images == 5 * CLIENTS
    assert batches < images / 2
