"""Every kind of bad candidate is stopped by ``promote``, with a reason that names the cause; what is live is untouched."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from models.__main__ import main
from models.lifecycle import gate
from models.package.manifest import CARD, GOLDEN, MODEL
from models.registry import registry
from tests.factories import make_image, make_onnx
from tests.models.conftest import MakeStore, contents
from tests.models.forgery import Change, answered, constant, evaluation, forge, graph

LABELS = ("red", "green", "blue")


def refuse(store: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What promote says of tiny:2; it changes nothing but the file of the gate, which says the same."""
    before = contents(store)
    assert main(["promote", "tiny:2", "--store", str(store), *arguments]) == 1
    after = contents(store)
    assert after.keys() - before.keys() == {"tiny/2.gate.json"}
    assert {path: after[path] for path in before} == before
    out, err = capsys.readouterr()
    assert err.startswith("error: tiny:2 is not promoted: ")
    assert re.search("tiny:[13] stays live", err)
    verdict = gate.read(store, "tiny", 2)
    assert verdict is not None
    assert not verdict.passed
    assert not verdict.forced
    assert verdict.reasons() in err
    assert "gate of tiny:2: refused" in out
    return verdict.reasons()


def opset(number: int) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        model.opset_import[0].version = number

    return edit


def take_floats(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def logarithm(model: ModelProto) -> None:
    """Of how light the picture is: minus infinity for a black one, and for no golden one."""
    nodes = [
        helper.make_node("ReduceMean", ["unit", "all but the first"], ["means"]),
        helper.make_node("Flatten", ["means"], ["light"]),
        helper.make_node("Log", ["light"], ["log"]),
        helper.make_node("Mul", ["log", "nought"], ["nothing"]),
        helper.make_node("Add", ["logits_before", "nothing"], ["logits"]),
    ]
    model.graph.node[-1].output[0] = "logits_before"
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nought"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3]), "all but the first"))


def external(location: str) -> Change:
    """Weights that are read from another file."""

    def edit(model: ModelProto) -> None:
        set_external_data(model.graph.initializer[-1], location)
        model.graph.initializer[-1].ClearField("raw_data")
        model.graph.initializer[-1].data_location = TensorProto.EXTERNAL

    return graph(edit)


def beside(link: Callable[[Path, Path], None]) -> Change:
    """As ``external``, the other file being a link in the package itself."""

    def change(folder: Path) -> None:
        secret = folder.parents[2] / "secret.bin"
        secret.write_bytes(bytes(48))
        external("weights.bin")(folder)
        link(secret, folder / "weights.bin")

    return change


def symlink(target: Path, path: Path) -> None:
    path.symlink_to(target)


def cut(folder: Path) -> None:
    os.truncate(folder / MODEL, 700)


def scramble(folder: Path) -> None:
    (folder / MODEL).write_bytes(np.random.default_rng(0).bytes(1000))


def rewrite_card(folder: Path) -> None:
    (folder / CARD).write_text("another card")


def shift_golden(folder: Path) -> None:
    with np.load(folder / GOLDEN) as kept:
        np.savez_compressed(folder / GOLDEN, images=kept["images"], logits=kept["logits"] + np.float32(1))


def other_graph(**changes: Any) -> Change:
    return lambda folder: make_onnx(folder / MODEL, **changes)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("change", "fields", "reason"),
    [
        pytest.param(scramble, {}, "model.onnx is no ONNX graph", id="corrupt"),
        pytest.param(cut, {}, "model.onnx is no ONNX graph: .* ends after what holds it", id="truncated"),
        pytest.param(graph(opset(99)), {}, "cannot be opened by ONNX Runtime: .*[Oo]pset", id="wrong opset"),
        pytest.param(other_graph(height=16), {}, r"takes .*16.*, not images uint8 \(batch, 32, 32, 3\)", id="wrong shape"),
        pytest.param(graph(take_floats), {}, "takes .*float.*, not images uint8|cannot be opened", id="wrong dtype"),
        pytest.param(other_graph(classes=4), {}, r"gives .*4.*, its manifest promises .*\[3\]", id="more classes than labels"),
        pytest.param(None, {"labels": ["red", "green"]}, r"outputs.logits is \[3\] for 2 labels", id="fewer labels than classes"),
        pytest.param(graph(constant("weight", np.nan), golden=True), {}, "values that are no numbers", id="NaN"),
        pytest.param(graph(logarithm), {}, "values that are no numbers .* in its logits", id="NaN for black"),
        pytest.param(other_graph(poison=True), {}, "fails when it is warmed with black, white and noise", id="warm-up throws"),
        pytest.param(shift_golden, {}, "answers its golden inputs differently .*: a logit is off by 1", id="golden mismatch"),
        pytest.param(None, {"preprocessing": "0" * 64}, "was measured with other preprocessing", id="other preprocessing"),
        pytest.param(external("../../../secret.bin"), {}, "a tensor with external data", id="external data above"),
        pytest.param(external("/etc/passwd"), {}, "a tensor with external data", id="external data absolute"),
        pytest.param(beside(symlink), {}, "weights.bin is not a plain file but a link", id="external data by symlink"),
        pytest.param(beside(os.link), {}, "a tensor with external data", id="external data by hard link"),
    ],
)
def test_a_package_that_would_not_be_served_is_refused(
    make_store: MakeStore, change: Change | None, fields: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=1)
    forge(store, change, **fields)
    assert_match(reason, refuse(store, capsys))


def assert_match(pattern: str, text: str) -> None:
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(text)


@pytest.mark.usefixtures("here")
def test_files_that_are_not_the_published_ones_are_refused_also_by_force(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=1)
    forge(store, rewrite_card, fitting=False)
    assert_match(r"files: .*card.md was changed: its SHA-256 is", refuse(store, capsys))
    (store / "tiny/2.gate.json").unlink()
    assert_match("was changed", refuse(store, capsys, "--force"))


