"""Stage infer: a package that is what its manifest says answers as its graph does; every other one is refused."""

import shutil
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from models import manifest as manifests
from models import registry
from models.fingerprint import fingerprint
from models.input import InputSpec
from models.manifest import GOLDEN, MODEL, OUTPUTS, PackageError
from service.runtime import CPU, CUDA, DeviceError, Runtime
from tests.factories import LABELS, make_package, make_picture, run_onnx

GPU = CUDA in onnxruntime.get_available_providers()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package to be copied, not changed."""
    return make_package(tmp_path_factory.mktemp("store"))


@pytest.fixture
def package(published: Path, tmp_path: Path) -> Path:
    """A copy of the package to damage."""
    return Path(shutil.copytree(published, tmp_path / published.parent.name / published.name))


def pictures(*colors: str) -> NDArray[np.uint8]:
    return np.stack([np.asarray(make_picture(32, 32, seed=seed, color=color)) for seed, color in enumerate(colors)])


def replace(package: Path, name: str, data: bytes) -> None:
    """Replace a file and have the manifest say so: the hashes fit, what is inside may not."""
    (package / name).write_bytes(data)
    manifest = manifests.read(package)
    files = manifest.files | {name: registry.sha256(package / name)}
    manifests.write(package, msgspec.structs.replace(manifest, files=files))


def change_graph(package: Path, change: Callable[[ModelProto], None]) -> None:
    model = onnx.load_model(package / MODEL)
    change(model)
    replace(package, MODEL, model.SerializeToString())


def npz(**arrays: Any) -> bytes:
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def refusal(package: Path) -> str:
    with pytest.raises(PackageError) as caught:
        Runtime(package, "cpu", threads=1)
    return str(caught.value)


def test_a_package_answers_as_its_graph_does(published: Path) -> None:
    runtime = Runtime(published, "cpu", threads=1)
    images = pictures("red", "green", "blue", "red")
    expected = run_onnx(published / MODEL, images)
    given = runtime.run(images, OUTPUTS)
    assert set(given) == set(expected) == {"logits", "features", "feature_map"}
    for name, array in given.items():
        assert array.dtype == np.float32
        assert array == pytest.approx(expected[name], abs=1e-5)
    assert [LABELS[i] for i in given["logits"].argmax(axis=1)] == ["red", "green", "blue", "red"]


def test_only_what_was_asked_for_is_computed_and_in_any_order(published: Path) -> None:
    runtime = Runtime(published, "cpu", threads=1)
    images = pictures("red", "blue")
    assert list(runtime.run(images, ["features"])) == ["features"]
    both = runtime.run(images, ["logits", "features"])
    assert both["logits"].shape == (2, 3)
    assert both["features"].shape == (2, 4)


def test_a_batch_answers_as_its_images_do_alone(published: Path) -> None:
    runtime = Runtime(published, "cpu", threads=1)
    images = pictures(*LABELS, *LABELS)
    together = runtime.run(images, ["features"])["features"]
    alone = [runtime.run(images[i : i + 1], ["features"])["features"][0] for i in range(len(images))]
    assert together == pytest.approx(np.stack(alone), abs=1e-5)


def test_the_runtime_says_what_it_serves_and_on_what(published: Path) -> None:
    runtime = Runtime(published, "cpu", threads=1)
    assert runtime.manifest.id == "tiny:1"
    assert runtime.provider == CPU


@pytest.mark.skipif(GPU, reason="this machine may have a usable GPU")
def test_auto_takes_the_processor_where_there_is_no_gpu(published: Path) -> None:
    assert Runtime(published, "auto", threads=1).provider == CPU


@pytest.mark.skipif(GPU, reason="this machine may have a usable GPU")
def test_cuda_is_refused_where_there_is_no_gpu(published: Path) -> None:
    with pytest.raises(DeviceError, match=r"HUBEL_DEVICE is cuda but ONNX Runtime .* would run on CPUExecutionProvider"):
        Runtime(published, "cuda", threads=1)


class Recorder:
    """A session that notes the sizes of the batches that it runs."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session = session
        self.sizes: list[int] = []

    def run(self, outputs: Sequence[str], feeds: dict[str, NDArray[np.uint8]]) -> Any:
        self.sizes.append(len(feeds["images"]))
        return self.session.run(list(outputs), feeds)


@pytest.mark.parametrize(
    ("max_batch", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])]
)
def test_warming_runs_powers_of_two_and_the_largest_batch(published: Path, max_batch: int, sizes: list[int]) -> None:
    runtime = Runtime(published, "cpu", threads=1)
    recorder = Recorder(runtime.session)
    runtime.session = cast(Any, recorder)
    runtime.warm(max_batch)
    assert recorder.sizes == sizes


def test_a_package_that_was_changed_is_refused(package: Path) -> None:
    with open(package / MODEL, "ab") as file:
        file.write(b"\0")
    assert "model.onnx was changed" in refusal(package)


