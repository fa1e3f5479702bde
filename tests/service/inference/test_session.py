"""Stage infer: a package that is what its manifest says answers as its graph does; every other one is refused."""

import shutil
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zipfile import ZIP_DEFLATED, ZipFile

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from models.image.fingerprint import fingerprint
from models.image.spec import InputSpec
from models.package import manifest as manifests
from models.package import signature
from models.package.manifest import GOLDEN, MODEL, OUTPUTS, Manifest, PackageError
from models.package.precision import CPU, CUDA, GRAPHS, OPENVINO, Precision
from models.registry import registry
from service.errors import OutOfMemory
from service.inference.backends.choice import DeviceLost
from service.inference.backends.sizes import sizes
from service.inference.session import DeviceError, OnnxSession
from tests.factories import LABELS, make_package, make_picture, run_onnx
from tests.models.package.external_data import hide_in_constant, tensor

INSTALLED = onnxruntime.get_available_providers()
GPU = CUDA in INSTALLED
BEST = OPENVINO if OPENVINO in INSTALLED else CPU  # on a machine without a GPU


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
        OnnxSession(package, "cpu", "auto", threads=1)
    return str(caught.value)


def test_a_package_answers_as_its_graph_does(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    images = pictures("red", "green", "blue", "red")
    expected = run_onnx(published / MODEL, images)
    given = runtime.run(images, OUTPUTS)
    assert set(given) == set(expected) == {"logits", "features", "feature_map"}
    for name, array in given.items():
        assert array.dtype == np.float32
        assert array == pytest.approx(expected[name], abs=1e-5)
    assert [LABELS[i] for i in given["logits"].argmax(axis=1)] == ["red", "green", "blue", "red"]


def test_only_what_was_asked_for_is_computed_and_in_any_order(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    images = pictures("red", "blue")
    assert list(runtime.run(images, ["features"])) == ["features"]
    both = runtime.run(images, ["logits", "features"])
    assert both["logits"].shape == (2, 3)
    assert both["features"].shape == (2, 4)


def test_a_batch_answers_as_its_images_do_alone(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    images = pictures(*LABELS, *LABELS)
    together = runtime.run(images, ["features"])["features"]
    alone = [runtime.run(images[i : i + 1], ["features"])["features"][0] for i in range(len(images))]
    assert together == pytest.approx(np.stack(alone), abs=1e-5)


def test_the_runtime_says_what_it_serves_and_on_what(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    assert runtime.manifest.id == "tiny:1"
    assert (runtime.provider, runtime.precision, runtime.skipped_backends) == (BEST, "fp32", [])


@pytest.mark.skipif(GPU, reason="this machine may have a usable GPU")
def test_auto_takes_the_processor_where_there_is_no_gpu(published: Path) -> None:
    assert OnnxSession(published, "auto", "auto", threads=1).provider == BEST


@pytest.mark.skipif(GPU, reason="this machine may have a usable GPU")
def test_cuda_is_refused_where_there_is_no_gpu(published: Path) -> None:
    with pytest.raises(DeviceError, match=r"HUBEL_DEVICE is cuda but ONNX Runtime .* has no CUDAExecutionProvider"):
        OnnxSession(published, "cuda", "auto", threads=1)


class Recorder:
    """A session that notes the sizes of the batches that it runs."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session = session
        self.sizes: list[int] = []

    def run(self, outputs: Sequence[str], feeds: dict[str, NDArray[np.uint8]]) -> Any:
        self.sizes.append(len(feeds["images"]))
        return self.session.run(list(outputs), feeds)


@pytest.mark.parametrize(
    ("max_batch", "expected"),
    [
        (1, [1]),
        (3, [1, 2, 3]),
        (16, [*range(1, 17)]),
        (20, [*range(1, 17), 20]),
        (64, [*range(1, 17), 24, 32, 48, 64]),
        (100, [*range(1, 17), 24, 32, 48, 64, 96, 100]),
    ],
)
def test_small_batches_have_every_size_and_large_ones_a_few(max_batch: int, expected: list[int]) -> None:
    assert list(sizes(max_batch)) == expected


def test_every_size_that_will_occur_is_warmed(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    recorder = Recorder(cast(Any, runtime.session))
    runtime.session = cast(Any, recorder)
    runtime.warm(40)
    assert recorder.sizes == [*reversed(sizes(40)), 1]  # the last to see how long it takes
    assert runtime.seconds_per_image > 0


def test_a_brief_warm_up_takes_the_memory_of_the_largest_batch_alone(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    recorder = Recorder(cast(Any, runtime.session))
    runtime.session = cast(Any, recorder)
    runtime.warm(40, brief=True)
    assert recorder.sizes == [40, 1, 1]
    assert runtime.sizes == sizes(40)


def test_what_an_image_takes_is_not_told_by_a_moment_when_others_have_the_cores(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    session = cast(Any, runtime.session)

    def run(*arguments: Any) -> Any:
        time.sleep(0.2)
        return session.run(*arguments)

    runtime.session = cast(Any, SimpleNamespace(run=run))
    runtime.warm(1)
    assert 0 < runtime.seconds_per_image < 0.1


def test_one_that_was_closed_computes_nothing_more(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    runtime.close()
    with pytest.raises(RuntimeError, match="tiny:1 is not in memory any more"):
        runtime.run(pictures(*LABELS), ["logits"])


def test_a_batch_between_two_warm_sizes_is_filled_up_and_answered_as_ever(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    images = np.concatenate([pictures(*LABELS)] * 6)  # 18
    expected = runtime.run(images, ["features"])["features"]
    runtime.warm(40)
    recorder = Recorder(cast(Any, runtime.session))
    runtime.session = cast(Any, recorder)
    given = runtime.run(images, ["features"])["features"]
    assert recorder.sizes == [24]
    assert given == pytest.approx(expected, abs=1e-5)


def offer(package: Path, precision: Precision, lost: float, graph: bool = True) -> None:
    """Have the manifest say that the package was measured in ``precision`` too, on 10,000 images, with its graph where it has
    its own."""
    if graph and not (package / GRAPHS[precision]).exists():
        shutil.copy(package / MODEL, package / GRAPHS[precision])
    files = {path.name: registry.sha256(path) for path in package.iterdir() if path.name != manifests.FILE}
    manifest = manifests.read(package)
    reference = manifest.evaluation.providers[0]
    measured = msgspec.structs.replace(reference, precision=precision, top1=round(reference.top1 - lost, 4))
    providers = [*manifest.evaluation.providers, measured]
    evaluation = msgspec.structs.replace(manifest.evaluation, providers=providers, samples=10_000)
    manifests.write(package, msgspec.structs.replace(manifest, evaluation=evaluation, files=files))


def test_auto_takes_the_fastest_precision_that_was_measured(package: Path) -> None:
    offer(package, "int8", lost=0.003)
    runtime = OnnxSession(package, "cpu", "auto", threads=1)
    assert (runtime.provider, runtime.precision) == (BEST, "int8")
    assert OnnxSession(package, "cpu", "fp32", threads=1).precision == "fp32"


def test_a_precision_that_loses_too_much_is_not_offered(package: Path) -> None:
    offer(package, "int8", lost=0.0031)
    assert OnnxSession(package, "cpu", "auto", threads=1).precision == "fp32"
    reason = r"HUBEL_PRECISION is int8 but tiny:1 loses 0\.31 points of top-1 in int8, the limit is 0\.3; set it to auto or fp32"
    with pytest.raises(DeviceError, match=reason):
        OnnxSession(package, "cpu", "int8", threads=1)


def test_the_worst_provider_decides_whether_a_precision_is_offered(package: Path) -> None:
    offer(package, "int8", lost=0.0)
    offer(package, "int8", lost=0.01)
    assert OnnxSession(package, "cpu", "auto", threads=1).precision == "fp32"


def test_a_precision_that_was_not_measured_is_refused(package: Path) -> None:
    with pytest.raises(DeviceError, match=r"HUBEL_PRECISION is bf16 but the accuracy of tiny:1 was not measured in bf16"):
        OnnxSession(package, "cpu", "bf16", threads=1)
    with pytest.raises(DeviceError, match=r"HUBEL_PRECISION is int8 but tiny:1 holds no model\.int8\.onnx"):
        OnnxSession(package, "cpu", "int8", threads=1)


def test_a_precision_that_the_device_does_not_compute_in_is_refused(package: Path) -> None:
    offer(package, "fp16", lost=0.0)
    with pytest.raises(DeviceError, match=r"HUBEL_PRECISION is fp16 but nothing here computes in it \(.*CPUExecutionProvider\)"):
        OnnxSession(package, "cpu", "fp16", threads=1)


@pytest.mark.skipif(BEST == CPU, reason="ONNX Runtime has no OpenVINO provider here")
@pytest.mark.parametrize("bf16", [True, False])
def test_bf16_is_taken_where_the_processor_multiplies_it(package: Path, bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.package.precision.cpu_has_bf16", lambda: bf16)
    offer(package, "bf16", lost=0.0)
    runtime = OnnxSession(package, "cpu", "auto", threads=1)
    assert (runtime.provider, runtime.precision) == (OPENVINO, "bf16" if bf16 else "fp32")


def test_a_faster_way_that_answers_otherwise_is_skipped_and_that_is_told(package: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_graph(package, use_other_weights)
    shutil.move(package / MODEL, package / GRAPHS["int8"])
    original = make_package(package.parents[2] / "again")
    shutil.copy(original / MODEL, package / MODEL)
    offer(package, "int8", lost=0.0)
    runtime = OnnxSession(package, "cpu", "auto", threads=1)
    assert runtime.precision == "fp32"
    assert runtime.skipped_backends == [f"{BEST} in int8"]
    assert f"skipped {BEST} in int8: tiny:1 answers its golden inputs differently on {BEST}" in caplog.text


def test_a_way_may_differ_by_what_was_measured_where_the_package_was_made(package: Path) -> None:
    with np.load(package / GOLDEN) as golden:
        images, logits = golden["images"], golden["logits"]
    logits[2, 1] += 0.3 * max(1.0, np.abs(logits).max())
    replace(package, GOLDEN, npz(images=images, logits=logits))
    assert "answers its golden inputs differently" in refusal(package)
    manifest = manifests.read(package)
    told = [msgspec.structs.replace(figure, golden=0.3) for figure in manifest.evaluation.providers]
    evaluation = msgspec.structs.replace(manifest.evaluation, providers=told)
    manifests.write(package, msgspec.structs.replace(manifest, evaluation=evaluation))
    assert OnnxSession(package, "cpu", "fp32", threads=1).precision == "fp32"


class Failing:
    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, outputs: Sequence[str], feeds: dict[str, NDArray[np.uint8]]) -> Any:
        raise RuntimeError(self.text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[ONNXRuntimeError] : 6 : BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer", OutOfMemory),
        ("CUDA failure 2: out of memory ; GPU=0", OutOfMemory),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", DeviceLost),
        ("Got invalid dimensions for input", RuntimeError),
    ],
)
def test_errors_of_a_gpu_are_told_apart(published: Path, text: str, kind: type[Exception]) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    runtime.session = cast(Any, Failing(text))
    with pytest.raises(kind):
        runtime.run(pictures("red"), ["logits"])


@pytest.mark.parametrize(("provider", "where"), [(CUDA, "the GPU has no"), (BEST, "there is no")])
@pytest.mark.parametrize("text", ["Failed to allocate memory for requested buffer", "std::bad_alloc"])
def test_a_gpu_is_named_only_where_one_computes(published: Path, text: str, provider: str, where: str) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    runtime.session, runtime.provider = cast(Any, Failing(text)), provider
    with pytest.raises(OutOfMemory, match=f"^{where} memory left for this batch; try again, or lower HUBEL_MAX_BATCH"):
        runtime.run(pictures("red"), ["logits"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [("CUDA failure 2: out of memory ; GPU=0", "which has no memory left"), ("CUDA failure 700: illegal access", "which failed")],
)
def test_a_package_is_not_called_damaged_where_the_device_is_out_of_memory_or_lost(
    published: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setattr("service.inference.session.open_session", lambda *_: Failing(text))
    monkeypatch.setattr("service.inference.session._check_graph", lambda *_: None)
    with pytest.raises(DeviceError, match=rf"tiny:1 cannot answer its golden inputs on \w+, {reason}"):
        OnnxSession(published, "cpu", "auto", threads=1)


def test_a_package_that_was_changed_is_refused(package: Path) -> None:
    with open(package / MODEL, "ab") as file:
        file.write(b"\0")
    assert "model.onnx was changed" in refusal(package)


class Unopened:
    """In the place of ONNX Runtime's session: to open one is a fault."""

    def __init__(self, *_: object, **__: object) -> None:
        raise AssertionError("ONNX Runtime was given a graph")


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", Unopened)


FILES = ("manifest.json", "model.onnx", "model.int8.onnx", "golden.npz", "card.md")


@pytest.mark.usefixtures("unopened")
@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], ids=str)
@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_in_any_file_is_refused_before_a_graph_is_opened(
    signed_package: tuple[Path, Path], name: str, share: float
) -> None:
    package, key = signed_package
    assert {path.name for path in package.iterdir()} == set(FILES)
    data = bytearray((package / name).read_bytes())
    data[min(int(share * len(data)), len(data) - 1)] ^= 1
    (package / name).write_bytes(data)
    with pytest.raises(PackageError, match=f"{name} was changed|does not fit its manifest"):
        OnnxSession(package, "cpu", "auto", threads=1, key=key)


@pytest.fixture
def signed_package(package: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A package with a graph in int8 too, and the public key that it is signed for."""
    offer(package, "int8", lost=0.0)
    made = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    signature.sign(package, manifests.read_bytes(package), private)
    return package, public


def test_a_signed_package_is_served_where_a_signature_is_required(signed_package: tuple[Path, Path]) -> None:
    package, key = signed_package
    assert OnnxSession(package, "cpu", "auto", threads=1, key=key).precision == "int8"


@pytest.mark.usefixtures("unopened")
def test_an_unsigned_package_is_refused_before_a_graph_is_opened(signed_package: tuple[Path, Path]) -> None:
    package, key = signed_package
    signature.path(package).unlink()
    with pytest.raises(PackageError, match="tiny:1 is not signed"):
        OnnxSession(package, "cpu", "auto", threads=1, key=key)


@pytest.mark.usefixtures("unopened")
def test_a_graph_that_reads_other_files_is_refused_before_it_is_opened(package: Path) -> None:
    change_graph(package, lambda model: hide_in_constant(model, tensor("/etc/passwd")))
    assert "model.onnx holds a tensor with external data" in refusal(package)


def test_the_bytes_that_were_checked_are_opened_and_not_what_lies_there_by_then(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = registry.load

    def load_and_exchange(folder: Path, manifest: Manifest, name: str) -> bytes:
        data = load(folder, manifest, name)
        (folder / name).write_bytes(b"exchanged")
        return data

    verified = registry.verify(package)
    monkeypatch.setattr(registry, "verify", lambda *_: verified)
    monkeypatch.setattr(registry, "load", load_and_exchange)
    images = pictures("red", "green")
    runtime = OnnxSession(package, "cpu", "auto", threads=1)
    assert (package / MODEL).read_bytes() == b"exchanged"
    assert [LABELS[i] for i in runtime.run(images, ["logits"])["logits"].argmax(axis=1)] == ["red", "green"]


def test_the_bytes_of_the_graph_are_not_kept(published: Path) -> None:
    held = [
        value for value in vars(OnnxSession(published, "cpu", "auto", threads=1).session).values() if isinstance(value, bytes)
    ]
    assert held == []


def test_a_file_of_onnx_runtime_s_own_format_is_refused(package: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(package.parent / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(package / MODEL, options, providers=[CPU])
    data = (package.parent / "model.ort").read_bytes()
    assert data[4:8] == b"ORTM"
    replace(package, MODEL, data)
    assert "model.onnx is no ONNX graph" in refusal(package)


def test_golden_inputs_that_unpack_to_gigabytes_are_not_unpacked(package: Path) -> None:
    file = BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=1) as packed:
        packed.writestr("images.npy", npy(np.zeros((1, 1), np.uint8), claimed=(2**20, 300)) + bytes(300 * 2**20))
    assert len(file.getvalue()) < 2 * 2**20
    replace(package, GOLDEN, file.getvalue())
    with pytest.raises(PackageError) as caught:
        OnnxSession(package, "cpu", "auto", threads=1)
    assert "bytes unpacked, at most 268435456" in str(caught.value.__cause__)


def npy(array: NDArray[Any], claimed: tuple[int, ...]) -> bytes:
    """The header of a .npy file of this type and another shape."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": array.dtype.str, "fortran_order": False, "shape": claimed})
    return file.getvalue()


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
    assert OnnxSession(package, "cpu", "auto", threads=1).manifest.id == "tiny:1"


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


@pytest.mark.parametrize("data", [b"", b"\x08\x0a"], ids=["empty", "without a graph"])
def test_a_graph_that_onnx_runtime_does_not_open_is_refused(package: Path, data: bytes) -> None:
    replace(package, MODEL, data)
    assert "model.onnx cannot be opened by ONNX Runtime: " in refusal(package)


@pytest.mark.parametrize("data", [b"not a graph", b"\x08\x0a\x12"], ids=["text", "cut off"])
def test_a_file_that_is_no_graph_is_refused(package: Path, data: bytes) -> None:
    replace(package, MODEL, data)
    assert "model.onnx is no ONNX graph: " in refusal(package)


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
    runtime = OnnxSession(make_package(tmp_path, input=InputSpec(height=16, width=24, resize=30)), "cpu", "auto", threads=1)
    runtime.warm(2)
    assert runtime.run(np.zeros((3, 16, 24, 3), np.uint8), ["logits"])["logits"].shape == (3, 3)
