"""BentoML's own commands and client: build a bento, serve it, ask it for each kind of answer."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from tests.factories import encode, make_picture
from tests.server import ROOT, Server, environment, free_port

TOOLS = ROOT / ".tools/bin"  # uv lies there where the machine has none
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ASK = """
import json, pathlib, sys
import bentoml
with bentoml.SyncHTTPClient(sys.argv[1]) as client:
    picture = pathlib.Path(sys.argv[2])
    print(json.dumps([client.classify(picture), client.top_k(picture), client.features(picture), client.explain(picture)]))
"""  # a program of its own, as BentoML's client leaves a temporary folder to the end of the process
ROUTES = ("/v1/classify", "/v1/top-k", "/v1/features", "/v1/explain")
BENTOML = Path(sys.executable).with_name("bentoml")


def ask(server: Server, picture: Path) -> None:
    """Each endpoint answers BentoML's client as it does others."""
    command = [sys.executable, "-W", "ignore", "-c", ASK, server.url, picture]
    asked = subprocess.run(command, env=environment(BENTOML_DO_NOT_TRACK="True"), capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    answers = json.loads(asked.stdout)
    with server.client() as plain:
        for path, answer in zip(ROUTES, answers, strict=True):
            other = plain.post(path, content=picture.read_bytes()).json()
            tokens = [result.pop("answer", None) for reply in (answer, other) for result in reply["results"]]  # no two are alike
            assert all(tokens) or path in ("/v1/features", "/v1/explain")
            assert answer["results"] == other["results"]
            assert answer["model"] == other["model"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(encode(make_picture(), "JPEG"))
    return path


def test_bentoml_s_client_asks_a_running_service(server: Server, picture: Path) -> None:
    ask(server, picture)
    with httpx.Client(base_url=server.url) as client:
        routes = {route["route"] for route in client.get("/schema.json").json()["routes"]}
    assert routes == set(ROUTES)


@pytest.mark.parametrize(("said", "count"), [({}, 1), ({"HUBEL_WORKERS": "3"}, 3)])
def test_under_bentoml_there_is_one_worker_unless_more_are_asked_for(said: dict[str, str], count: int) -> None:
    program = "from service import bento; print(bento.config().worker_count(), bento.Hubel.config['workers'])"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(**said), capture_output=True, text=True, timeout=60
    )
    assert told.stdout.split() == [str(count)] * 2, told.stderr


@pytest.mark.skipif(not (TOOLS / "uv").exists() and not shutil.which("uv"), reason="bentoml build needs uv")
def test_a_bento_is_built_and_serves_a_bundled_model(tmp_path: Path, picture: Path) -> None:
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    settings = {"HUBEL_ALLOW_ANONYMOUS": "true", "HUBEL_MODEL": "cifar10"}
    variables = environment(**settings, PATH=path, BENTOML_HOME=str(tmp_path), BENTOML_DO_NOT_TRACK="True")
    built = subprocess.run(
        [BENTOML, "build", "--output", "tag"], env=variables, capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert built.returncode == 0, built.stderr
    tag = built.stdout.strip().rpartition("__tag__:")[2]
    folder = tmp_path / "bentos" / tag.replace(":", "/") / "src"
    assert (folder / "models/store/cifar10/current.json").is_file()
    assert (folder / "models/imagenet/model.skeleton").is_file()
    assert not (folder / "tests").exists()
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as file:
        command = [BENTOML, "serve", tag, "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, env=variables, cwd=tmp_path, stdout=file, stderr=subprocess.STDOUT)
    server = Server(port, process, log)
    try:
        server.wait_until_ready()
        ask(server, picture)
    finally:
        process.terminate()
        process.wait(30)


def test_a_bento_asks_for_what_the_extras_serve_cpu_and_imagenet_do() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*extras["serve"], *extras["serve-cpu"], *extras["imagenet"]]
    named = PROJECT["tool"]["bentoml"]["build"]["python"]["packages"]
    assert named == [name for name in wanted if not name.startswith(("hubel[", "bentoml"))]
