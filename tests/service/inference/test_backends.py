"""What computes on a GPU: a session for each size of batch, with a CUDA graph where it can be recorded. A stand-in takes the
GPU's place (benchmarks/cuda_stand_in.py); it enforces its rules.
"""

import ctypes
import gc
import logging
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from benchmarks.cuda_stand_in import Buffer, Gpu, Misuse, RunOptions, Session, installed
from models.package.manifest import MODEL, OUTPUTS
from models.package.precision import BACKENDS, CPU, CUDA, GRAPHS, PRECISIONS
from service.inference.backends import pinned
from service.inference.backends.choice import DeviceLost
from service.inference.backends.cuda_graph import GraphSession
from service.inference.backends.memory import MB, WEIGHTS, shares
from service.inference.backends.sizes import doubled
from service.inference.session import DeviceError, OnnxSession
from tests.factories import LABELS, make_package, make_picture, run_onnx


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("store"))


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    with installed(Gpu()) as found:
        yield found


def pictures(count: int) -> NDArray[np.uint8]:
    made = [make_picture(32, 32, seed=seed, color=LABELS[seed % len(LABELS)]) for seed in range(count)]
    return np.stack([np.asarray(picture) for picture in made])


def warmed(package: Path, max_batch: int = 8, **options: Any) -> OnnxSession:
    runtime = OnnxSession(package, "cuda", "auto", threads=1, **options)
    runtime.warm(max_batch)
    return runtime


def test_each_way_to_compute_stands_once_in_the_table_with_the_graph_of_its_precision() -> None:
    assert len({(way.provider, way.precision) for way in BACKENDS}) == len(BACKENDS)
    assert all(way.graph == GRAPHS[way.precision] for way in BACKENDS)
    assert {way.precision for way in BACKENDS} == set(PRECISIONS)


@pytest.mark.parametrize(
    ("max_batch", "expected"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (64, [1, 2, 4, 8, 16, 32, 64]), (100, [1, 2, 4, 8, 16, 32, 64, 100])],
)
def test_sizes_with_a_session_of_their_own_double(max_batch: int, expected: list[int]) -> None:
    assert list(doubled(max_batch)) == expected


def test_a_gpu_computes_64_images_together_and_a_processor_16_unless_it_is_said(published: Path, gpu: Gpu) -> None:
    assert warmed(published, 0).sizes == (1, 2, 4, 8, 16, 32, 64)
    assert warmed(published, 5).sizes == (1, 2, 4, 5)
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    runtime.warm()
    assert runtime.sizes == tuple(range(1, 17))


@pytest.mark.parametrize("records", [1024, 0], ids=["graphs", "no graphs"])
def test_no_batch_is_planned_after_warming_whatever_sizes_follow_one_another(published: Path, gpu: Gpu, records: int) -> None:
    gpu.records = records
    runtime = warmed(published)
    gpu.plans.clear()
    for size in (1, 8, 3, 5, 2, 7, 1, 4, 6, 8, 1):
        runtime.run(pictures(size), OUTPUTS[:2])
    assert gpu.plans == []


def test_the_stand_in_plans_whenever_the_size_changes(published: Path, gpu: Gpu) -> None:
    """What the one session does that a package is opened with, so that the test before can fail."""
    runtime = OnnxSession(published, "cuda", "auto", threads=1)
    gpu.plans.clear()
    for size in (1, 1, 2, 1, 2, 2):
        runtime.run(pictures(size), OUTPUTS[:2])
    assert gpu.plans == [1, 2, 1, 2]


@pytest.mark.parametrize("records", [1024, 0], ids=["graphs", "no graphs"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 21])
def test_each_image_is_answered_as_its_graph_does(published: Path, gpu: Gpu, records: int, count: int) -> None:
    gpu.records = records
    runtime = warmed(published)
    runtime.run(255 - pictures(8), OUTPUTS[:2])  # what is left of another batch changes nothing
    images = pictures(count)
    expected = run_onnx(published / MODEL, images)
    given = runtime.run(images, OUTPUTS)
    assert set(given) == set(OUTPUTS)
    for name, array in given.items():
        assert array == pytest.approx(expected[name], abs=1e-5)
    for name, array in runtime.run(images, ["features"]).items():
        assert array == pytest.approx(expected[name], abs=1e-5)


