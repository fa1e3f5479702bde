"""The ways to compute a package: on which provider of ONNX Runtime, in which precision, and what it must be told for each.

The precision is that of the multiplications; inputs and outputs of the graph are the same in all of them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from models.package import statistics
from models.package.manifest import MODEL, Accuracy, Manifest

Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

CUDA, OPENVINO, CPU = "CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider"
GRAPHS: dict[Precision, str] = {"fp32": MODEL, "bf16": MODEL, "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
MAX_LOSS = 0.003  # of top-1, against fp32: 0.3 points, where chance does not explain it
LEAST_AGREEMENT = 0.95  # share of the images that get the answer of fp32
MOST_DIFFERENCE = 0.75  # of a golden logit, relative to the largest: with the tolerance of int8, logits of 0 would be off by more
SIGNIFICANT = 0.05
# Of a session: without VNNI, ONNX Runtime's own int8 kernels add pairs of products in 16 bits, which overflow, unless it is told
# to be exact; with VNNI it makes no difference.
EXACT_INT8 = ("session.x64quantprecision", "1")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
CPU_BATCH, GPU_BATCH = 16, 64  # images computed together, where nobody says how many
Options = dict[str, Any]


def _none(threads: int) -> Options:
    return {}


def _cuda(threads: int) -> Options:
    """A convolution's algorithm is chosen by cuDNN's heuristic: trying all of them takes 0.3 s for each batch size, and gains
    less than a CUDA graph does. Memory grows by what is needed, not to the next power of two.
    """
    return {"cudnn_conv_algo_search": "HEURISTIC", "prefer_nhwc": "1", "arena_extend_strategy": "kSameAsRequested"}


def _openvino(precision: Precision) -> Callable[[int], Options]:
    """Threads are not pinned: several processes would choose the same cores."""
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": "NO",
    }

    def options(threads: int) -> Options:
        config = settings | {"INFERENCE_NUM_THREADS": str(threads)}
        return {"device_type": "CPU", "load_config": json.dumps({"CPU": config})}

    return options


@dataclass(frozen=True)
class Backend:
    """One way to compute a package.

    graph: the file of the package that it opens. tolerance: largest difference from a golden logit, relative to the largest one,
    beyond the difference that the package says was measured.
    options: of ONNX Runtime's provider, for so many threads. batch: images computed together, where nobody says how many. sized:
    the provider plans a batch anew whenever its size is another than before, so each size has a session of its own.
    """

    provider: str
    precision: Precision
    graph: str
    tolerance: float
    options: Callable[[int], Options] = _none
    batch: int = CPU_BATCH
    sized: bool = False

    def __str__(self) -> str:
        return f"{self.provider} in {self.precision}"


# Best first. Tolerances were measured with the bundled model: bf16 0.4 %, int8 2 %. fp32 leaves room for TF32 on a GPU. Another
# graph differs by more, and so does arithmetic that overflows.
BACKENDS = (
    Backend(CUDA, "fp16", GRAPHS["fp16"], 0.02, _cuda, GPU_BATCH, sized=True),
    Backend(CUDA, "fp32", GRAPHS["fp32"], 0.01, _cuda, GPU_BATCH, sized=True),
    Backend(OPENVINO, "int8", GRAPHS["int8"], 0.2, _openvino("int8")),
    Backend(OPENVINO, "bf16", GRAPHS["bf16"], 0.05, _openvino("bf16")),
    Backend(OPENVINO, "fp32", GRAPHS["fp32"], 0.01, _openvino("fp32")),
    Backend(CPU, "int8", GRAPHS["int8"], 0.2),
    Backend(CPU, "fp32", GRAPHS["fp32"], 0.01),
)


def cpu_has_bf16() -> bool:
    """Whether this machine's processor multiplies bfloat16 natively (Linux; elsewhere it is not known)."""
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return False
    return not BFLOAT16_FLAGS.isdisjoint(flags.split())


def backends(provider: str) -> tuple[Backend, ...]:
    """What ``provider`` computes in on this machine, fastest first."""
    ways = (way for way in BACKENDS if way.provider == provider)
    return tuple(way for way in ways if way.precision != "bf16" or cpu_has_bf16())


def computable(provider: str) -> tuple[Precision, ...]:
    """The precisions of ``backends``."""
    return tuple(way.precision for way in backends(provider))


def provider_options(provider: str, precision: Precision, threads: int) -> Options:
    """Options of an ONNX Runtime provider that is to compute in ``precision``; none where nobody is served that way."""
    ways = (way.options(threads) for way in BACKENDS if (way.provider, way.precision) == (provider, precision))
    return next(ways, {})


def losses(measured: list[Accuracy], precision: str, samples: int) -> list[tuple[str, str]]:
    """Each provider on which ``precision`` surely answers worse than fp32 on these images, and what it loses.

    It loses more than MAX_LOSS, and more than chance explains: McNemar's exact test, one-sided, at SIGNIFICANT for all its
    providers together (Bonferroni). Or so many answers are others that Wilson's interval of the share that agrees lies below
    LEAST_AGREEMENT. Or its golden answers differ by more than MOST_DIFFERENCE, which a service would then have to accept.
    """
    best = max((a.top1 for a in measured if a.precision == "fp32"), default=0.0)
    found: list[tuple[str, str]] = []
    ways = [a for a in measured if a.precision == precision]
    for a in ways:
        lost, gained = _discordant(a, best, samples)
        if (lost - gained) / samples > MAX_LOSS and statistics.binomial_tail(gained, lost + gained) < SIGNIFICANT / len(ways):
            points = 100 * (lost - gained) / samples
            found.append((a.provider, f"loses {points:.2f} points of top-1 in {precision}, the limit is {100 * MAX_LOSS:g}"))
        elif a.agreement is not None and statistics.wilson(a.agreement, samples)[1] < LEAST_AGREEMENT:
            share, limit = 1 - a.agreement, 1 - LEAST_AGREEMENT
            found.append((a.provider, f"gives {share:.1%} of the images another answer in {precision}, the limit is {limit:.0%}"))
        elif (differs := a.golden or 0.0) > MOST_DIFFERENCE:
            told = f"answers its golden inputs in {precision} with a logit that is off by {differs:.1%} of the largest one"
            found.append((a.provider, f"{told}, the limit is {MOST_DIFFERENCE:.0%}"))
    return found


def _discordant(accuracy: Accuracy, best: float, samples: int) -> tuple[int, int]:
    """How many images fp32 alone answers right, and how many this one alone; where a package does not tell, the fewest that
    its top-1 allows, which is what chance explains least."""
    if accuracy.lost is not None and accuracy.gained is not None:
        return accuracy.lost, accuracy.gained
    return max(0, round((best - accuracy.top1) * samples)), 0


def refusal(manifest: Manifest, precision: Precision) -> str | None:
    """Why the package must not be computed in ``precision``; None where it may."""
    if precision == "fp32":
        return None
    if GRAPHS[precision] not in manifest.files:
        return f"{manifest.id} holds no {GRAPHS[precision]}"
    evaluation = manifest.evaluation
    if not {"fp32", precision} <= {a.precision for a in evaluation.providers}:
        return f"the accuracy of {manifest.id} was not measured in {precision}"
    lost = losses(evaluation.providers, precision, evaluation.samples)
    return f"{manifest.id} {lost[0][1]}" if lost else None
