"""The model that is in git: it serves right after a clone, and is as good over HTTP as its manifest says.

HUBEL_CIFAR10 names a folder with test/CLASS/*, the images that the manifest's figures are of.
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from models.package import drift_reference, held_out_answers
from models.package.manifest import ANSWERS, Manifest
from models.package.precision import GRAPHS, refusal
from models.registry import registry
from tests.conftest import StartServer
from tests.server import ROOT, Server

STORE = ROOT / "models" / "store"
PICTURE = ROOT / "docs" / "images" / "ship.jpg"
FOLDER = os.environ.get("HUBEL_CIFAR10", "")
IMAGES_PER_REQUEST = 25


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return registry.verify(registry.resolve(STORE, "cifar10"))


@pytest.fixture(scope="module")
def bundled(start_server: StartServer) -> Server:
    return start_server(STORE, HUBEL_MODEL="cifar10")


def test_the_package_is_whole_small_and_good(manifest: Manifest) -> None:
    folder = registry.resolve(STORE, "cifar10")
    assert (folder / GRAPHS["fp32"]).stat().st_size <= 10_000_000
    assert (folder / GRAPHS["int8"]).stat().st_size <= 2_500_000
    assert refusal(manifest, "int8") is None
    assert manifest.evaluation.split == "test"
    assert manifest.evaluation.top1 >= 0.91
    assert manifest.evaluation.parity_max_difference <= 1e-3
    assert manifest.evaluation.samples >= 1000
    found = held_out_answers.read(registry.load(folder, manifest, ANSWERS), len(manifest.labels), folder / ANSWERS)
    assert found.top1() == pytest.approx(manifest.evaluation.top1)
    assert drift_reference.FILE in manifest.files


@pytest.mark.server
def test_the_picture_of_the_readme_is_a_ship(bundled: Server) -> None:
    with bundled.client() as client:
        answer = client.post("/v1/classify", content=PICTURE.read_bytes()).json()
    assert answer["model"] == "cifar10"
    assert answer["results"][0]["label"] == "ship"


@pytest.mark.server
def test_the_python_of_the_readme_runs(
    bundled: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    monkeypatch.chdir(ROOT)
    exec(code.replace("localhost:3000", f"127.0.0.1:{bundled.port}"), {})
    label, top = capsys.readouterr().out.splitlines()
    assert label == "ship"
    assert top.startswith("[Prediction(label='ship', probability=0.")


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