def test_a_package_that_answers_otherwise_than_promised_is_refused(package: Path) -> None:
    with np.load(package / GOLDEN) as golden:
        images, logits = golden["images"], golden["logits"]
    logits[2, 1] += 1
    replace(package, GOLDEN, npz(images=images, logits=logits))
    assert "tiny:1 answers its golden inputs differently on CPUExecutionProvider: a logit is off by 1," in refusal(package)


def use_other_weights(model: ModelProto) -> None:
    weight = next(constant for constant in model.graph.initializer if constant.name == "weight")
    weight.raw_data = np.full((3, 4), 0.3, np.float32).tobytes()


def test_another_graph_of_the_same_shape_is_refused(package: Path) -> None:
    change_graph(package, use_other_weights)
    assert "answers its golden inputs differently" in refusal(package)


def test_small_differences_between_processors_are_no_fault(package: Path) -> None:
    with np.load(package / GOLDEN) as golden:
        images, logits = golden["images"], golden["logits"]
    replace(package, GOLDEN, npz(images=images, logits=logits + np.float32(0.005)))
    assert Runtime(package, "cpu", threads=1).manifest.id == "tiny:1"


IMAGES, LOGITS = np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    "golden",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not an archive", id="no archive"),
        pytest.param(npz(images=IMAGES), id="no logits"),
        pytest.param(npz(images=IMAGES[:0], logits=LOGITS[:0]), id="no images"),
        pytest.param(npz(images=IMAGES[:, :16], logits=LOGITS), id="images of another size"),
        pytest.param(npz(images=IMAGES.astype(np.float32), logits=LOGITS), id="images of another type"),
        pytest.param(npz(images=np.array([None]), logits=LOGITS), id="pickled objects"),
    ],
)
def test_golden_inputs_that_cannot_be_replayed_are_refused(package: Path, golden: bytes) -> None:
    replace(package, GOLDEN, golden)
    assert "golden.npz does not hold images for this graph and their logits" in refusal(package)


@pytest.mark.parametrize("logits", [LOGITS[:1], LOGITS[:, :2], LOGITS * np.nan], ids=["fewer rows", "fewer classes", "NaN"])
def test_golden_logits_that_fit_nothing_are_refused(package: Path, logits: NDArray[np.float32]) -> None:
    replace(package, GOLDEN, npz(images=IMAGES, logits=logits))
    assert "answers its golden inputs differently" in refusal(package)


def test_a_package_measured_with_other_preprocessing_is_refused(package: Path) -> None:
    manifest = manifests.read(package)
    manifests.write(package, msgspec.structs.replace(manifest, preprocessing="a" * 64))
    reason = refusal(package)
    assert "tiny:1 was measured with other preprocessing (aaaaaaaaaaaa…)" in reason
    assert f"({fingerprint(manifest.input)[:12]}…)" in reason


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x08\x0a\x12"], ids=["empty", "text", "cut off"])
def test_a_file_that_is_no_graph_is_refused(package: Path, data: bytes) -> None:
    replace(package, MODEL, data)
    assert "model.onnx cannot be opened by ONNX Runtime: " in refusal(package)


def rename_input(model: ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "pixels"


def take_floats(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def fix_the_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def drop_an_output(model: ModelProto) -> None:
    del model.graph.output[1]


def rename_an_output(model: ModelProto) -> None:
    model.graph.output[1].name = model.graph.node[-2].output[0] = model.graph.node[-1].input[0] = "embedding"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rename_input, "the graph of tiny:1 takes {'pixels': "),
        (take_floats, "the graph of tiny:1 takes {'images': ('tensor(float)', [32, 32, 3])}"),
        (fix_the_batch, "the graph of tiny:1 has a fixed batch size"),
        (drop_an_output, "the graph of tiny:1 gives {'logits': "),
        (rename_an_output, "'embedding': "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_graph_with_another_interface_than_the_contract_s_is_refused(
    package: Path, change: Callable[[ModelProto], None], reason: str
) -> None:
    change_graph(package, change)
    assert reason in refusal(package)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            {"height": 48},
            "the graph of tiny:1 takes {'images': ('tensor(uint8)', [48, 32, 3])}, not images uint8 (batch, 32, 32, 3)",
        ),
        ({"classes": 5}, "'logits': ('tensor(float)', [5])"),
        ({"dimensions": 6}, "'features': ('tensor(float)', [6])"),
    ],
    ids=["input", "classes", "features"],
)
def test_a_graph_with_other_shapes_than_its_manifest_is_refused(tmp_path: Path, graph: dict[str, int], reason: str) -> None:
    assert reason in refusal(make_package(tmp_path, graph=graph))


def test_a_package_with_an_input_that_is_not_square_is_served(tmp_path: Path) -> None:
    runtime = Runtime(make_package(tmp_path, input=InputSpec(height=16, width=24, resize=30)), "cpu", threads=1)
    runtime.warm(2)
    assert runtime.run(np.zeros((3, 16, 24, 3), np.uint8), ["logits"])["logits"].shape == (3, 3)
