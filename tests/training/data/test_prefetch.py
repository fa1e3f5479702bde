"""training/data/prefetch.py: the same batches as without it, one ahead."""

import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from tests.training.factories import make_folder, make_recipe
from training.data.prefetch import prefetched
from training.loop import checkpoint as checkpoints
from training.loop import epoch, train
from training.loop.device import Device

T = TypeVar("T")


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_items_come_as_they_are_and_in_their_order(n: int) -> None:
    assert list(prefetched(iter(range(n)))) == list(range(n))


def test_items_that_are_nothing_come_too() -> None:
    assert list(prefetched([None, 0, (), ""])) == [None, 0, (), ""]


def test_another_thread_makes_the_next_item_while_this_one_is_used_and_none_after_it() -> None:
    made: list[tuple[int, bool]] = []
    second = threading.Event()

    def numbers() -> Iterator[int]:
        for i in range(5):
            made.append((i, threading.current_thread() is threading.main_thread()))
            if i == 1:
                second.set()
            yield i

    items = prefetched(numbers())
    assert next(items) == 0
    assert second.wait(10)
    items.close()

    assert made == [(0, False), (1, False)]


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no third")

    items = prefetched(numbers())

    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(items)


def test_the_thread_takes_the_gpu_of_the_process_and_not_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    of_thread = threading.local()
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: setattr(of_thread, "gpu", number))  # pyright: ignore
    monkeypatch.setattr(torch.cuda, "current_device", lambda: getattr(of_thread, "gpu", 0))
    torch.cuda.set_device(3)

    def gpus() -> Iterator[int]:
        yield torch.cuda.current_device()

    assert list(prefetched(gpus())) == [0]
    assert list(prefetched(gpus(), Device("cuda", None).of_this_thread())) == [3]


def test_an_epoch_makes_its_batches_on_the_gpu_of_the_process(
    tmp_path: Path, networks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(Device, "of_this_thread", lambda _: lambda: begun.append(threading.current_thread().name))  # pyright: ignore
    train.train(make_folder(tmp_path / "colours"), tmp_path / "run", make_recipe(architecture="plain", epochs=2), say=False)

    assert begun == ["prefetch_0", "prefetch_0"]


def one_by_one(items: Iterable[T], _: object) -> Generator[T]:
    yield from items


def test_a_run_learns_the_same_with_and_without_it_bit_by_bit(
    tmp_path: Path, networks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_folder(tmp_path / "colours")
    recipe = make_recipe(architecture="dropping", cutout=2, cutmix=0.5)
    train.train(source, tmp_path / "ahead", recipe, say=False)
    monkeypatch.setattr(epoch, "prefetched", one_by_one)
    train.train(source, tmp_path / "serial", recipe, say=False)

    first, second = (checkpoints.load(tmp_path / name)[1].state_dict() for name in ("ahead", "serial"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
