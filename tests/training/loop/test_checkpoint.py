"""training/loop/checkpoint.py: what is saved comes back, what is damaged or hostile does not."""

import ast
import pickle
import resource
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

import training
from tests.training.factories import make_folder, make_recipe, make_run
from training.errors import CheckpointError
from training.loop import checkpoint as checkpoints
from training.loop import train
from training.loop.checkpoint import SIDECAR
from training.loop.device import Device
from training.loop.state import begin

WEIGHTS = "weights-0000.pt"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours", each=2)


def test_a_network_is_rebuilt_from_the_sidecar_and_its_weights_alone(source: Path, tmp_path: Path) -> None:
    saved, model = make_run(tmp_path / "run", source, seed=3)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    source.rename(tmp_path / "gone")

    checkpoint, rebuilt, _ = checkpoints.load(tmp_path / "elsewhere")

    assert checkpoint == saved
    assert checkpoint.recipe == make_recipe(seed=3)
    assert checkpoint.classes == ("blue", "green", "red")
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(rebuilt.eval()(images), model.eval()(images))


def test_the_optimizer_goes_on_with_the_state_it_was_saved_with(source: Path, tmp_path: Path) -> None:
    checkpoint, model = make_run(tmp_path / "run", source)
    state = begin(model, checkpoint.recipe, Device("cpu", None))
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    state.optimizer.step()
    checkpoints.save(tmp_path / "run", checkpoint, model.state_dict(), state.content())

    found = checkpoints.load(tmp_path / "run")[2]["optimizer"]["state"]

    expected = state.optimizer.state_dict()["state"]
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[i]["momentum_buffer"], expected[i]["momentum_buffer"]) for i in expected)


def test_weights_that_answer_and_weights_to_go_on_with_are_written_once_where_they_are_the_same(
    source: Path, tmp_path: Path
) -> None:
    checkpoint, model = make_run(tmp_path / "run", source)
    weights = model.state_dict()

    def size(training: dict[str, Any]) -> int:
        checkpoints.save(tmp_path / "run", checkpoint, weights, training)
        return (tmp_path / "run" / WEIGHTS).stat().st_size

    alone, same, copied = size({}), size({"model": weights}), size({"model": deepcopy(weights)})
    assert same < 1.01 * alone
    assert copied > 1.9 * alone


def test_a_file_of_weights_from_before_there_were_two_sets_of_them_still_loads(source: Path, tmp_path: Path) -> None:
    checkpoint, model = make_run(tmp_path / "run", source)
    optimizer = begin(model, checkpoint.recipe, Device("cpu", None)).optimizer
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "run" / WEIGHTS)

    assert train.train(source, tmp_path / "run", None, say=False).epoch == checkpoint.recipe.epochs


def test_saving_leaves_one_sidecar_and_the_weights_it_names(source: Path, tmp_path: Path) -> None:
    checkpoint, model = make_run(tmp_path / "run", source)
    for epoch in (1, 2, 2, 3):
        checkpoint.epoch = epoch
        checkpoints.save(tmp_path / "run", checkpoint, model.state_dict(), training={})

    assert {path.name for path in (tmp_path / "run").iterdir()} == {SIDECAR, "weights-0003.pt"}
    assert checkpoints.load(tmp_path / "run")[0].epoch == 3


def test_a_stop_before_the_sidecar_is_replaced_leaves_the_checkpoint_before(source: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run", source)
    (tmp_path / "run" / "weights-0001.pt").write_bytes(b"half of the wei")
    (tmp_path / "run" / ".weights-0001-a1b2c3_d").write_bytes(b"half of the wei")
    (tmp_path / "run" / ".checkpoint-a1b2c3d4").write_bytes(b'{"recipe"')

    checkpoint, model, _ = checkpoints.load(tmp_path / "run")
    assert checkpoint.epoch == 0

    checkpoint.epoch = 1
    checkpoints.save(tmp_path / "run", checkpoint, model.state_dict(), training={})
    assert {path.name for path in (tmp_path / "run").iterdir()} == {SIDECAR, "weights-0001.pt"}


def test_a_folder_without_a_checkpoint_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"no checkpoint in {tmp_path}: .*{SIDECAR} does not exist"):
        checkpoints.load(tmp_path)


