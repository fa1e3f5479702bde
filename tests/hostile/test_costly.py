"""Images that cost much for what they weigh: nobody else waits, what would be too late is told at once, memory comes back."""

import threading
import time

import httpx
import pytest

from tests.client import assert_problem, samples
from tests.conftest import StartServer
from tests.factories import make_image
from tests.hostile import costly
from tests.hostile.memory import MIB, Peak, resident
from tests.server import Server

pytestmark = pytest.mark.server

FORM = {"content-type": costly.FORM}


@pytest.fixture(scope="module")
def narrow(start_server: StartServer) -> Server:
    """A service of one thread that decodes, and memory for one image of 40 MP."""
    return start_server(
        HUBEL_DECODE_THREADS="1", HUBEL_MAX_PIXELS="40000000", HUBEL_MAX_DECODE_BYTES="800000000", HUBEL_DEADLINE_MS="30000"
    )


def test_small_images_do_not_wait_for_large_ones_even_with_one_thread(narrow: Server) -> None:
    image, large = make_image(color="green"), costly.tiny_webp(6000, 5000)
    answers: list[httpx.Response] = []

    def ask() -> None:
        with narrow.client() as client:
            answers.append(client.post("/v1/classify", content=costly.form(*[large] * 4), headers=FORM))

    peak = Peak(narrow.processes())
    thread = threading.Thread(target=ask)
    thread.start()
    with narrow.client() as client:
        until = time.monotonic() + 10
        while not samples(client)["hubel_decode_waiting_images"] and time.monotonic() < until:
            time.sleep(0.01)
        assert 0 < samples(client)["hubel_decode_bytes"] <= 800_000_000
        for _ in range(5):
            assert client.post("/v1/classify", content=image).status_code == 200
        assert not answers  # the large ones are still being decoded
        thread.join()
        assert (samples(client)["hubel_decode_waiting_images"], samples(client)["hubel_decode_bytes"]) == (0, 0)
    assert answers[0].status_code == 200
    assert peak.grown() < 800_000_000


def test_a_request_with_more_than_can_be_decoded_in_time_is_refused_at_once(narrow: Server) -> None:
    with narrow.client() as client:
        before = samples(client)["hubel_decode_refused_total"]
        answer = client.post(
            "/v1/classify", content=costly.form(*[costly.tiny_webp(6000, 6000)] * 31), headers={**FORM, "x-deadline-ms": "1500"}
        )
        problem = assert_problem(answer, 503, "overloaded")
        assert "31 more of 1116.0 MP together" in problem["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        assert samples(client)["hubel_decode_refused_total"] == before + 1


def test_memory_of_large_images_is_given_back(narrow: Server) -> None:
    with narrow.client() as client:
        client.post("/v1/classify", content=make_image())
        before = resident(narrow.processes())
        for _ in range(2):
            files = [costly.interlaced_png(2500, 4000), costly.tiny_webp(2500, 3000)]
            assert client.post("/v1/classify", content=costly.form(*files), headers=FORM).status_code == 200
        assert resident(narrow.processes()) - before < 48 * MIB


def test_a_bad_image_among_large_ones_fails_alone(narrow: Server) -> None:
    with narrow.client() as client:
        files = [costly.odd_jpeg(2000, 1000), costly.tiny_webp(2000, 1000), costly.tiny_webp(9000, 5000)]
        results = client.post("/v1/classify", content=costly.form(*files), headers=FORM).json()["results"]
        assert [result.get("error", {}).get("code") for result in results] == ["undecodable_image", None, "image_too_large"]
