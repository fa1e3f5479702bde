"""training/data/memory.py: the memory of the machine, or what the process's control groups allow."""

import os
from pathlib import Path

import pytest

from training.data import memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    return tmp_path


def write(root: Path, own: str, limits: dict[str, str]) -> None:
    (root / "own").write_text(own)
    for place, text in limits.items():
        (root / "groups" / place).parent.mkdir(parents=True, exist_ok=True)
        (root / "groups" / place).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("own", "limits", "limit"),
    [
        ("0::/", {"memory.max": "1048576"}, 2**20),
        ("0::/", {"memory.max": "max"}, MACHINE),
        ("0::/user/me", {"user/memory.max": "1048576", "user/me/memory.max": "2097152"}, 2**20),
        ("0::/user/me", {"other/memory.max": "1048576"}, MACHINE),
        ("4:cpu,memory:/me\n3:pids:/me\n0::/", {"memory/me/memory.limit_in_bytes": "1048576"}, 2**20),
        ("4:memory:/docker/unseen", {"memory/memory.limit_in_bytes": "1048576"}, 2**20),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, MACHINE),
        ("3:pids:/me", {"memory/me/memory.limit_in_bytes": "1048576"}, MACHINE),
    ],
    ids=["container", "no limit", "group above", "another's", "version 1", "container, version 1", "no limit, version 1", "none"],
)
def test_the_least_limit_of_the_own_groups_counts(groups: Path, own: str, limits: dict[str, str], limit: int) -> None:
    write(groups, own, limits)
    assert memory.limit() == limit


def test_without_control_groups_it_is_the_memory_of_the_machine(groups: Path) -> None:
    assert memory.limit() == MACHINE
