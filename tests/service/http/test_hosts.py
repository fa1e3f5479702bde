"""Without keys, who asks by a name that others may own, or from another page, is refused."""

import pytest

from service.errors import CorsRefused, WrongHost
from service.http.hosts import Hosts

MINE = [
    *("127.0.0.1:3000", "localhost", "LocalHost:3000", "a.localhost:3000", "[::1]:3000", "::1", "192.168.1.7", "hubel:3000", ""),
    *("hubel.default.svc.cluster.local", "gpu.internal.", "box.home.arpa:80"),
]
FOREIGN = ["evil.example", "evil.example:3000", "127.0.0.1.evil.example", "localhost.evil.example", "1.2.3", "x.local.example."]


@pytest.mark.parametrize("host", MINE)
def test_addresses_and_names_that_nobody_else_can_own_are_taken(host: str) -> None:
    Hosts().check("POST", {"host": host})


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_refused_unless_they_are_allowed(host: str) -> None:
    with pytest.raises(WrongHost, match="HUBEL_ALLOWED_HOSTS"):
        Hosts(["images.example"]).check("GET", {"host": host})
    Hosts([host.partition(":")[0].rstrip(".").upper()]).check("GET", {"host": host})
    Hosts(["*"]).check("GET", {"host": host})


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:8080"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://localhost:3000.evil.example", "sec-fetch-site": "cross-site"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_page_of_another_origin_changes_nothing(method: str, headers: dict[str, str]) -> None:
    with pytest.raises(CorsRefused):
        Hosts(origins=["https://mine.example"]).check(method, {"host": "localhost:3000", **headers})
    Hosts().check("GET", {"host": "localhost:3000", **headers})
    Hosts(origins=["*"]).check(method, {"host": "localhost:3000", **headers})


def test_programs_own_pages_and_named_origins_may_send() -> None:
    hosts = Hosts(origins=["https://mine.example"])
    hosts.check("POST", {"host": "localhost:3000"})
    hosts.check("POST", {"host": "localhost:3000", "origin": "http://localhost:3000", "sec-fetch-site": "same-origin"})
    hosts.check("POST", {"host": "localhost:3000", "origin": "https://mine.example", "sec-fetch-site": "cross-site"})
