"""tracking.py: every epoch is drawn once, however often a run is stopped, and a server that is away stops nothing."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from tests.training.factories import interrupt_at, make_folder, make_recipe
from training.__main__ import main
from training.errors import TrackingError
from training.loop import checkpoint as checkpoints
from training.loop import tracking, train

STEPS_AN_EPOCH = 3


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours")


def points(run: Path) -> list[tuple[str, int, float, float]]:
    """(tag, epoch, value, time) of all that lies in a run's event files."""
    found: list[tuple[str, int, float, float]] = []
    for file in sorted((run / tracking.FOLDER).iterdir()):
        for event in LegacyEventFileLoader(str(file)).Load():
            found.extend((value.tag, event.step, value.simple_value, event.wall_time) for value in event.summary.value)
    return found


def test_tensorboard_gets_every_figure_of_every_epoch(source: Path, tmp_path: Path) -> None:
    checkpoint = train.train(source, tmp_path / "run", make_recipe(epochs=2), say=False)

    found = points(tmp_path / "run")

    assert {(tag, step): value for tag, step, value, _ in found} == {
        (tag, entry["epoch"]): pytest.approx(entry[key]) for entry in checkpoint.history for key, tag in tracking.TAGS.items()
    }
    assert len(found) == 2 * len(tracking.TAGS)


@pytest.mark.parametrize("step", [2, STEPS_AN_EPOCH + 2, 3 * STEPS_AN_EPOCH])
def test_a_resumed_run_draws_no_point_twice_and_leaves_none_out(step: int, source: Path, tmp_path: Path) -> None:
    with interrupt_at(step), pytest.raises(KeyboardInterrupt):
        train.train(source, tmp_path / "run", make_recipe(), say=False)
    resume = (tmp_path / "run" / checkpoints.SIDECAR).exists()

    checkpoint = train.train(source, tmp_path / "run", None if resume else make_recipe(), say=False)

    found = points(tmp_path / "run")
    assert sorted((tag, step) for tag, step, _, _ in found) == sorted(
        (tag, epoch) for tag in tracking.TAGS.values() for epoch in (1, 2, 3)
    )
    losses = [value for tag, _, value, _ in found if tag == "loss/training"]
    assert losses == pytest.approx([entry["loss"] for entry in checkpoint.history])
    times = [time for tag, _, _, time in found if tag == "loss/training"]
    assert times == sorted(times)


def test_points_that_a_stop_kept_from_being_written_are_there_after_the_next_start(source: Path, tmp_path: Path) -> None:
    train.train(source, tmp_path / "run", make_recipe(epochs=1), say=False)
    for file in (tmp_path / "run" / tracking.FOLDER).iterdir():
        file.unlink()

    train.train(source, tmp_path / "run", None, say=False)

    assert len(points(tmp_path / "run")) == len(tracking.TAGS)


class Refusal(Exception):
    """What the server below raises."""


