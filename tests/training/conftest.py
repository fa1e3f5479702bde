"""Fixtures of the training tests: one small run that goes the whole way, from a folder of pictures to a package."""

from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.factories import COLOURS, make_folder, write_recipe
from tests.training.stand_ins import NETWORKS
from training.__main__ import main
from training.evaluation import calibration
from training.networks import catalogue
from training.report import document, page, speed


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The networks here are so small that threads would mostly wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe may name the networks of stand_ins.py too."""
    for name, build in NETWORKS.items():
        monkeypatch.setitem(catalogue.ARCHITECTURES, name, build)


@dataclass(frozen=True)
class Journey:
    """Folders of a run that was trained, evaluated, exported, reported on and published. Read only: change a copy."""

    data: Path  # train/ and test/; one picture of each class in test/ shows the colour of another class
    recipe: Path
    run: Path
    store: Path
    package: Path
    said: dict[str, str]  # standard output of each command, with --json
    content: dict[str, Any]  # of the report, as it was gathered
    drawn: dict[str, Any]  # the drawings of its page


@pytest.fixture(scope="session")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    root = tmp_path_factory.mktemp("journey")
    data, run, store = root / "colours", root / "run", root / "store"
    make_folder(data / "train", each=24)
    make_folder(data / "test", each=5, seed=500)
    for name, other in zip(COLOURS, ("red", "blue", "green"), strict=True):
        (data / "test" / other / "wrong.png").write_bytes((data / "test" / name / "000.png").read_bytes())
    geometry = {"height": 16, "width": 16, "resize": 16}
    recipe = write_recipe(root / "tiny.toml", input=geometry, epochs=4, batch_size=8, learning_rate=0.02)

    commands = {
        "train": ["train", data, "--recipe", recipe, "--out", run],
        "evaluate": ["evaluate", run, data],
        "export": ["export", run, data],
        "report": ["report", run, data],
        "publish": ["publish", run, "--name", "colours", "--store", store],
    }
    said: dict[str, str] = {}
    made: dict[str, Any] = {}

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any) -> Any:
            made[function.__name__] = function(*arguments)
            return made[function.__name__]

        return note

    for name, arguments in commands.items():
        with redirect_stdout(StringIO()) as output, pytest.MonkeyPatch.context() as patch:
            patch.setattr(speed, "SECONDS", 0.01)
            patch.setattr(calibration, "PRIOR", 0.0)  # so few images would leave the temperature at 1, where nothing shows it
            patch.setattr(document, "gather", noted(document.gather))
            patch.setattr(page, "drawn", noted(page.drawn))
            assert main([*map(str, arguments), "--json"]) == 0
        said[name] = output.getvalue()
    return Journey(data, recipe, run, store, store / "colours" / "1", said, made["gather"], made["drawn"])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    """torch.hub's folder of weights, empty."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)
