"""No one who can send images can change, add, remove or stop a model: control is by files and the command line alone."""

from pathlib import Path

import httpx
import pytest

from tests.client import assert_problem, labels_of, results_of, send
from tests.factories import make_image
from tests.models.conftest import contents

pytestmark = pytest.mark.server

PATHS = {  # where other servers can be controlled
    "Triton": ["/v2/repository/index", "/v2/repository/models/tiny/load", "/v2/repository/models/tiny/unload"],
    "Triton's memory, log and traces": ["/v2/systemsharedmemory/region/r/register", "/v2/logging", "/v2/trace/setting"],
    "TorchServe": ["/models?url=http://127.0.0.1:1/m.mar", "/models/tiny", "/models/tiny/1/set-default", "/workflows"],
    "TF Serving": ["/v1/models/tiny", "/v1/models/tiny/versions/1", "/v1/config", "/monitoring/prometheus/metrics"],
    "BentoML": ["/docs.json", "/admin", "/readyz/stop", "/task/submit", "/cancel"],
    "MLflow and KServe": ["/invocations", "/v2/models/tiny/load", "/v2/models/tiny/unload", "/ping"],
    "guesses": ["/shutdown", "/reload", "/quit", "/debug", "/config", "/v1/models/tiny/promote", "/v1/rollback", "/v1/load"],
    "the page": ["/"],
    "ours, which are to be read": ["/v1/models", "/v1/info", "/livez", "/readyz", "/openapi.json", "/schema.json", "/metrics"],
}
EVERY = [path for paths in PATHS.values() for path in paths]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", EVERY)
def test_there_is_nothing_to_control_a_model_with(client: httpx.Client, method: str, path: str) -> None:
    response = client.request(method, path, json={"model_name": "tiny", "url": "file:///etc/passwd"})
    known = path in PATHS["ours, which are to be read"] + PATHS["the page"]
    assert_problem(response, 405 if known else 404, "wrong_method" if known else "unknown_path")


def test_after_all_of_it_the_same_model_answers_and_the_store_is_as_it_was(client: httpx.Client, tiny_store: Path) -> None:
    before = contents(tiny_store)
    for path in EVERY:
        for method in ("POST", "PUT", "DELETE"):
            assert client.request(method, path, content=b"{}").status_code in (404, 405)
    results = results_of(send(client, "/v1/classify", [make_image(color="green")]))
    assert labels_of("/v1/classify", results) == ["green"]
    assert contents(tiny_store) == before
