"""Where the network runs, and in which precision it multiplies."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from models.package.precision import cpu_has_bf16
from training.errors import RecipeError

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Device:
    """name: torch's. dtype: of multiplications and convolutions, None where all is float32."""

    name: str
    dtype: torch.dtype | None

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"

    def of_this_thread(self) -> Callable[[], None]:
        """What makes another thread use the GPU of this one: torch gives every new thread the first GPU."""
        return partial(torch.cuda.set_device, torch.cuda.current_device()) if self.is_gpu else lambda: None

    def autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.name).type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def scaler(self) -> torch.GradScaler:
        """What keeps gradients within the range of fp16; does nothing in another precision."""
        return torch.GradScaler("cuda", enabled=self.dtype is torch.float16)


def choose_device(precision: str) -> Device:
    """A GPU where there is one. "auto" is bf16 where the hardware multiplies it natively, else fp32.

    Raises:
        RecipeError: fp16 without a GPU.
    """
    gpu = torch.cuda.is_available()
    if precision == "fp16" and not gpu:
        raise RecipeError('precision is "fp16", which needs a CUDA GPU; this machine has none: choose "bf16", "fp32" or "auto"')
    if precision == "auto":
        native = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bf16()
        precision = "bf16" if native else "fp32"
    return Device("cuda" if gpu else "cpu", DTYPES[precision])


@contextmanager
def full_precision() -> Generator[None]:
    """Convolutions and products of matrices in float32 throughout. Without it CUDA takes 10 bits of the mantissa of what is
    convolved (TF32), which moves logits by 0.001 to 0.03; and whoever set a lower precision for matrices does that too."""
    before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(enabled=cudnn.enabled, deterministic=cudnn.deterministic, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
