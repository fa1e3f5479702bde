"""The image that trains: it holds what it tries a version with; and, on request, it runs for real beside a service under load."""

import os
import re
from pathlib import Path

import httpx
import pytest

from models.lifecycle import dry_run
from tests.containers import REPOSITORY, Load, Project, docker, project, wait_until
from tests.factories import LABELS, make_image
from tests.training.factories import make_folder

__all__ = ["project"]
EACH = 12  # images of a class


def test_the_image_that_trains_has_what_a_version_is_tried_out_by() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    (image,) = re.findall(r"^FROM unprivileged AS train\n((?:.+\n)+)", text, re.MULTILINE)
    (environment,) = re.findall(r"^FROM uv AS train-environment\n(.+)", text, re.MULTILINE)
    folder = dry_run.PROGRAM.partition(".")[0]
    assert f"COPY {folder}/ {folder}/" in image
    assert "--extra serve-cpu" in environment


@pytest.mark.docker
def test_a_container_trains_on_feedback_and_its_version_becomes_live_under_load(project: Project, tmp_path: Path) -> None:
    data, runs = tmp_path / "data", tmp_path / "runs"
    make_folder(data / "colours", LABELS, EACH, side=64)
    runs.mkdir()
    project.values |= {
        "DATA_FOLDER": str(data),
        "RUNS_FOLDER": str(runs),
        "TRAIN_USER": f"{os.getuid()}:{os.getgid()}",
        "HUBEL_MODEL": "colours",
        "HUBEL_FEEDBACK_DIR": "/app/kept",
        "HUBEL_FEEDBACK_SHARE": "1",
    }
    project.train("run", "data/colours", "--name", "colours", "--with-weights")
    project.make("up")
    (service,) = project.containers("hubel")
    with httpx.Client(base_url=project.url, trust_env=False, timeout=30) as client:
        for label in LABELS:
            for seed in range(100, 100 + EACH):
                (result,) = client.post("/v1/classify", content=make_image(color=label, seed=seed)).json()["results"]
                assert client.post("/v1/feedback", json={"answer": result["answer"], "label": label}).status_code == 200
    docker("cp", f"{service}:/app/kept", str(data / "kept"))
    project.train("feedback", "data/kept", "runs/corrections")
    with Load(int(project.values["HUBEL_PORT"]), clients=3) as load:
        load.wait_for(100)
        project.train("retrain", "colours", "data/colours", "runs/corrections")
        project.train("models", "promote", "colours:2", "--force")  # tried out, and live whatever so few images make of it
        wait_until(lambda: {answer.version for answer in load.answers[-20:]} == {2}, seconds=60)
    load.tell("retrained")
    assert load.lost() == []
