"""No graph that would read another file gets as far as ONNX Runtime, wherever in it the reference stands and however written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    TrainingInfoProto,
    helper,
    numpy_helper,
)

from models.errors import PackageError
from models.package import onnx_check
from tests.factories import make_onnx
from tests.models.package.external_data import EXTERNAL, constant, tensor

PATH = Path("store/tiny/1/model.onnx")
LOCATIONS = ["weights.bin", "../../secret.bin", "/etc/passwd", "link-to-elsewhere.bin", "*/_ORT_MEM_ADDR_/*"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    make_onnx(path)
    return path.read_bytes()


def refusal(data: bytes) -> str:
    with pytest.raises(PackageError) as caught:
        onnx_check.check(PATH, data)
    assert str(caught.value).startswith(f"{PATH} ")
    return str(caught.value)


def body(node: NodeProto | None = None, initializer: TensorProto | None = None) -> GraphProto:
    return helper.make_graph([node] if node else [], "body", [], [], [initializer] if initializer else [])


def sparse(t: TensorProto, indices: bool = False) -> SparseTensorProto:
    plain = numpy_helper.from_array(np.arange(4), "plain")
    return SparseTensorProto(values=plain if indices else t, indices=t if indices else plain, dims=[4])


def attribute(**values: object) -> NodeProto:
    node = helper.make_node("Anything", [], ["out"])
    node.attribute.append(AttributeProto(name="value", **values))  # pyright: ignore[reportArgumentType]
    return node


def hide_in_initializer(model: ModelProto, t: TensorProto) -> None:
    model.graph.initializer.append(t)


def hide_in_list_of_tensors(model: ModelProto, t: TensorProto) -> None:
    model.graph.node.append(attribute(tensors=[t]))


def hide_in_branch_of_if(model: ModelProto, t: TensorProto) -> None:
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=body(constant(t)), else_branch=body()))


def hide_in_body_of_loop_within_if(model: ModelProto, t: TensorProto) -> None:
    loop = helper.make_node("Loop", ["n"], ["y"], body=body(initializer=t))
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=body(), else_branch=body(loop)))


def hide_in_list_of_graphs(model: ModelProto, t: TensorProto) -> None:
    model.graph.node.append(attribute(graphs=[body(), body(initializer=t)]))


def hide_in_function(model: ModelProto, t: TensorProto) -> None:
    model.functions.append(FunctionProto(name="f", domain="d", output=["hidden"], node=[constant(t)]))


def hide_in_default_of_function(model: ModelProto, t: TensorProto) -> None:
    model.functions.append(FunctionProto(name="f", domain="d", attribute_proto=[AttributeProto(name="a", t=t)]))


def hide_in_sparse_values(model: ModelProto, t: TensorProto) -> None:
    model.graph.sparse_initializer.append(sparse(t))


def hide_in_sparse_indices(model: ModelProto, t: TensorProto) -> None:
    model.graph.sparse_initializer.append(sparse(t, indices=True))


def hide_in_sparse_attribute(model: ModelProto, t: TensorProto) -> None:
    model.graph.node.append(attribute(sparse_tensor=sparse(t)))


def hide_in_sparse_attributes(model: ModelProto, t: TensorProto) -> None:
    model.graph.node.append(attribute(sparse_tensors=[sparse(t)]))


def hide_in_training_start(model: ModelProto, t: TensorProto) -> None:
    model.training_info.append(TrainingInfoProto(initialization=body(constant(t))))


def hide_in_training_step(model: ModelProto, t: TensorProto) -> None:
    model.training_info.append(TrainingInfoProto(algorithm=body(initializer=t)))


HIDING = [value for name, value in globals().items() if name.startswith("hide_in_")]
Hide = Callable[[ModelProto, TensorProto], None]


def test_a_graph_in_one_file_passes(model: bytes) -> None:
    onnx_check.check(PATH, model)


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("hide", HIDING, ids=lambda hide: hide.__name__.removeprefix("hide_in_"))
def test_external_data_is_refused_wherever_it_is(model: bytes, hide: Hide, location: str) -> None:
    changed = onnx.load_model_from_string(model)
    hide(changed, tensor(location))
    assert EXTERNAL in refusal(changed.SerializeToString())


@pytest.mark.parametrize("hide", HIDING, ids=lambda hide: hide.__name__.removeprefix("hide_in_"))
def test_a_tensor_with_its_values_inside_passes_in_the_same_places(model: bytes, hide: Hide) -> None:
    changed = onnx.load_model_from_string(model)
    hide(changed, numpy_helper.from_array(np.ones(4, np.float32), "plain"))
    onnx_check.check(PATH, changed.SerializeToString())


def test_what_onnx_itself_saves_with_external_data_is_refused(model: bytes, tmp_path: Path) -> None:
    whole = onnx.load_model_from_string(model)
    onnx.save_model(whole, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    assert EXTERNAL in refusal((tmp_path / "model.onnx").read_bytes())


def location_alone(t: TensorProto) -> None:
    t.ClearField("external_data")


def data_alone(t: TensorProto) -> None:
    t.ClearField("data_location")


def said_to_be_inside(t: TensorProto) -> None:
    t.data_location = TensorProto.DEFAULT


@pytest.mark.parametrize("change", [location_alone, data_alone, said_to_be_inside])
def test_half_of_a_reference_is_refused_too(model: bytes, change: Callable[[TensorProto], None]) -> None:
    changed, hidden = onnx.load_model_from_string(model), tensor()
    change(hidden)
    changed.graph.initializer.append(hidden)
    assert EXTERNAL in refusal(changed.SerializeToString())


@pytest.mark.parametrize("hide", [hide_in_initializer, hide_in_function, hide_in_body_of_loop_within_if])
def test_compiled_code_is_refused_wherever_it_is(model: bytes, hide: Hide) -> None:
    changed = onnx.load_model_from_string(model)
    node = helper.make_node("EPContext", [], ["out"], domain="com.microsoft", embed_mode=0, ep_cache_context="blob.bin")
    if hide is hide_in_function:
        changed.functions.append(FunctionProto(name="f", domain="d", node=[node]))
    elif hide is hide_in_initializer:
        changed.graph.node.append(node)
    else:
        changed.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=body(node), else_branch=body()))
    assert "holds compiled code (EPContext), which would be read from another file" in refusal(changed.SerializeToString())


def varint(value: int, length: int = 0) -> bytes:
    """Base 128, low digits first; in at least ``length`` bytes, which the shortest form would not have."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F)
    digits += [0] * (length - len(digits))
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def field(number: int, content: bytes, width: int = 0) -> bytes:
    return varint(number << 3 | 2, width) + varint(len(content), width) + content


