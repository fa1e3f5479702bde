"""EfficientNet-Lite0 with the weights that come with the extra train, in all that a version goes through: from a folder to a
package with int8 and a report, gate, service, drift, feedback, retraining, canary. Of made pictures, at a small size.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from models.captures import captured
from models.lifecycle import candidate, gate
from models.lifecycle.gate import GateRequest
from models.lifecycle.rules import Rules
from models.package import manifest as manifests
from models.package import precision as precisions
from models.package.drift_reference import FILE as REFERENCE
from models.package.manifest import ANSWERS, REPORT
from models.package.precision import CPU, GRAPHS
from models.registry import registry
from tests.client import samples, send
from tests.conftest import StartServer
from tests.factories import make_image
from tests.real import command
from tests.traffic import traffic, until
from tests.training.factories import COLOURS, make_folder
from training.report import robustness

pytestmark = [pytest.mark.server, pytest.mark.long]

SIDE, NAME = 64, "colours"
RECIPE = ("--recipe", "small-lite0", "--size", SIDE)
DARK = 260  # pictures unlike those of the reference, more than the least of which drift is told


def pictures(seed: int, each: int) -> dict[str, list[bytes]]:
    return {name: [make_image("JPEG", 80, 80, seed=seed + i, color=name) for i in range(each)] for name in COLOURS}


def test_efficientnet_lite0_goes_the_whole_way_from_a_folder_to_a_canary_that_becomes_live(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness, "KINDS", robustness.KINDS[:1])  # of all it takes most of the time
    data, store, kept = tmp_path / NAME, tmp_path / "store", tmp_path / "kept"
    make_folder(data / "train", each=20, side=80)
    make_folder(data / "test", each=20, seed=500_000, side=80)
    where = ("--name", NAME, "--store", store, "--out", tmp_path / "run", "--with-weights", "--no-fp16", "--json")
    made = json.loads(command("training", "run", data, *RECIPE, *where))

    manifest = manifests.read(store / NAME / "1")
    assert made["top1"] == manifest.evaluation.top1 > 0.9
    assert {REPORT, REFERENCE, ANSWERS} <= set(manifest.files)
    assert (CPU, "int8") in {(a.provider, a.precision) for a in manifest.evaluation.providers}
    assert (GRAPHS["int8"] in manifest.files) is not bool(
        precisions.losses(manifest.evaluation.providers, "int8", manifest.evaluation.samples)
    )

    server = start_server(store, HUBEL_MODEL=NAME, HUBEL_WORKERS="1", HUBEL_FEEDBACK_DIR=str(kept), HUBEL_FEEDBACK_SHARE="1")
    with server.client() as client:
        for label, images in pictures(900_000, 4).items():
            results = send(client, "/v1/classify", images).json()["results"]
            assert [result["label"] for result in results].count(label) >= 3
            body = [{"answer": result["answer"], "label": label} for result in results]
            assert client.post("/v1/feedback", json=body).status_code == 200
        dark = [make_image("JPEG", 80, 80, seed=700_000 + i, color="black") for i in range(20)]
        for _ in range(DARK // len(dark)):
            send(client, "/v1/classify", dark)
        labels = f'model="{NAME}",version="1"'
        until(lambda: samples(client).get(f'hubel_drift_psi{{feature="classes",{labels}}}', 0) > 0.25, server)
        assert samples(client)[f"hubel_drift_reference{{{labels}}}"] == 1
    until(lambda: len(list((kept / captured.ANSWERS).glob("*.json"))) >= 12, server)

    sent = [image for images in pictures(950_000, 10).values() for image in images]
    images = [sent[i] for i in np.random.default_rng(0).permutation(len(sent))]
    again = ("--store", store, "--out", tmp_path / "second", "--no-fp16", "--json")
    result = json.loads(command("training", "retrain", NAME, data, kept, *again))
    verdict = gate.judge(store, NAME, 2, GateRequest(Rules(speed=100.0, memory=100.0), seconds=300))
    with traffic(server, clients=2, images=images) as clients:
        bounds = candidate.Bounds(latency=1000, disagreement=0.5)  # how quick it is says the machine's other work
        candidate.start(store, NAME, candidate.Candidate(2, "canary", requests=40, percent=30, bounds=bounds))
        until(lambda: candidate.read(store, NAME) is None, server, every=0.5, patience=300)
    assert result["new_images"] == 12
    assert verdict.passed, verdict.reasons()
    pointer = registry.pointer(store, NAME)
    assert pointer is not None
    assert pointer.version == 2, server.output()
    with server.client() as client:
        until(lambda: samples(client)[f'hubel_model_version{{model="{NAME}",worker="0"}}'] == 2, server)
    assert {version for version, _ in clients.answers} == {1, 2}
    assert server.stop() == 0
