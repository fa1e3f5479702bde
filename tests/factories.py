"""Makers of what the tests need: pictures, tiny ONNX graphs, manifests and whole packages, all in milliseconds."""

import struct
import tempfile
import zlib
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFilter

from models.image.fingerprint import fingerprint
from models.image.spec import InputSpec
from models.package import manifest as manifests
from models.package.manifest import Manifest
from models.registry import registry

LABELS = ("red", "green", "blue")
STRIDE = 4  # pixels a cell of the feature map
OPPONENTS = ((1, -0.5, -0.5), (-0.5, 1, -0.5), (-0.5, -0.5, 1), (1 / 3, 1 / 3, 1 / 3))  # redness, greenness, ...


def make_picture(width: int = 64, height: int = 48, mode: str = "RGB", seed: int = 0, color: str | None = None) -> Image.Image:
    """A smooth picture, the same for the same seed: a gradient with blurred ellipses; mostly of ``color`` if one is given."""
    random = np.random.default_rng(seed)
    corners = Image.fromarray(random.integers(40, 216, (2, 2, 3)).astype(np.uint8))
    image = corners.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = random.uniform(0, 0.7, 2) * (width, height)
        across, down = random.uniform(0.15, 0.5, 2) * (width, height)
        red, green, blue = (int(value) for value in random.integers(0, 256, 3))
        draw.ellipse((x, y, x + across, y + down), fill=(red, green, blue))
    image = image.filter(ImageFilter.GaussianBlur(1))
    if color is not None:
        image = Image.blend(image, Image.new("RGB", image.size, color), 0.75)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    if mode.startswith("I;16"):
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 256 + 255 - np.asarray(image.convert("L"))
        return Image.fromarray(grey.astype(np.uint16))
    return image.convert(mode)


def make_image(
    format: str = "JPEG",
    width: int = 64,
    height: int = 48,
    mode: str = "RGB",
    seed: int = 0,
    color: str | None = None,
    **save_options: Any,
) -> bytes:
    """The file of ``make_picture`` in a format of Pillow: "JPEG", "PNG", "WEBP", ...; quality, exif and so on as options."""
    return encode(make_picture(width, height, mode, seed, color), format, **save_options)


def encode(image: Image.Image, format: str = "PNG", **save_options: Any) -> bytes:
    """The file of any picture."""
    file = BytesIO()
    image.save(file, format, **save_options)
    return file.getvalue()


def make_onnx(
    path: Path,
    height: int = 32,
    width: int = 32,
    classes: int = 3,
    dimensions: int = 4,
    seed: int = 0,
    poison: bool = False,
    novelty: bool = False,
) -> None:
    """A tiny graph that fulfils the contract of a package and truly looks at the picture.

    Features are the means of redness, greenness, blueness and brightness over patches of 4x4 pixels, further ones are
    random mixtures; class 0 is what is red, class 1 green, class 2 blue, further ones random mixtures of the features.
    With ``poison`` it fails on a batch that has a white picture in it. With ``novelty`` it has that output too: the mean of the
    pixels, 0 of a black picture and 1 of a white one.
    """
    path.write_bytes(_graph(height, width, classes, dimensions, seed, poison, novelty))


