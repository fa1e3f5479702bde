"""While strangers try to stop the service, others and probes are answered, within a bound of memory, by the same processes."""

from pathlib import Path

import pytest

from service.http import api_keys
from tests.conftest import Figures, StartServer
from tests.hostile.memory import MIB
from tests.hostile.siege import siege

pytestmark = [pytest.mark.server, pytest.mark.long]
MEMORY = 150 * MIB  # all unread bytes, and what twice as many connections take as there are places: docs/security.md
ATTACKS = (
    *("pipelined_refusals", "pipelined_gets", "slow_heads", "silent", "small_chunks", "never_read", "metrics_flood", "announced"),
)


@pytest.mark.parametrize("clients", [1, 20])
@pytest.mark.parametrize("attack", ATTACKS)
def test_beside_strangers_who_hold_connections(
    attack: str, clients: int, start_server: StartServer, figures: Figures, tmp_path: Path
) -> None:
    key, block = api_keys.make("good")
    (tmp_path / "keys.toml").write_text(block)
    server = start_server(HUBEL_API_KEYS_FILE=str(tmp_path / "keys.toml"))
    seen = siege(server, f"tests.hostile.attacks:{attack}", clients=clients, key=key)
    figures(seen=seen)
    seen.check(memory=MEMORY)
    assert server.stop() == 0
