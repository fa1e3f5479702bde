"""Every stage, from every kind of start: a run that begins with whatever weights ends in a package with a report.

The networks have a few weights. Graphs are written by torch's tracer, which takes a tenth of the exporter's time.
"""

import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from models.package.manifest import CARD, OUTPUTS, REPORT
from models.package.precision import CPU
from models.registry import registry
from tests.training.factories import NO_DRAWINGS, interrupt_at, make_folder, make_recipe
from tests.training.networks.factories import publish, save
from tests.training.stand_ins import NETWORKS, staged
from training.loop import train
from training.loop.checkpoint import Checkpoint
from training.networks import catalogue, torchvision
from training.networks.classifier import Classifier
from training.networks.hog import Hog
from training.publishing import export
from training.report import page, robustness, speed
from training.workflows import pipeline, probe
from training.workflows.pipeline import Beginning, Made

TINY = "resnet18"  # the name of the stand-in: names of torchvision's networks alone have published weights


class Net(nn.Module):
    """In the place of torchvision's: a trunk and a head that has 1,000 classes."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1, self.fc = nn.Conv2d(3, 4, 7, padding=3), nn.BatchNorm2d(4), nn.Linear(4, classes)


def cut(net: Any) -> Classifier:
    return Classifier(nn.Sequential(net.conv1, net.bn1), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), net.fc, ends=(2,))


def write_quickly(
    model: Classifier, checkpoint: Checkpoint, path: Path, temperature: float = 1.0, half: bool = False, opset: int | None = None
) -> None:
    network = deepcopy(checkpoint.answering(model).cpu())
    with torch.no_grad():
        network.head.weight.div_(temperature)
        network.head.bias.div_(temperature)
    example = torch.zeros(2, checkpoint.recipe.input.height, checkpoint.recipe.input.width, 3, dtype=torch.uint8)
    sizes = {name: {0: "batch"} for name in ("images", *OUTPUTS)}
    servable, names = export.Servable(network, checkpoint).eval(), list(OUTPUTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            servable,
            (example,),
            path,
            input_names=["images"],
            output_names=names,
            dynamic_axes=sizes,
            dynamo=False,
            opset_version=opset,
        )
    graph = onnx.load(path)
    for output, value in zip(graph.graph.output, servable(example), strict=True):
        for dimension, size in zip(output.type.tensor_type.shape.dim[1:], value.shape[1:], strict=True):
            dimension.dim_value = size
    onnx.save(graph, path)


@pytest.fixture(scope="module")
def quick() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "SECONDS", 0)
        patch.setattr(speed, "LEAST", 1)
        patch.setattr(export, "installed", lambda: [CPU])
        patch.setattr(export, "write_onnx", write_quickly)
        patch.setattr(robustness, "KINDS", robustness.KINDS[:1])
        patch.setattr(page, "drawn", lambda content: NO_DRAWINGS)  # pyright: ignore
        patch.setattr(torchvision, "plain", lambda name, classes: Net(classes))  # pyright: ignore
        patch.setitem(torchvision.CUTS, TINY, cut)
        patch.setitem(catalogue.ARCHITECTURES, "staged", staged)
        patch.setitem(catalogue.ARCHITECTURES, "normed", NETWORKS["normed"])
        hog = lambda n: Classifier(Hog(), nn.Flatten(), nn.Linear(36, n))  # noqa: E731 # pyright: ignore
        patch.setitem(catalogue.ARCHITECTURES, "hog-8", hog)
        yield


@pytest.fixture(scope="module")
def root(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """colours/, and before/, a run from random weights, published with them as before:1."""
    root = tmp_path_factory.mktemp("starts")
    source = make_folder(root / "colours", each=6)
    recipe = make_recipe(architecture="staged", epochs=1)
    pipeline.run(source, root / "before", "before", root / "store", Beginning(recipe), Made(with_weights=True))
    return root


Begin = Callable[[Path, Path], Beginning]  # the folders above and of the run -> what is asked of the pipeline


def again(start_from: str | None = None, **changes: Any) -> Begin:
    recipe = {"architecture": "staged", "epochs": 1} | changes
    return lambda root, run: Beginning(make_recipe(**recipe), root / start_from if start_from else None)


def by_name(root: Path, run: Path) -> Beginning:
    return again(architecture=TINY, weights="IMAGENET1K_V1")(root, run)


def by_file(root: Path, run: Path) -> Beginning:
    torch.save(Net().state_dict(), root / "mine.pth")
    return again(architecture=TINY, weights=str(root / "mine.pth"))(root, run)


def by_probe(root: Path, run: Path) -> Beginning:
    probe.probe_run(root / "before", root / "colours", probe.settle(), run)
    return Beginning(None)


def resumed(root: Path, run: Path) -> Beginning:
    with interrupt_at(3), pytest.raises(KeyboardInterrupt):
        train.train(root / "colours", run, make_recipe(architecture="staged", epochs=2), say=False)
    return Beginning(None)


STARTS = {
    "another run": (again("before"), "the weights of <code>", "the weights of `"),
    "another run of other classes": (again("others"), "the weights of <code>", "the weights of `"),
    "a package": (
        again("store/before/1"),
        "the weights of the package before:1, trained by <code>",
        "of the package before:1, trained by `",
    ),
    "torchvision's weights": (
        by_name,
        "torchvision&#39;s weights IMAGENET1K_V1, <code>resnet18-",
        "weights IMAGENET1K_V1, `resnet18-",
    ),
    "a file of weights": (by_file, "the weights of a file, <code>mine.pth</code>", "the weights of a file, `mine.pth`"),
    "a probe's head": (by_probe, "the weights of <code>", "the weights of `"),
    "a stopped training": (resumed, "random weights", ""),
    "a frozen trunk": (again("before", freeze="features"), "the weights of <code>", "the weights of `"),
    "a head fitted at once": (again("before", fit="linear"), "the weights of <code>", "the weights of `"),
    "features that nothing learns": (again(architecture="hog-8", fit="linear"), "random weights", ""),
    "averaged weights and patience": (again(epochs=3, patience=1, ema=0.9, learning_rate=1e-9), "random weights", ""),
}


@pytest.mark.parametrize("start", STARTS)
def test_a_run_ends_in_a_package_with_a_report_whatever_it_begins_with(
    start: str, root: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch, save(Net(), hub, TINY))
    begin, on_the_page, on_the_card = STARTS[start]
    if start == "another run of other classes":
        train.train(
            make_folder(tmp_path / "two", ("red", "blue"), each=4), root / "others", again()(root, root).recipe, say=False
        )
    beginning = begin(root, tmp_path / "run")

    done = pipeline.run(root / "colours", tmp_path / "run", "pets", tmp_path / "store", beginning)

    assert "report_error" not in done, capsys.readouterr().err
    assert registry.verify(Path(done["folder"])).id == "pets:1"
    html = Path(done["folder"], REPORT).read_text()
    assert f"<dt>started from</dt><dd>{on_the_page}" in html
    assert "<title>pets:1 " in html
    card = Path(done["folder"], CARD).read_text()
    assert ("It started from" in card) == bool(on_the_card)
    assert on_the_card in card