@dataclass
class Server:
    """As much of MLflow's client as is used, and what was sent to it."""

    experiments: list[str] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    away: int = 0  # how many batches it does not take

    def __call__(self, tracking_uri: str) -> "Server":
        if tracking_uri == "http://away":
            raise Refusal("no\nanswer")
        return self

    def get_experiment_by_name(self, name: str) -> object:
        return SimpleNamespace(experiment_id=name) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.experiments.append(name)
        return name

    def create_run(self, experiment: str, run_name: str) -> object:
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment}/{run_name}"))

    def update_run(self, run: str, status: str) -> None:
        self.statuses.append(status)

    set_terminated = update_run

    def get_metric_history(self, run: str, key: str) -> list[object]:
        assert run == "colours/run"
        return [SimpleNamespace(step=step) for name, _, step in self.metrics if name == key]

    def log_batch(self, run: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        if metrics and self.away:
            self.away -= 1
            raise Refusal("no\nanswer")
        self.metrics.extend((metric.key, metric.value, metric.step) for metric in metrics)
        self.params |= {param.key: param.value for param in params}
        self.tags |= {tag.key: tag.value for tag in tags}


def entity(*names: str) -> Callable[..., object]:
    return lambda *values: SimpleNamespace(**dict(zip(names, values, strict=True)))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """The module mlflow, which talks to this server."""
    server, module = Server(), ModuleType("mlflow")
    entities = SimpleNamespace(
        Metric=entity("key", "value", "timestamp", "step"), Param=entity("key", "value"), RunTag=entity("key", "value")
    )
    for name, part in {"MlflowClient": server, "MlflowException": Refusal, "entities": entities}.items():
        setattr(module, name, part)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for name in tracking.QUIET:
        monkeypatch.setenv(name, "1")
    return server


def test_mlflow_gets_the_recipe_and_every_figure_of_every_epoch(server: Server, source: Path, tmp_path: Path) -> None:
    checkpoint = train.train(source, tmp_path / "run", make_recipe(), say=False, mlflow="http://server")

    assert sorted(server.metrics) == sorted(
        (key, value, entry["epoch"]) for entry in checkpoint.history for key, value in entry.items() if key != "epoch"
    )
    assert server.experiments == ["colours"]
    assert (server.params["learning_rate"], server.params["flip"]) == ("0.05", "True")
    assert server.tags["git_commit"] == checkpoint.provenance["git_commit"]
    assert server.statuses == ["RUNNING", "FINISHED"]


def test_a_resumed_run_goes_on_in_the_same_run_of_mlflow(server: Server, source: Path, tmp_path: Path) -> None:
    with interrupt_at(STEPS_AN_EPOCH + 1), pytest.raises(KeyboardInterrupt):
        train.train(source, tmp_path / "run", make_recipe(), say=False, mlflow="http://server")

    train.train(source, tmp_path / "run", None, say=False, mlflow="http://server")

    assert [step for key, _, step in server.metrics if key == "loss"] == [1, 2, 3]
    assert server.statuses == ["RUNNING", "KILLED", "RUNNING", "FINISHED"]


def test_figures_that_the_server_did_not_take_are_told_of_and_sent_again(
    server: Server, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.away = 1

    train.train(source, tmp_path / "run", make_recipe(), mlflow="http://server")

    assert "MLflow did not take the figures of epoch 1: no answer" in capsys.readouterr().err
    assert [step for key, _, step in server.metrics if key == "loss"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://away", "MLflow at http://away does not take this run: no answer"),
        ("https://me:secret@server", "MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_a_server_that_cannot_be_used_is_an_error_before_the_training(
    address: str, reason: str, server: Server, source: Path, tmp_path: Path
) -> None:
    with interrupt_at(1), pytest.raises(TrackingError, match=reason) as caught:
        train.train(source, tmp_path / "run", make_recipe(), say=False, mlflow=address)

    assert "secret" not in str(caught.value)


def test_without_the_extra_the_error_tells_how_to_install_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for name in tracking.QUIET:
        monkeypatch.setenv(name, "1")

    assert main(["train", str(source), "--out", str(tmp_path / "run"), "--size", "32", "--mlflow", "http://server"]) == 1

    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "error: --mlflow needs the library mlflow, which is not installed: 'make setup EXTRAS=mlflow' installs it"


def test_mlflow_itself_takes_what_is_sent(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (tracking.QUIET | {"MLFLOW_ALLOW_FILE_STORE": "true"}).items():
        monkeypatch.setenv(name, value)
    library = pytest.importorskip("mlflow")
    address = (tmp_path / "store").as_uri()
    with interrupt_at(STEPS_AN_EPOCH + 1), pytest.raises(KeyboardInterrupt):
        train.train(source, tmp_path / "run", make_recipe(), say=False, mlflow=address)

    checkpoint = train.train(source, tmp_path / "run", None, say=False, mlflow=address)

    client, run = library.MlflowClient(tracking_uri=address), checkpoint.provenance[tracking.RUN]
    history = [(metric.step, metric.value) for metric in client.get_metric_history(run, "validation_accuracy")]
    assert history == [(entry["epoch"], entry["validation_accuracy"]) for entry in checkpoint.history]
    assert client.get_run(run).info.status == "FINISHED"
    assert client.get_run(run).data.params["epochs"] == "3"
