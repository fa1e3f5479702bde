"""Which ways there are to compute a package on the device asked for, and why one cannot be had."""

import onnxruntime

from models.package import precision as precisions
from models.package.manifest import Manifest
from models.package.precision import CPU, CUDA, OPENVINO, PRECISIONS, Backend
from models.terminal import program

PROVIDERS = {"auto": (CUDA, OPENVINO, CPU), "cuda": (CUDA,), "cpu": (OPENVINO, CPU)}  # best first


class DeviceError(Exception):
    """The device or precision asked for cannot be had; ``str()`` says what there is."""


class DeviceLost(Exception):
    """The GPU cannot be used any more by this process."""


def choose(manifest: Manifest, device: str, precision: str) -> list[Backend]:
    """Ways to compute the package on the device asked for, fastest first, as far as this ONNX Runtime has them.

    Raises:
        DeviceError: there is none; it says why and what there is.
    """
    installed = [p for p in PROVIDERS[device] if p in onnxruntime.get_available_providers()]
    if not installed:
        raise DeviceError(no_gpu(f"has no {CUDA}"))
    wanted = PRECISIONS if precision == "auto" else (precision,)
    refusals = {p: precisions.refusal(manifest, p) for p in PRECISIONS}
    possible = [way for provider in installed for way in precisions.backends(provider)]
    ways = [way for way in possible if way.precision in wanted and refusals[way.precision] is None]
    if not ways:
        offered = sorted({way.precision for way in possible if refusals[way.precision] is None})
        reason = refusals[wanted[0]] or f"nothing here computes in it ({', '.join(installed)})"
        raise DeviceError(f"HUBEL_PRECISION is {precision} but {reason}; set it to auto or {' or '.join(offered)}")
    return ways


def no_gpu(reason: str) -> str:
    """What to say where a GPU was asked for and ONNX Runtime cannot use one."""
    serve = program.make("serve", "SERVE_EXTRA=serve-gpu")
    return (
        f"HUBEL_DEVICE is cuda but ONNX Runtime {onnxruntime.__version__} {reason}; serve with '{serve}', in containers "
        f"'{program.make('up', 'SERVICE=hubel-gpu')}', on a machine with an NVIDIA driver, or set HUBEL_DEVICE to auto or cpu"
    )
