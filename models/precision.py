"""In which precisions a package may be computed, and what ONNX Runtime must be told for each.

The precision is that of the multiplications; inputs and outputs of the graph are the same in all of them.
Neighbours: manifest.py holds the accuracy measured in each, training/export.py measures it, service/runtime.py obeys.
"""

import json
from pathlib import Path
from typing import Any, Literal, get_args

from models.manifest import MODEL, Accuracy, Manifest

Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

CUDA, OPENVINO, CPU = "CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider"
GRAPHS: dict[Precision, str] = {"fp32": MODEL, "bf16": MODEL, "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
FASTEST: dict[str, tuple[Precision, ...]] = {  # what a provider computes in, fastest first
    CUDA: ("fp16", "fp32"),
    OPENVINO: ("int8", "bf16", "fp32"),
    CPU: ("int8", "fp32"),
}
MAX_LOSS = 0.003  # of top-1, against fp32: 0.3 points
# Largest difference from a golden logit, relative to the largest one. Measured with the bundled model: bf16 0.4 %, int8
# 2 %. fp32 leaves room for TF32 on a GPU. Another graph differs by more, and so does arithmetic that overflows.
GOLDEN_TOLERANCE: dict[Precision, float] = {"fp32": 0.01, "bf16": 0.05, "fp16": 0.02, "int8": 0.2}
CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",  # the exhaustive search takes hundreds of milliseconds for every new shape
    "arena_extend_strategy": "kSameAsRequested",  # grow by what is needed, not to the next power of two
}
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def cpu_has_bf16() -> bool:
    """Whether this machine's processor multiplies bfloat16 natively (Linux; elsewhere it is not known)."""
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return False
    return not BFLOAT16_FLAGS.isdisjoint(flags.split())


def computable(provider: str) -> tuple[Precision, ...]:
    """What ``provider`` computes in on this machine, fastest first."""
    return tuple(p for p in FASTEST[provider] if p != "bf16" or cpu_has_bf16())


def loss(measured: list[Accuracy], precision: str) -> float | None:
    """Top-1 lost against fp32, on the worst provider it was measured on; None where one of the two was not measured."""
    found = {name: [a.top1 for a in measured if a.precision == name] for name in ("fp32", precision)}
    return round(max(found["fp32"]) - min(found[precision]), 6) if all(found.values()) else None


def refusal(manifest: Manifest, precision: Precision) -> str | None:
    """Why the package must not be computed in ``precision``; None where it may."""
    if precision == "fp32":
        return None
    if GRAPHS[precision] not in manifest.files:
        return f"{manifest.id} holds no {GRAPHS[precision]}"
    if (lost := loss(manifest.evaluation.providers, precision)) is None:
        return f"the accuracy of {manifest.id} was not measured in {precision}"
    if lost > MAX_LOSS:
        return f"{manifest.id} loses {100 * lost:.2f} points of top-1 in {precision}, the limit is {100 * MAX_LOSS:g}"
    return None


def provider_options(provider: str, precision: Precision, threads: int) -> dict[str, Any]:
    """Options of an ONNX Runtime provider that is to compute in ``precision``."""
    if provider == OPENVINO:
        return _openvino(precision, threads)
    return dict(CUDA_OPTIONS) if provider == CUDA else {}


def _openvino(precision: Precision, threads: int) -> dict[str, Any]:
    """Threads are not pinned: several processes would choose the same cores."""
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": "NO",
    }
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": settings})}