def in_graph(*initializers: bytes, width: int = 0) -> bytes:
    """A model whose graph has these initializers."""
    return field(7, b"".join(field(5, one, width) for one in initializers), width)


HIDDEN = field(13, field(1, b"location") + field(2, b"weights.bin"))
DATA_LOCATION = varint(14 << 3)
EVASIONS = {
    "long keys and lengths": in_graph(field(13, b"", 5), width=5),
    "long value": in_graph(DATA_LOCATION + varint(1, 10)),
    "location of 2**32 + 1, which is 1 in 32 bits": in_graph(DATA_LOCATION + varint(2**32 + 1)),
    "negative location": in_graph(DATA_LOCATION + varint(2**64 - 1)),
    "location that is taken back": in_graph(DATA_LOCATION + varint(1) + DATA_LOCATION + varint(0)),
    "empty entry": in_graph(field(13, b"")),
    "location as bytes": in_graph(field(14, b"\1")),
    "a second graph, which is merged into the first": in_graph() + in_graph(HIDDEN),
    "an empty second graph": in_graph(HIDDEN) + in_graph(),
    "attribute whose tensor comes twice": field(7, field(1, field(5, field(5, HIDDEN) + field(5, b"")))),
    "after an unknown field": field(1000, b"x" * 100) + in_graph(field(1000, HIDDEN), HIDDEN),
    "in the middle of values": in_graph(field(9, b"\0" * 64) + HIDDEN + field(9, b"\0" * 64)),
}


