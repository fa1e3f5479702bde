"""The whole loop on real images: what version 1 gets wrong comes back as feedback, and version 2 becomes live for it.

Version 1 was trained without the hard half of its cats; which these are, another small network says that saw none of them.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.lifecycle import candidate
from models.registry import registry
from tests import real
from tests.conftest import StartServer
from tests.real import CLASSES, command, deal, lay_out
from tests.traffic import traffic, until, versions_served
from training.data.dataset import load_folder
from training.evaluation import evaluate
from training.evaluation.calibration import softmax
from training.loop import checkpoint as checkpoints

pytestmark = [pytest.mark.server, pytest.mark.long]

LEFT_OUT = "cat"
RETRAIN = ("training", "retrain", "pets")
TRAINING = ("--epochs", "8", "--learning-rate", "0.1")  # as version 1, as much is new
ON_TRIAL = ("--promote", "--canary", "20", "--requests", "150", "--max-disagreement", "0.5")  # it is to answer otherwise
PATIENCE = 300


def hard(run: Path, folder: Path) -> list[str]:
    """Names of the images of the class LEFT_OUT in ``folder`` that the network in ``run`` gives the least probability to:
    the lower half."""
    checkpoint, model, _ = checkpoints.load(run)
    images = load_folder(folder, checkpoint.recipe.input, checkpoint.classes)
    mine = images.targets == CLASSES.index(LEFT_OUT)
    sure = softmax(evaluate.logits_of(model, checkpoint, images, say=False), 1.0)[mine, CLASSES.index(LEFT_OUT)]
    names = np.array([Path(path).name for path in images.paths])[mine]
    return names[np.argsort(sure)][: len(names) // 2].tolist()


def tell(client: httpx.Client, answers: Sequence[real.Answer], label: str) -> int:
    """Send the right label, which all of them should have got; how many were wrong."""
    wrong = 0
    for begin in range(0, len(answers), 30):
        body = [{"answer": a.answer, "label": label} for a in answers[begin : begin + 30]]
        response = client.post("/v1/feedback", json=body)
        assert response.status_code == 200, response.text
        wrong += sum(not result["right"] for result in response.json()["results"])
    return wrong


def test_what_was_answered_wrong_comes_back_as_a_better_version_and_no_request_fails(
    start_server: StartServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began, store, kept = time.monotonic(), tmp_path / "store", tmp_path / "kept"
    shares = deal()
    sifted = lay_out(tmp_path / "sifted", train=shares["sieve"], pool=shares["train"], test=shares["test"])
    recipe = real.write_recipe(tmp_path)
    command("training", "train", sifted / "train", "--recipe", recipe, "--epochs", 2, "--out", tmp_path / "sieve")
    lost = hard(tmp_path / "sieve", sifted / "pool")
    easy = {c: [path for path in paths if c != LEFT_OUT or path.name not in lost] for c, paths in shares["train"].items()}
    sent = shares["sent"] | {LEFT_OUT: [path for path in shares["train"][LEFT_OUT] if path.name in lost]}
    data = lay_out(tmp_path / "data", train=easy, test=shares["test"])
    real.train(data, tmp_path / "first")
    real.publish(tmp_path / "first", store)

    settings = {"HUBEL_MODEL": "pets", "HUBEL_WORKERS": "2", "HUBEL_FEEDBACK_DIR": str(kept), "HUBEL_FEEDBACK_SHARE": "1"}
    server = start_server(store, **settings)
    difficult = hard(tmp_path / "sieve", sifted / "test")
    measured = {**shares["test"], "hard": [path for path in shares["test"][LEFT_OUT] if path.name in difficult]}
    with server.client() as client:
        before = top1(client, measured)
        wrong = {c: tell(client, real.ask(client, paths), c) for c, paths in sent.items()}
    with traffic(server, clients=2, images=real.mixed(shares["traffic"])) as clients:
        time.sleep(3)  # the images are on the disk
        reviewed = json.loads(command("training", "feedback", kept, corrections := tmp_path / "corrections", "--json"))
        made = json.loads(
            command(*RETRAIN, data, corrections, "--store", store, "--out", tmp_path / "second", *TRAINING, *ON_TRIAL, "--json")
        )
        until(lambda: candidate.read(store, "pets") is None, server, every=0.5, patience=PATIENCE)
        until(lambda: versions_served(server, "pets") == [2, 2], server)
    pointer = registry.pointer(store, "pets")
    assert pointer is not None
    with server.client() as client:
        after = top1(client, measured)
    figures = {
        "sent": ", ".join(f"{len(sent[c])} {c} ({wrong[c]} wrong)" for c in sent),
        "feedback": reviewed["reasons"],
        "retrained with": f"{made['new_images']} new, {made['known_images']} known",
        "top1": f"{made['top1_before']} -> {made['top1']}; served {mean(before):.4f} -> {mean(after):.4f}",
        "served": ", ".join(f"{c} {before[c]:.3f} -> {after[c]:.3f}" for c in measured),
        "requests": len(clients.answers),
        "end": pointer.history[-1].reason,
        "seconds": f"{time.monotonic() - began:.0f}",
    }
    with capsys.disabled():
        sys.stdout.write(f"\n{made['promoted']}\n{figures}\n")
    assert pointer.version == 2, server.output()
    assert made["new_images"] + made["known_images"] == reviewed["to_train_on"] == sum(map(len, sent.values()))
    assert mean(after) > mean(before)
    assert after["hard"] > before["hard"]
    assert server.stop() == 0


def mean(top1: dict[str, float]) -> float:
    return float(np.mean([top1[c] for c in CLASSES]))


def top1(client: httpx.Client, files: dict[str, list[Path]]) -> dict[str, float]:
    return {
        name: sum(a.label == (name if name in CLASSES else LEFT_OUT) for a in real.ask(client, paths)) / len(paths)
        for name, paths in files.items()
    }
