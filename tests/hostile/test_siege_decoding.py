"""While strangers send images that cost much to decode: a good client and probes are answered, and memory stays bounded."""

import pytest

from tests.conftest import StartServer
from tests.hostile.memory import MIB
from tests.hostile.siege import PROBE_SECONDS, siege
from tests.server import Server

pytestmark = [pytest.mark.server, pytest.mark.long]

BUDGET = 2048 * MIB  # HUBEL_MAX_DECODE_BYTES
BODIES = 3 * 256 * MIB  # HUBEL_MAX_BUFFERED_BYTES, while bodies are taken apart
ATTACKS = (
    *("three_tiny_webps", "full_of_tiny_webps", "each_a_little", "just_small", "odd_ones", "sent_and_left"),
    *("among_fill_bytes", "behind_fill_bytes", "many_segments"),
)
HEAVY = ("among_fill_bytes", "behind_fill_bytes")  # 30 MB a request, which are copied as they come


@pytest.fixture(scope="module")
def two(start_server: StartServer) -> Server:
    return start_server(HUBEL_DECODE_THREADS="2")


@pytest.mark.parametrize("clients", [1, 20])
@pytest.mark.parametrize("attack", ATTACKS)
def test_others_are_answered_beside_costly_images(two: Server, attack: str, clients: int) -> None:
    seen = siege(two, f"tests.hostile.costly:{attack}", clients=clients)
    heavy = attack in HEAVY and clients > 1
    seen.check(memory=BUDGET + BODIES, probe=0.5 if heavy else PROBE_SECONDS)