def test_an_answer_stays_as_it_is_when_the_next_batch_is_computed(published: Path, gpu: Gpu) -> None:
    runtime = warmed(published)
    first = runtime.run(pictures(2), OUTPUTS[:2])
    kept = {name: array.copy() for name, array in first.items()}
    runtime.run(255 - pictures(2), OUTPUTS[:2])
    assert all((first[name] == kept[name]).all() for name in kept)


def test_a_batch_that_is_put_where_the_gpu_reads_is_answered_as_any_other(published: Path, gpu: Gpu) -> None:
    runtime = warmed(published)
    images = pictures(3)
    expected = runtime.run(images, ["logits"])["logits"]
    place = runtime.batch(3)
    place[:] = images
    assert (runtime.run(place, ["logits"])["logits"] == expected).all()
    assert runtime.batch(3).ctypes.data == place.ctypes.data
    assert runtime.batch(9).shape == (9, 32, 32, 3)


def test_a_batch_for_a_processor_has_room_too(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1)
    assert (runtime.batch(3).shape, runtime.batch(3).dtype) == ((3, 32, 32, 3), np.uint8)


def test_each_size_is_recorded_once_and_started_from_then_on(published: Path, gpu: Gpu) -> None:
    runtime = warmed(published)
    assert {chosen.get("enable_cuda_graph") for chosen in gpu.options[1:]} == {"1"}
    assert len(gpu.options) == 1 + len(runtime.sizes)
    gpu.starts.clear()
    for count in (3, 8, 17):
        runtime.run(pictures(count), ["logits"])
    assert gpu.starts == [4, 8, 8, 8, 8]
    assert runtime.skipped_backends == []


def test_what_is_seldom_asked_for_is_computed_without_the_graph(published: Path, gpu: Gpu) -> None:
    runtime = warmed(published)
    gpu.starts.clear()
    assert runtime.run(pictures(2), ["feature_map"])["feature_map"].shape[0] == 2
    assert gpu.starts == []


def test_another_thread_may_compute_too(published: Path, gpu: Gpu) -> None:
    runtime = warmed(published)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(runtime.run(pictures(3), ["logits"])["logits"]))
    thread.start()
    thread.join()
    assert found[0] == pytest.approx(runtime.run(pictures(3), ["logits"])["logits"])


