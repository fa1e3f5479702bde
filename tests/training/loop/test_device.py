"""training/loop/device.py: which precision a machine computes in, and what it refuses."""

import pytest
import torch

from training.errors import RecipeError
from training.loop import device
from training.loop.device import choose_device


def as_if(monkeypatch: pytest.MonkeyPatch, gpu: bool, bf16: bool) -> None:
    def supported(including_emulation: bool) -> bool:
        return bf16 or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: bf16)


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, None)])
def test_auto_is_bf16_where_the_hardware_multiplies_it(
    gpu: bool, bf16: bool, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if(monkeypatch, gpu, bf16)

    assert choose_device("auto") == device.Device("cuda" if gpu else "cpu", dtype)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_precision_that_is_named_is_taken_as_it_is(
    precision: str, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if(monkeypatch, gpu=True, bf16=False)

    assert choose_device(precision).dtype == dtype


def test_fp16_without_a_gpu_is_refused_with_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    as_if(monkeypatch, gpu=False, bf16=True)

    with pytest.raises(RecipeError, match=r'"fp16", which needs a CUDA GPU.*choose "bf16", "fp32" or "auto"'):
        choose_device("fp16")


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_multiplications_are_done_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    name = choose_device(precision).name
    matrix = torch.ones(2, 2, device=name)

    with choose_device(precision).autocast():
        assert (matrix @ matrix).dtype == dtype


def test_gradients_are_scaled_in_fp16_alone() -> None:
    assert not device.Device("cpu", None).scaler().is_enabled()
    assert not device.Device("cpu", torch.bfloat16).scaler().is_enabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gradients_are_scaled_on_a_gpu_in_fp16() -> None:
    assert choose_device("fp16").scaler().is_enabled()


def test_full_precision_is_for_the_time_being() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with device.full_precision():
            inside = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
        assert inside == (False, "highest")
        assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (True, "high")
    finally:
        torch.set_float32_matmul_precision("highest")
