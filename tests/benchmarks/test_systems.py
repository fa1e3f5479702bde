import importlib.util
import tomllib
from pathlib import Path

import pytest

from benchmarks.systems import HUBEL, SYSTEMS, System

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
each_system = pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)


def test_names_and_titles_are_unique_and_hubel_comes_first() -> None:
    assert SYSTEMS[0] is HUBEL
    assert len({s.name for s in SYSTEMS}) == len({s.title for s in SYSTEMS}) == len(SYSTEMS)


@each_system
def test_a_system_has_a_module_an_environment_and_a_path(system: System) -> None:
    option, module, *_ = system.command
    assert option == "-m"
    assert importlib.util.find_spec(module)
    assert system.path.startswith("/")
    assert system.content in ("raw", "multipart")
    assert system.group == "" or system.group in GROUPS
    assert all(isinstance(text, str) for pair in system.environment for text in pair)


@each_system
def test_the_group_of_a_peer_installs_what_it_is_named_for_and_the_runtime_of_serving(system: System) -> None:
    if system.group:
        entries = GROUPS[system.group]
        assert {"include-group": "bench"} in entries
        names = [entry.partition(">=")[0].partition("[")[0] for entry in entries if isinstance(entry, str)]
        assert system.distribution in names


def test_the_peers_get_the_runtime_that_serves() -> None:
    serving = PROJECT["project"]["optional-dependencies"]["serve-cpu"]
    assert GROUPS["bench"] == [text for text in serving if text.startswith("onnxruntime")]
