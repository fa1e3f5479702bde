"""Curves of a run for the eye: TensorBoard's files beside the checkpoint, and a run on an MLflow server where one is named.

Both are made from the history in the checkpoint alone, so that they say what it says, however often a run was stopped.
"""

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from models.terminal import program
from training.errors import TrackingError
from training.loop.checkpoint import Checkpoint

FOLDER = "tensorboard"
TAGS = {  # of TensorBoard, which draws what is before the slash side by side
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "accuracy": "accuracy/training",
    "validation_accuracy": "accuracy/validation",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
}
RUN = "mlflow_run"  # in the checkpoint's provenance
QUIET = {  # unless the environment says otherwise: a server that is away costs seconds an epoch, not minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class TensorBoard:
    """Event files in RUN/tensorboard. They are written again when a run goes on: no point is there twice, none is missing."""

    def __init__(self, folder: Path, checkpoint: Checkpoint) -> None:
        from torch.utils.tensorboard import SummaryWriter  # half a second, which commands that do not train need not wait

        for before in (folder / FOLDER).glob("events.out.tfevents.*"):
            before.unlink()
        self.writer = SummaryWriter(str(folder / FOLDER), purge_step=1)  # a TensorBoard that watches forgets the old ones
        self.clock = time.time() - checkpoint.seconds
        self.written = 0

    def update(self, checkpoint: Checkpoint) -> None:
        """Write the epochs that are not written yet, each at the time when it was over, as if there had been no stops."""
        for entry in checkpoint.history[self.written :]:
            self.clock += entry["seconds"]
            for key in TAGS.keys() & entry.keys():
                self.writer.add_scalar(TAGS[key], entry[key], int(entry["epoch"]), self.clock)
        self.written = len(checkpoint.history)
        self.writer.flush()


class MLflow:
    """A run on the server at ``address``: the recipe as its parameters, and the figures that it does not have yet."""

    def __init__(self, address: str, folder: Path, checkpoint: Checkpoint, log: Callable[[str], None]) -> None:
        self.library, self.log = _library(address), log
        try:
            self.client = self.library.MlflowClient(tracking_uri=address)
            self.run = checkpoint.provenance.get(RUN) or self._create(folder, checkpoint)
            self.client.update_run(self.run, status="RUNNING")
            self.known = {metric.step for metric in self.client.get_metric_history(self.run, "loss")}
        except self.library.MlflowException as err:
            raise TrackingError(f"MLflow at {address} does not take this run: {_line(err)}") from err
        checkpoint.provenance[RUN] = self.run

    def _create(self, folder: Path, checkpoint: Checkpoint) -> str:
        name, facts, entities = checkpoint.data["folder"], checkpoint.provenance, self.library.entities
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        run = self.client.create_run(experiment, run_name=folder.name).info.run_id
        params = [entities.Param(key, str(value)) for key, value in msgspec.to_builtins(checkpoint.recipe).items()]
        tags = [entities.RunTag(key, str(facts[key])) for key in ("command", "git_commit", "hardware")]
        self.client.log_batch(run, params=params, tags=tags)
        return run

    def update(self, checkpoint: Checkpoint) -> None:
        """Send the epochs that the server lacks; one that does not answer is told of, and asked again after the next."""
        metric, now = self.library.entities.Metric, int(1000 * time.time())
        try:
            for entry in checkpoint.history:
                if (step := int(entry["epoch"])) not in self.known:
                    metrics = [metric(key, value, now, step) for key, value in entry.items() if key != "epoch"]
                    self.client.log_batch(self.run, metrics=metrics)
                    self.known.add(step)
        except self.library.MlflowException as err:
            self.log(f"MLflow did not take the figures of epoch {checkpoint.epoch}: {_line(err)}")

    def close(self, status: str) -> None:
        try:
            self.client.set_terminated(self.run, status)
        except self.library.MlflowException as err:
            self.log(f"MLflow was not told that the run is over: {_line(err)}")


def _library(address: str) -> Any:
    """The module mlflow, which is fit for ``address``."""
    if urlsplit(address).password:
        raise TrackingError(
            "the address of MLflow holds a password, which would come to stand in the checkpoint: put it into "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as err:
        raise TrackingError(f"--mlflow needs the library mlflow, which is not installed: {program.extra('mlflow')}") from err
    return mlflow


def _line(err: Exception) -> str:
    return " ".join(str(err).split())


@contextmanager
def opened(
    folder: Path, checkpoint: Checkpoint, address: str | None, log: Callable[[str], None]
) -> Generator[Callable[[Checkpoint], None]]:
    """Yields what is to be called after each epoch; raises TrackingError when MLflow cannot be used."""
    flow = MLflow(address, folder, checkpoint, log) if address else None
    board = TensorBoard(folder, checkpoint)

    def update(checkpoint: Checkpoint) -> None:
        board.update(checkpoint)
        if flow:
            flow.update(checkpoint)

    status = "FAILED"
    try:
        update(checkpoint)
        yield update
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        board.writer.close()
        if flow:
            flow.close(status)