def edit(old: str, new: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        text = (run / SIDECAR).read_text()
        assert old in text
        (run / SIDECAR).write_text(text.replace(old, new))

    return damage


def cut(name: str, length: int) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).write_bytes((run / name).read_bytes()[:length])

    return damage


def remove_weights(run: Path) -> None:
    (run / WEIGHTS).unlink()


def drop_a_tensor(run: Path) -> None:
    state: dict[str, Any] = torch.load(run / WEIGHTS, weights_only=True)
    del state["model"]["head.bias"]
    torch.save(state, run / WEIGHTS)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(cut(SIDECAR, 100), "truncated", id="sidecar cut off"),
        pytest.param(cut(SIDECAR, 0), "truncated", id="sidecar empty"),
        pytest.param(edit('"epoch"', '"epoche"'), "epoche", id="unknown field"),
        pytest.param(edit('"schema": 1', '"schema": 2'), "schema", id="schema of another version"),
        pytest.param(edit("resnet10-small", "resnet11-small"), "resnet11-small", id="unknown architecture"),
        pytest.param(edit("resnet10-small", "resnet18"), "Missing key", id="weights of another architecture"),
        pytest.param(edit('"red"', '"red", "white"'), "size mismatch", id="one class more than the weights"),
        pytest.param(edit(WEIGHTS, ""), "directory", id="no weights named"),
        pytest.param(remove_weights, "No such file", id="weights missing"),
        pytest.param(cut(WEIGHTS, 5000), "cannot be read", id="weights cut off"),
        pytest.param(drop_a_tensor, "head.bias", id="a tensor missing"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line_that_names_it(
    damage: Callable[[Path], None], reason: str, source: Path, tmp_path: Path
) -> None:
    make_run(tmp_path / "run", source)
    damage(tmp_path / "run")

    with pytest.raises(CheckpointError, match=reason) as caught:
        checkpoints.load(tmp_path / "run")

    assert str(tmp_path / "run" / SIDECAR) in str(caught.value)
    assert "\n" not in str(caught.value)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.canary,)


def save_by_torch(trap: Trap, path: Path) -> None:
    torch.save({"model": trap, "optimizer": {}}, path)


def save_by_pickle(trap: Trap, path: Path) -> None:
    path.write_bytes(pickle.dumps(trap, protocol=2))  # the protocol that torch.load expects


@pytest.mark.parametrize("save", [save_by_torch, save_by_pickle])
def test_code_hidden_in_a_weights_file_is_not_run(save: Callable[[Trap, Path], None], source: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    make_run(tmp_path / "run", source)
    save(Trap(canary), tmp_path / "run" / WEIGHTS)

    with pytest.raises(CheckpointError, match="nothing was loaded") as caught:
        checkpoints.load(tmp_path / "run")

    assert "weights_only" not in str(caught.value)  # torch's own message tells how to let it run
    assert not canary.exists()


def test_the_trap_of_the_test_above_does_spring(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "canary")))

    assert (tmp_path / "canary").exists()


def calls_of_load(module: Path) -> list[ast.Call]:
    tree = ast.parse(module.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]


def test_every_call_of_torch_load_is_for_weights_only() -> None:
    modules = sorted(Path(training.__file__).parent.rglob("*.py"))
    calls = [call for module in modules for call in calls_of_load(module)]

    assert calls
    for call in calls:
        assert "weights_only=True" in [ast.unparse(keyword) for keyword in call.keywords]


def test_a_disk_that_takes_no_more_is_an_error_and_the_checkpoint_before_stays(source: Path, tmp_path: Path) -> None:
    checkpoint, model = make_run(tmp_path / "run", source)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    checkpoint.epoch = 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(CheckpointError, match=r"epoch 1 cannot be saved in .*go on with --resume"):
            checkpoints.save(tmp_path / "run", checkpoint, model.state_dict(), training={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