@pytest.mark.usefixtures("here")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_a_package_that_another_signed_is_refused(
    make_store: MakeStore, keys: Callable[[str], tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    store, (private, _), (_, public) = make_store(tiny=1), keys("stranger"), keys("publisher")
    forge(store)
    assert_match("files: tiny:2 is not signed", refuse(store, capsys, "--key", public))
    (store / "tiny/2.gate.json").unlink()
    assert main(["sign", "tiny:2", "--key", private, "--store", str(store)]) == 0
    capsys.readouterr()
    assert_match("the signature of tiny:2 does not fit", refuse(store, capsys, "--key", public))
    (store / "tiny/2.gate.json").unlink()
    assert_match("does not fit", refuse(store, capsys, "--key", public, "--force"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures of each colour, in a folder of its own."""
    folder = tmp_path_factory.mktemp("photos")
    for c, label in enumerate(LABELS):
        (folder / label).mkdir()
        for i in range(40):
            (folder / label / f"{i}.png").write_bytes(make_image("PNG", 40, 40, seed=100 * c + i, color=label))
    return folder


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("edit", "reasons"),
    [
        pytest.param(constant("mean", [[[3.0]], [[0.5]], [[0.5]]]), ["accuracy", "recall"], id="wrong normalisation"),
        pytest.param(constant("weight", np.eye(3, 4)[[1, 2, 0]]), ["accuracy", "recall"], id="labels exchanged"),
        pytest.param(
            constant("weight", np.diag([2.0, 2.0, -2.0, 0])[:3]), ["accuracy", "recall: lost: blue 0.0 %"], id="blue lost"
        ),
    ],
)
def test_a_network_that_sees_worse_is_refused_by_images_whatever_its_manifest_says(
    make_store: MakeStore,
    photos: Path,
    edit: Callable[[ModelProto], None],
    reasons: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = make_store(tiny=1)
    forge(store, graph(edit, golden=True))
    said = refuse(store, capsys, "--data", str(photos))
    for reason in reasons:
        assert reason in said
    assert "answered here by both (120; " in json.loads((store / "tiny/2.gate.json").read_bytes())["compared"]


TRUTH = np.repeat([0, 1, 2], 1000)


def wrong(share: float, seed: int) -> list[int]:
    """Answers of which ``share`` are wrong, at random."""
    random = np.random.default_rng(seed)
    return np.where(random.random(len(TRUTH)) < share, (TRUTH + 1) % 3, TRUTH).tolist()


def never_blue() -> list[int]:
    return np.where(TRUTH == 2, 0, TRUTH).tolist()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("predicted", "probability", "reason"),
    [
        pytest.param(
            wrong(0.12, 2),
            0.88,
            r"accuracy: 88.37 % instead of 89.80 %, -1.43 points \(95 %: -3.00 to \+0.13; McNemar p 0.08\)",
            id="worse",
        ),
        pytest.param(never_blue(), 0.9, "recall: lost: blue 0.0 % instead of 88.3 % of 1,000", id="a class is lost"),
        pytest.param(wrong(0.1, 3), 0.999, r"calibration: expected calibration error \+0.\d+", id="too sure"),
    ],
)
def test_answers_that_are_worse_on_the_same_images_are_refused(
    make_store: MakeStore, predicted: list[int], probability: float, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=1)
    with_answers(store, 2, predicted, probability)
    with_answers(store, 3, wrong(0.1, 1), 0.9)
    registry.promote(store, "tiny", 3, "test")
    assert_match(reason, refuse(store, capsys))


def with_answers(store: Path, version: int, predicted: list[int], probability: float) -> None:
    """tiny:``version`` with these answers, and the accuracy that they mean."""
    top1 = float((np.array(predicted) == TRUTH).mean())
    change = answered(predicted, TRUTH.tolist(), probability)
    forge(store, change, version, evaluation=evaluation(store, top1=top1, samples=len(TRUTH)))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"top1": 0.8}, "accuracy: 80.00 % instead of 90.00 %, -10.00 points", id="accuracy"),
        pytest.param(
            {"calibration_error": 0.3, "samples": 3000},
            r"calibration: expected calibration error 0.3000 of 3,000 images instead of 0.0100 of 30; .* \+0.2",
            id="calibration",
        ),
        pytest.param(
            {"samples": 3000, "per_class": {"red": 0.5, "green": 0.9, "blue": 0.9}}, "recall: lost: red 50.0 %", id="class"
        ),
        pytest.param(
            {"providers": [{"provider": p, "precision": "fp32", "top1": t} for p, t in (("A", 0.9), ("B", 0.6))]},
            "providers: B loses 30.00 points of top-1 in fp32, the limit is 0.3",
            id="provider",
        ),
    ],
)
def test_worse_figures_in_the_manifest_are_refused_where_there_are_no_answers(
    make_store: MakeStore, changes: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=1)
    forge(store, evaluation=evaluation(store, **changes))
    assert_match(reason, refuse(store, capsys))


@pytest.mark.usefixtures("here")
def test_answers_that_do_not_give_the_accuracy_stated_are_refused(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=1)
    forge(store, answered([0, 1, 1, 0], [0, 1, 2, 2]))
    assert_match("figures: 50.00 % of its answers are right, it states 90.00 %", refuse(store, capsys))


def test_the_edits_of_graphs_are_seen_by_onnx_runtime(make_store: MakeStore) -> None:
    folder = forge(make_store(tiny=1), graph(constant("mean", 3.0)))
    found = next(t for t in onnx.load(folder / MODEL).graph.initializer if t.name == "mean")
    assert numpy_helper.to_array(found).min() == 3