@cache
def _graph(
    height: int, width: int, classes: int, dimensions: int, seed: int, poison: bool = False, novelty: bool = False
) -> bytes:
    random = np.random.default_rng(seed)
    colours = random.normal(0, 0.5, (dimensions, 3))
    colours[: len(OPPONENTS)] = OPPONENTS[:dimensions]
    kernel = np.repeat(colours, STRIDE * STRIDE, axis=1).reshape(dimensions, 3, STRIDE, STRIDE) / STRIDE**2
    bias = np.zeros(dimensions)
    bias[3:] = 2.5  # so that no picture, not even a black one, has only zeros for features
    weight = random.normal(0, 0.1, (classes, dimensions))
    known = min(3, classes, dimensions)
    weight[:known] = 2 * np.eye(known, dimensions)
    constants = {
        "scale": np.float32(1 / 255),
        "mean": np.full((3, 1, 1), 0.5),
        "std": np.full((3, 1, 1), 0.25),
        "kernel": kernel,
        "bias": bias,
        "weight": weight,
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["unit"]),
        helper.make_node("Sub", ["unit", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("Conv", ["normal", "kernel", "bias"], ["mixed"], strides=[STRIDE, STRIDE]),
        helper.make_node("Relu", ["mixed"], ["feature_map"]),
        helper.make_node("GlobalAveragePool", ["feature_map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "weight"], ["logits"], transB=1),
    ]
    whole: list[TensorProto] = []
    if poison:  # asks for the second of one; OpenVINO has no sequences, so ONNX Runtime's own provider computes this
        constants |= {"zeros": np.zeros((1, dimensions)), "hair": np.full((), 0.001)}
        whole.append(numpy_helper.from_array(np.asarray([1]), "second"))
        nodes[-2:] = [
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Flatten", ["unit"], ["values"]),
            helper.make_node("ReduceMin", ["values", "second"], ["darkest"], keepdims=0),  # 1.0 where all is white
            helper.make_node("ReduceMax", ["darkest"], ["lightest"], keepdims=0),
            helper.make_node("Add", ["lightest", "hair"], ["at_least"]),
            helper.make_node("Cast", ["at_least"], ["which"], to=TensorProto.INT64),
            helper.make_node("SequenceConstruct", ["zeros"], ["sequence"]),
            helper.make_node("SequenceAt", ["sequence", "which"], ["nothing"]),
            helper.make_node("Add", ["flat", "nothing"], ["features"]),
            *nodes[-1:],
        ]
    shapes = {"logits": [classes], "features": [dimensions], "feature_map": [dimensions, height // STRIDE, width // STRIDE]}
    if novelty:
        whole.append(numpy_helper.from_array(np.asarray([1, 2, 3]), "pixels"))
        nodes.append(helper.make_node("ReduceMean", ["unit", "pixels"], ["bright"], keepdims=0))
        nodes.append(helper.make_node("Flatten", ["bright"], [manifests.NOVELTY]))
        shapes |= {manifests.NOVELTY: [1]}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", height, width, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()],
        [*whole, *(numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def run_onnx(model: Path | bytes, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Every output of a graph for images (n, height, width, 3), by name, as ONNX Runtime computes them on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs: list[Any] = list(session.run(None, {"images": images}))
    return {output.name: array for output, array in zip(session.get_outputs(), outputs, strict=True)}


@cache
def _golden(model: bytes, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    pictures = [make_picture(width, height, color=color) for color in (*LABELS, None)]
    images = np.stack([np.asarray(picture) for picture in pictures])
    return images, run_onnx(model, images)["logits"]


_fingerprint = cache(fingerprint)


def make_manifest(**changes: Any) -> Manifest:
    """A valid manifest with some fields changed; what follows from labels and input is filled in to agree with them."""
    labels = list(changes.get("labels", LABELS))
    spec = changes.get("input", InputSpec(height=32, width=32, resize=36))
    fields: dict[str, Any] = {
        "schema": manifests.SCHEMA,
        "name": "tiny",
        "version": 1,
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "architecture": "tiny",
        "labels": labels,
        "input": spec,
        "preprocessing": _fingerprint(spec),
        "outputs": {
            "logits": [len(labels)],
            "features": [4],
            "feature_map": [4, spec.height // STRIDE, spec.width // STRIDE],
        },
        "temperature": 1.0,
        "threshold": 0.5,
        "evaluation": {
            "dataset": "coloured pictures",
            "split": "test",
            "dataset_sha256": "1" * 64,
            "samples": 30,
            "top1": 0.9,
            "top5": 1.0,
            "per_class": dict.fromkeys(labels, 0.9),
            "calibration_error": 0.01,
            "coverage": 0.95,
            "parity_max_difference": 1e-6,
            "parity_same_top1": 1.0,
            "providers": [{"provider": "CPUExecutionProvider", "precision": "fp32", "top1": 0.9}],
        },
        "provenance": {"command": "hubel train data", "seed": 0},
        "files": dict.fromkeys((manifests.MODEL, manifests.GOLDEN, manifests.CARD), "0" * 64),
    }
    return msgspec.convert(msgspec.to_builtins(fields | changes), Manifest)


def make_files(folder: Path, manifest: Manifest, golden_error: float = 0.0, **graph: Any) -> None:
    """The files that fit a manifest, in ``folder``: graph, card, and golden inputs with its logits plus ``golden_error``.

    ``graph`` holds arguments of ``make_onnx`` that shall differ from the manifest; the golden logits do not follow them.
    """
    size, dimensions = manifest.input, manifest.outputs["features"][0]
    fitting: dict[str, Any] = {
        "height": size.height,
        "width": size.width,
        "classes": len(manifest.labels),
        "dimensions": dimensions,
    }
    make_onnx(folder / manifests.MODEL, **(fitting | graph))
    promised = _graph(size.height, size.width, len(manifest.labels), dimensions, seed=0)
    images, logits = _golden(promised, size.height, size.width)  # (4, height, width, 3) uint8, (4, classes) float32
    np.savez_compressed(folder / manifests.GOLDEN, images=images, logits=logits + np.float32(golden_error))
    (folder / manifests.CARD).write_text(f"# {manifest.name}\n\nA tiny network for tests.\n")


def make_package(
    store: Path,
    name: str = "tiny",
    labels: tuple[str, ...] = LABELS,
    golden_error: float = 0.0,
    graph: dict[str, Any] | None = None,
    novelty: float | None = None,
    **changes: Any,
) -> Path:
    """Publish a small package and return its folder; the next call publishes the next version.

    ``changes`` are fields of the manifest; ``graph`` holds arguments of ``make_onnx`` that shall differ from it;
    ``golden_error`` is added to the golden logits; ``novelty`` is the threshold of a graph with that output.
    """
    draft = make_manifest(name=name, labels=labels, **changes)
    if novelty is not None:
        draft = msgspec.structs.replace(draft, outputs=draft.outputs | {manifests.NOVELTY: [1]}, novelty_threshold=novelty)
        graph = (graph or {}) | {"novelty": True}
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), draft, golden_error, **(graph or {}))
        published = registry.publish(store, Path(folder), draft)
    return store / published.name / str(published.version)


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG that announces a size and holds no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
