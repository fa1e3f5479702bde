"""Several processes that train one network together, as torchrun starts them: each computes its part of every batch.
Without torchrun there is one process, and nothing here does anything.
"""

import hashlib
import os
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from io import StringIO

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from training.errors import RecipeError
from training.loop import torchrun


@dataclass(frozen=True)
class Processes:
    """This process among all of them: the ``rank``-th of ``size``, counted from 0."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Which of n images are this process's; parts differ by one image at most."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over all processes, in place and at one go; they are of one type and device."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor the mean of those of all processes, as ``add`` does."""
        self.add(tensors)
        for tensor in tensors:
            tensor /= self.size

    def agree(self, text: str) -> bool:
        """Whether all processes say the same."""
        if self.size == 1:
            return True
        number = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
        extremes = torch.tensor([number, -number], device="cuda" if torch.cuda.is_available() else "cpu")
        distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
        return bool(extremes[0] == -extremes[1])

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def speech(self) -> AbstractContextManager[object]:
        """Within it, nothing is said on standard error but by the first process."""
        return nullcontext() if self.first else redirect_stderr(StringIO())


ALONE = Processes()


@contextmanager
def joined() -> Generator[Processes]:
    """Meets the other processes that torchrun started, over NCCL on GPUs, one each, or over gloo.

    Raises:
        RecipeError: more processes than GPUs on this machine.
    """
    if torchrun.world_size() == 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        own, local, gpus = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if local > gpus:
            raise RecipeError(f"{local} processes for {gpus} GPUs: give torchrun --nproc-per-node {gpus}")
        torch.cuda.set_device(own)
    store, own, size = next(rendezvous("env://"))
    # torchrun keeps its store when it starts processes again (torch 2.15): without a prefix they would read there where
    # the dead ones listened, and wait for them.
    store = PrefixStore(f"start {torchrun.restarts()}", store)
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", store=store, rank=own, world_size=size)
    yield Processes(own, size)
    distributed.destroy_process_group()