@pytest.mark.parametrize("data", EVASIONS.values(), ids=EVASIONS.keys())
def test_a_reference_that_is_written_in_another_way_is_refused(data: bytes) -> None:
    assert EXTERNAL in refusal(data)


def test_values_that_look_like_a_reference_pass() -> None:
    onnx_check.check(PATH, in_graph(field(9, HIDDEN), field(8, b"name") + field(9, in_graph(HIDDEN))))


def nested(depth: int) -> bytes:
    """A graph within an attribute of a node of a graph, and so on."""
    data = b""
    for _ in range(depth):
        data = field(1, field(5, field(6, data)))
    return field(7, data)


MALFORMED = {
    "a number that ends nowhere": (b"\x08\x80", "a number is cut off at byte 2"),
    "a number of 11 bytes": (b"\x08" + b"\x80" * 10 + b"\0", "a number of more than 10 bytes"),
    "a field without a length": (b"\x3a", "a number is cut off at byte 1"),
    "a length past the end": (field(7, b"1234")[:-1], "field 7 at byte 2 ends after what holds it"),
    "a length of 2**63": (b"\x3a" + varint(2**63), "ends after what holds it"),
    "a length past the end of its message": (
        field(7, varint(5 << 3 | 2) + b"\x7f") + b"\x08\1" * 200,
        "ends after what holds it",
    ),
    "a cut 64-bit number": (b"\x09\0\0\0", "field 1 at byte 1 ends after what holds it"),
    "a cut 32-bit number": (b"\x0d\0", "field 1 at byte 1 ends after what holds it"),
    "a group": (b"\x3b" + HIDDEN + b"\x3c", "wire type 3"),
    "the end of a group": (b"\x3c", "wire type 4"),
    "an unknown wire type": (b"\x3f", "wire type 7"),
    "field 0": (b"\x02\x00", "there is no field 0"),
    "a field number of 33 bits": (varint((7 + 2**30) << 3 | 2) + b"\0", "there is no field"),
    "a graph as a number": (varint(7 << 3) + b"\1", "field 7 of a model is no message"),
    "messages 151 deep": (nested(50), "messages lie within one another more than 100 deep"),
}


@pytest.mark.parametrize(("data", "fault"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_protobuf_message_is_refused(data: bytes, fault: str) -> None:
    message = refusal(data)
    assert "is no ONNX graph: " in message
    assert fault in message


def test_messages_as_deep_as_protobuf_allows_pass() -> None:
    onnx_check.check(PATH, nested(32))


def test_a_graph_of_endless_small_fields_is_given_up() -> None:
    assert f"it has more than {onnx_check.MAX_FIELDS:,} fields" in refusal(b"\x08\x01" * (onnx_check.MAX_FIELDS + 1))


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(flips=st.lists(st.tuples(st.integers(0, 199), st.integers(1, 255)), min_size=1, max_size=3))
def test_what_passes_after_damage_reads_no_other_file_as_onnx_sees_it(flips: list[tuple[int, int]]) -> None:
    small = ModelProto(graph=body(constant(tensor()), tensor()))
    damaged = bytearray(small.SerializeToString())
    for at, bits in flips:
        damaged[at % len(damaged)] ^= bits
    try:
        onnx_check.check(PATH, bytes(damaged))
    except PackageError:
        return
    try:
        passed = onnx.load_model_from_string(bytes(damaged))
    except Exception:  # protobuf's own classes share no base
        return
    tensors = [*passed.graph.initializer, *(a.t for node in passed.graph.node for a in node.attribute)]
    assert not any(onnx.external_data_helper.uses_external_data(t) for t in tensors)
