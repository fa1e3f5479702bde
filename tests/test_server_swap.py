"""The real service while versions come and go: every request is answered, by the version that the answer names."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from models.image.spec import InputSpec
from models.lifecycle import candidate
from models.lifecycle.candidate import Candidate
from models.registry import registry
from tests.client import samples
from tests.conftest import StartServer
from tests.factories import make_package
from tests.traffic import RED, TURNED, WORDS, traffic, until, versions_served

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny:1; 2 with other words for the colours; 3, which does not answer as it promises; 4 with another input and class."""
    store = tmp_path_factory.mktemp("swaps") / "store"
    make_package(store)
    make_package(store, labels=TURNED)
    make_package(store, golden_error=1.0)
    make_package(store, labels=("blue", "red", "green", "white"), input=InputSpec(height=16, width=24, resize=28))
    return store


def test_versions_come_and_go_and_workers_and_no_request_notices(start_server: StartServer, shelf: Path, tmp_path: Path) -> None:
    store = copy_of(shelf, tmp_path)
    server = start_server(store, HUBEL_WORKERS="2")
    until(lambda: versions_served(server) == [1, 1], server)
    with traffic(server) as clients, server.client() as client:
        for version in (2, 4, 1):
            registry.promote(store, "tiny", version, "test")
            clients.wait_for(version)
            until(lambda wanted=version: versions_served(server) == [wanted, wanted], server)
        registry.promote(store, "tiny", 3, "test")
        until(lambda: client.get("/v1/models").json()["refused"], server)
        refused = client.get("/v1/models").json()
        assert refused["refused"]["version"] == 3
        assert refused["refused"]["reason"] == "it cannot be used; the log of the service says why"
        assert refused["models"][0]["version"] == 1
        registry.roll_back(store, "tiny")  # to 1, which never left
        until(lambda: client.get("/v1/models").json()["refused"] is None, server)
        registry.promote(store, "tiny", 2, "test")
        clients.wait_for(2)
        registry.roll_back(store, "tiny")
        clients.wait_for(1)
        in_sync = 'hubel_workers_in_sync{model="tiny"}'
        until(lambda: samples(client)[in_sync] == 1, server)  # the other worker may swap a moment later
        counts = samples(client)
    registry.promote(store, "tiny", 3, "refused again")
    until(lambda: server.output().count("tiny:3 is refused") == 2, server)
    os.kill(server.workers()[0], signal.SIGKILL)
    until(lambda: versions_served(server) == [1, 1] and server.output().count("is ready after") == 3, server)
    assert {(version, label) for version, label in clients.answers} == {(v, WORDS[v]) for v in (1, 2, 4)}
    assert counts['hubel_swaps_total{model="tiny",result="refused"}'] == 1
    assert server.output().count("is live in place of") == 5
    assert "tiny:3 is refused, tiny:1 stays live: " in server.output()
    assert server.stop() == 0


def test_a_shadow_answers_nobody_and_is_promoted_when_it_agrees_and_a_pinned_version_stays(
    start_server: StartServer, shelf: Path, tmp_path: Path
) -> None:
    store = copy_of(shelf, tmp_path)
    make_package(store)  # tiny:5 is as tiny:1
    server, pinned = start_server(store), start_server(store, HUBEL_MODEL="tiny:1")
    with traffic(server, clients=1) as clients:
        clients.wait_for(1)
        candidate.start(store, "tiny", Candidate(5, "shadow", requests=30, bounds=candidate.Bounds(latency=1000)))
        clients.wait_for(5)
    pointer = registry.pointer(store, "tiny")
    assert pointer is not None
    assert pointer.version == 5
    told = re.match(r"no loss in (\d+) requests", pointer.history[-1].reason)
    assert told is not None
    assert int(told[1]) >= 30
    swapped = [version for version, _ in clients.answers].index(5)
    assert {version for version, _ in clients.answers[:swapped]} == {1}
    with server.client() as client:
        counts = samples(client)
    assert counts['hubel_candidate_images_total{model="tiny",result="agreed",version="5"}'] >= 30
    assert counts['hubel_candidates_ended_total{model="tiny",result="promoted"}'] == 1
    with pinned.client() as client:
        assert client.post("/v1/classify", content=RED).json()["version"] == 1
    assert server.stop() == pinned.stop() == 0


def test_a_canary_goes_on_after_a_restart_and_a_bad_one_is_rolled_back_by_itself(
    start_server: StartServer, shelf: Path, tmp_path: Path
) -> None:
    store = copy_of(shelf, tmp_path)
    candidate.start(store, "tiny", Candidate(2, "canary", requests=100_000, percent=20, bounds=LOOSE))
    server = start_server(store)
    with traffic(server) as clients:
        clients.wait_for(2)
        until(lambda: seen_of(store) > 10, server)
    assert server.stop() == 0
    kept = seen_of(store)
    server = start_server(store)
    with traffic(server) as clients, server.client() as client:
        clients.wait_for(2)
        until(lambda: client.get("/v1/models").json()["candidate"]["requests"] > kept, server)
        candidate.end(store, "tiny", False, "by hand")
        until(lambda: client.get("/v1/models").json()["candidate"] is None, server)
        candidate.start(store, "tiny", Candidate(2, "canary", requests=100_000, percent=20))  # disagrees about every picture
        until(lambda: candidate.read(store, "tiny") is None, server)
        pointer = registry.pointer(store, "tiny")
        until(lambda: client.get("/v1/models").json()["candidate"] is None, server)
    assert pointer is not None
    assert pointer.version == 1
    assert "disagreement: " in pointer.history[-1].reason
    by_canary = sum(version == 2 for version, _ in clients.answers)
    assert 0 < by_canary < 0.35 * len(clients.answers)
    assert set(clients.answers) == {(1, "red"), (2, "green")}
    assert server.stop() == 0


LOOSE = candidate.Bounds(errors=1, latency=1000, disagreement=1, unsure=1)


def seen_of(store: Path) -> int:
    """Requests that the candidate answered, as the store has it."""
    found = candidate.read(store, "tiny")
    return candidate.read_progress(store, "tiny", found).candidate.requests if found else 0


def copy_of(shelf: Path, folder: Path) -> Path:
    """A store to be changed, with tiny:1 live."""
    return Path(shutil.copytree(shelf, folder / "store"))
