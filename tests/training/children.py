"""Trainings in processes of their own, which may be killed: forked from one that has loaded torch and started no thread."""

import io
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from tests.forks import CONTEXT
from tests.server import free_port
from tests.training.factories import make_recipe
from tests.training.stand_ins import NETWORKS
from training.loop import checkpoint as checkpoints
from training.loop import train
from training.networks import catalogue
from training.networks.classifier import Classifier

KILLED = -signal.SIGKILL
Place = tuple[str, int]  # of a death, and at which time that a run comes there


def begin(
    source: Path,
    folder: Path,
    changes: dict[str, Any] | None,
    place: Place | None = None,
    environment: dict[str, str] | None = None,
) -> ForkServerProcess:
    """Train by the recipe of the tests with ``changes``, or go on with the checkpoint when there are none."""
    return call(_train, source, folder, changes, place, environment=environment)


def call(function: Callable[..., object], *arguments: object, environment: dict[str, str] | None = None) -> ForkServerProcess:
    """Begin a process that calls ``function`` and may train the networks of the tests."""
    process = CONTEXT.Process(target=_call, args=(function, arguments, environment or {}), daemon=True)
    process.start()
    return process


def together(size: int, **more: str) -> list[dict[str, str]]:
    """Environments of processes that train together, as torchrun sets them."""
    shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        {key: str(value) for key, value in (shared | {"RANK": rank, "LOCAL_RANK": rank} | more).items()} for rank in range(size)
    ]


def finish(process: ForkServerProcess) -> int | None:
    """Its exit code; none of a process that did not end in time, which is killed."""
    process.join(120)
    code = process.exitcode
    process.kill()
    return code


def _call(function: Callable[..., object], arguments: tuple[object, ...], environment: dict[str, str]) -> None:
    torch.set_num_threads(1)
    os.environ.update(environment)
    catalogue.ARCHITECTURES.update(NETWORKS)
    function(*arguments)


def _train(source: Path, folder: Path, changes: dict[str, Any] | None, place: Place | None) -> None:
    if place:
        DEATHS[place[0]](place[1])
    train.train(source, folder, None if changes is None else make_recipe(**changes), say=False)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_a_step(number: int) -> None:
    seen = 0

    def count(module: object, _: object) -> None:
        nonlocal seen
        seen += isinstance(module, Classifier) and module.training
        if seen == number:
            die()

    register_module_forward_pre_hook(count)


def half_way_through_the_weights(number: int) -> None:
    seen, save = 0, torch.save

    def half(content: object, file: Any) -> None:
        nonlocal seen
        seen += 1
        if seen < number:
            return save(content, file)
        save(content, buffer := io.BytesIO())
        file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        file.flush()
        die()

    torch.save = half


def around_a_rename(name: str, before: bool) -> Callable[[int], None]:
    """Before or after a file, whose name ends with ``name``, takes its place."""

    def arm(number: int) -> None:
        seen, replace = 0, Path.replace

        def counted(self: Path, target: Any) -> Path:
            nonlocal seen
            seen += str(target).endswith(name)
            if seen == number and before:
                die()
            replace(self, target)
            if seen == number:
                die()
            return Path(target)

        Path.replace = counted

    return arm


def after_saving(number: int) -> None:
    seen, save = 0, checkpoints.save

    def counted(*arguments: Any) -> None:
        nonlocal seen
        save(*arguments)
        seen += 1
        if seen == number:
            die()

    checkpoints.save = counted


DEATHS: dict[str, Callable[[int], None]] = {
    "at a step": at_a_step,
    "half-way through the weights": half_way_through_the_weights,
    "before the weights are renamed": around_a_rename(".pt", before=True),
    "between weights and sidecar": around_a_rename(".pt", before=False),
    "before the sidecar is renamed": around_a_rename(checkpoints.SIDECAR, before=True),
    "after the sidecar is renamed": around_a_rename(checkpoints.SIDECAR, before=False),
    "after saving": after_saving,
}
