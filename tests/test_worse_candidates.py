"""Versions made worse on purpose from the same images: what the gate says of each, and, forced past it into a canary of 10 %,
what becomes of it and how many of the answers it gave until then.
"""

import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.lifecycle import candidate, gate
from models.registry import registry
from tests import real
from tests.conftest import StartServer
from tests.real import Files, command, deal, lay_out
from tests.traffic import traffic, until
from training.loop import checkpoint as checkpoints
from training.loop.checkpoint import SIDECAR, Checkpoint

pytestmark = [pytest.mark.server, pytest.mark.long]

SHUFFLED, DROPPED = 0.05, "ship"
PERCENT, REQUESTS, PATIENCE = 10, 100, 400


@pytest.fixture(scope="module")
def shares() -> dict[str, Files]:
    return deal()


@pytest.fixture(scope="module")
def shelf(shares: dict[str, Files], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, the run good/ and store/, where it is pets:1."""
    folder = tmp_path_factory.mktemp("good")
    real.train(lay_out(folder / "data", train=shares["train"], test=shares["test"]), folder / "good")
    real.publish(folder / "good", folder / "store")
    return folder


def shuffle_labels(shelf: Path, folder: Path, shares: dict[str, Files]) -> None:
    """5 % of the training images, drawn by chance, swap their labels among themselves."""
    random, images = np.random.default_rng(5), [(c, path) for c, paths in shares["train"].items() for path in paths]
    drawn = random.choice(len(images), round(SHUFFLED * len(images)), replace=False)
    labels = [label for label, _ in images]
    for i, j in zip(drawn, random.permutation(drawn), strict=True):
        labels[i] = images[j][0]
    lay_out(folder / "data", test=shares["test"])
    for number, (label, (_, path)) in enumerate(zip(labels, images, strict=True)):
        (folder / "data" / "train" / label).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / "data" / "train" / label / f"{number:05}{path.suffix}")
    real.train(folder / "data", folder / "run")


def drop_class(shelf: Path, folder: Path, shares: dict[str, Files]) -> None:
    parts = {part: {c: paths for c, paths in shares[part].items() if c != DROPPED} for part in ("train", "test")}
    real.train(lay_out(folder / "data", **parts), folder / "run")


def normalise_wrongly(shelf: Path, folder: Path, shares: dict[str, Files]) -> None:
    """Exported with pixels between 0 and 1, which were trained on by their mean and deviation; evaluated as it was."""
    shutil.copytree(shelf / "good", folder / "run")
    checkpoint = msgspec.json.decode((folder / "run" / SIDECAR).read_bytes(), type=Checkpoint)
    checkpoint.mean, checkpoint.std = [0.0] * 3, [255.0] * 3
    (folder / "run" / SIDECAR).write_bytes(msgspec.json.encode(checkpoint))
    assert checkpoints.load(folder / "run")[0].std == checkpoint.std
    command("training", "export", folder / "run", shelf / "data")


def on_trial_answers(versions: list[int], in_service: int) -> list[int]:
    """From the canary's first answer to its last, or to the last of the version before where it became live."""
    until_end = len(versions) - versions[::-1].index(3 - in_service)
    return versions[versions.index(2) : until_end]


def change_nothing_but_the_seed(shelf: Path, folder: Path, shares: dict[str, Files]) -> None:
    """Not worse, for comparison: small networks trained again answer much otherwise."""
    real.train(shelf / "data", folder / "run", "--seed", 1)


@pytest.mark.parametrize(
    ("make", "stopped_by", "ended_by"),
    [
        pytest.param(change_nothing_but_the_seed, None, None, id="another seed"),
        pytest.param(shuffle_labels, None, None, id="labels shuffled on 5 %"),
        pytest.param(drop_class, "classes: ", "disagreement: ", id="a class dropped"),
        pytest.param(normalise_wrongly, "accuracy: ", "disagreement: ", id="wrong normalisation"),
    ],
)
def test_a_worse_version_is_stopped_at_the_gate_and_forced_past_it_meets_its_share_alone(
    make: Callable[[Path, Path, dict[str, Files]], None],
    stopped_by: str | None,
    ended_by: str | None,
    shelf: Path,
    shares: dict[str, Files],
    start_server: StartServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    began, store = time.monotonic(), Path(shutil.copytree(shelf / "store", tmp_path / "store"))
    make(shelf, tmp_path, shares)
    real.publish(tmp_path / "run", store)
    promote = ["models", "promote", "pets:2", "--store", store]
    on_trial = ["--canary", PERCENT, "--requests", REQUESTS]
    command(*promote, codes=(0, 1))
    verdict = gate.read(store, "pets", 2)
    assert verdict is not None
    refused, reasons = not verdict.passed, verdict.reasons()
    if refused:
        pointer = registry.pointer(store, "pets")
        assert pointer is not None
        assert pointer.version == 1
    else:
        command("models", "rollback", "pets", "--store", store)

    server = start_server(store, HUBEL_MODEL="pets", HUBEL_WORKERS="2")
    with traffic(server, clients=3, images=real.mixed(shares["traffic"])) as clients:
        command(*promote, *on_trial, "--force")
        until(lambda: candidate.read(store, "pets") is None, server, every=0.2, patience=PATIENCE)
        pointer = registry.pointer(store, "pets")
        time.sleep(2)
    assert pointer is not None
    given = on_trial_answers([version for version, _ in clients.answers], pointer.version)
    most = PERCENT / 100 * len(given) + 3 * math.sqrt(PERCENT / 100 * len(given)) + 1  # by chance
    figures = {
        "gate": f"refused: {reasons}" if refused else "passed",
        "accuracy": next((check.found for check in verdict.checks if check.rule == "accuracy"), "none"),
        "canary": f"version {pointer.version} live: {pointer.history[-1].reason}",
        "answered by it": f"{given.count(2)} of {len(given)} until its end; {len(clients.answers)} requests, none failed",
        "seconds": f"{time.monotonic() - began:.0f}",
    }
    with capsys.disabled():
        sys.stdout.write(f"\n{make.__name__}: {figures}\n")
    assert 0 < given.count(2) <= most
    if stopped_by is not None:
        assert stopped_by in reasons
    if ended_by is not None:
        assert pointer.version == 1, server.output()
        assert ended_by in pointer.history[-1].reason
    assert server.stop() == 0