def test_where_a_graph_cannot_be_recorded_it_is_done_without_and_said(
    published: Path, gpu: Gpu, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.records = 2
    runtime = warmed(published)
    assert runtime.skipped_backends == [f"{CUDA} in fp32 with a CUDA graph, batches of 4, 8"]
    assert "batches of 4 images and more are computed without a CUDA graph: Graph capture did not complete" in caplog.text
    assert [chosen.get("enable_cuda_graph") for chosen in gpu.options] == [None, "1", "1", "1", None, None]


class Wrong(Session):
    """Its recorded graph gives what was computed when it was recorded."""

    def run_with_iobinding(self, binding: Any, options: RunOptions | None = None) -> None:
        if (threading.get_ident(), 0) not in self.recorded:
            super().run_with_iobinding(binding, options)


def test_a_graph_that_answers_otherwise_is_not_used(published: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **b: _as(Wrong, real(*a, **b)))
    runtime = warmed(published, 2)
    assert runtime.skipped_backends == [f"{CUDA} in fp32 with a CUDA graph, batches of 1, 2"]


def _as(kind: type, thing: Any) -> Any:
    thing.__class__ = kind
    return thing


def test_a_gpu_that_is_lost_while_sizes_are_opened_is_told(published: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = OnnxSession(published, "cuda", "auto", threads=1)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0")

    monkeypatch.setattr(Session, "run", fail)
    monkeypatch.setattr(Session, "run_with_iobinding", fail)
    with pytest.raises(DeviceLost):
        runtime.warm(2)


def test_the_limit_of_memory_is_shared_out_among_the_sessions(published: Path, gpu: Gpu) -> None:
    limit = 100 * MB
    warmed(published, gpu_memory=limit)
    first, *each = (int(chosen["gpu_mem_limit"]) for chosen in gpu.options)
    assert first == limit
    assert sum(each) <= limit
    assert each == sorted(each)


def test_the_limit_means_nothing_to_a_processor(published: Path) -> None:
    runtime = OnnxSession(published, "cpu", "auto", threads=1, gpu_memory=1)
    runtime.warm(2)
    assert (runtime.sizes, runtime.skipped_backends) == ((1, 2), [])


def test_without_a_limit_none_is_set(published: Path, gpu: Gpu) -> None:
    warmed(published)
    assert not any("gpu_mem_limit" in chosen for chosen in gpu.options)


def test_each_size_gets_its_weights_and_of_the_rest_by_its_images() -> None:
    found = shares(1000 * MB, (1, 2, 4), 10 * MB)
    rest = {size: (share - WEIGHTS * 10 * MB) for size, share in found.items()}
    assert sum(found.values()) == pytest.approx(1000 * MB, abs=3)
    assert [later / earlier for earlier, later in pairwise(rest.values())] == pytest.approx([2, 2], abs=1e-6)
    assert shares(0, (1, 2), MB) == {1: 0, 2: 0}


def test_a_limit_below_the_weights_is_refused_with_what_is_needed(
    published: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.inference.backends.memory.WEIGHTS", 10_000)
    with pytest.raises(DeviceError, match=r"HUBEL_GPU_MEMORY_MB is 1 but the weights, once for each of 4 batch sizes, need more"):
        warmed(published, gpu_memory=1 * MB)


def test_what_the_copies_of_the_weights_take_is_logged(published: Path, gpu: Gpu, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hubel"):
        warmed(published)
    assert "each of 4 batch sizes has a copy of the weights" in caplog.text


def test_the_stand_in_knows_the_rules_of_a_graph(published: Path, gpu: Gpu) -> None:
    options = onnxruntime.SessionOptions()
    data = (published / MODEL).read_bytes()
    session: Any = onnxruntime.InferenceSession(data, options, providers=[(CUDA, {"enable_cuda_graph": "1"})])
    with pytest.raises(Misuse, match="with bindings alone"):
        session.run(["logits"], {"images": pictures(2)})
    with pytest.raises(Misuse, match="not that of cpu"):
        Buffer.ortvalue_from_shape_and_type([2, 32, 32, 3], np.uint8)
    binding = session.io_binding()
    binding.bind_ortvalue_input("images", Buffer([2, 32, 32, 3], np.uint8))
    binding.bind_ortvalue_output("logits", Buffer([2, 3], np.float32))
    session.run_with_iobinding(binding)
    with pytest.raises(Misuse, match="does not fit"):
        binding.inputs["images"].update_inplace(pictures(1))
    binding.bind_ortvalue_output("logits", Buffer([2, 3], np.float32))
    with pytest.raises(Misuse, match="where it did then"):
        session.run_with_iobinding(binding)


def test_bindings_and_run_options_are_as_onnx_runtime_has_them(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's own, with the processor's memory in the place of the GPU's."""
    make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", lambda shape, kind, *_: make(shape, kind, "cpu", 0))
    session = onnxruntime.InferenceSession(published / MODEL, providers=[CPU])
    outputs = {output.name: output.shape[1:] for output in session.get_outputs()}
    graph = GraphSession(session, (3, 32, 32, 3), outputs)
    for images in (pictures(3), 255 - pictures(3)):
        expected = run_onnx(published / MODEL, images)
        for names in (OUTPUTS[:2], OUTPUTS[1:2], OUTPUTS):
            for name, array in zip(names, graph.run(names, {"images": images}), strict=True):
                assert array == pytest.approx(expected[name], abs=1e-5)


class Runtime:
    """CUDA's runtime: notes what is locked."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.locked: list[int] = []

    def cudaHostRegister(self, place: ctypes.c_void_p, size: ctypes.c_size_t, flags: int) -> int:
        if not self.code:
            self.locked.append(place.value or 0)
        return self.code

    def cudaHostUnregister(self, place: ctypes.c_void_p) -> int:
        self.locked.remove(place.value or 0)
        return 0


def test_memory_is_locked_as_long_as_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime()
    monkeypatch.setattr(pinned, "runtime", lambda: runtime)
    part = pinned.zeros((2, 3, 4))[:1]
    gc.collect()
    assert runtime.locked == [part.ctypes.data]
    part[:] = 1
    assert part.sum() == 12
    del part
    gc.collect()
    assert runtime.locked == []


def test_memory_that_cannot_be_locked_serves_too(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(pinned, "runtime", lambda: Runtime(code=2))
    assert not pinned.zeros((2, 3)).any()
    assert "cudaHostRegister of 6 bytes gives error 2" in caplog.text


@pytest.mark.parametrize("version", ["", "12.8", "13.0"])
def test_without_cuda_s_runtime_memory_is_plain(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(onnxruntime, "cuda_version", version, raising=False)
    array = pinned.zeros((4, 2))
    array += 1
    assert array.sum() == 8
