"""Requests to the real service in every shape, and checks of the shape of what it answers."""

from base64 import b64encode
from typing import Any

import httpx

from tests.server import ROOT

INTERNAL = (str(ROOT), "/tmp", "site-packages", ".py", "Traceback", "Error", "PIL", "pillow", "onnx", "numpy", "bentoml")


def send(client: httpx.Client, path: str, images: list[bytes], shape: str = "multipart", **params: str) -> httpx.Response:
    return client.post(path, params=params, **body_of(images, shape))


def body_of(images: list[bytes], shape: str) -> dict[str, Any]:
    """Images as arguments of httpx; a raw body has one."""
    if shape == "raw":
        (image,) = images
        return {"content": image}
    if shape == "multipart":
        return {"files": [("images", (f"{i}.bin", image, "application/octet-stream")) for i, image in enumerate(images)]}
    return {"json": {"images": [b64encode(image).decode() for image in images]}}


def results_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert (answer["model"], answer["version"]) == ("tiny", 1)
    return answer["results"]


def labels_of(path: str, results: list[dict[str, Any]]) -> list[str]:
    """The labels of /v1/classify or the first ones of /v1/top-k."""
    return [result["label"] if path == "/v1/classify" else result["top"][0]["label"] for result in results]


def samples(client: httpx.Client) -> dict[str, float]:
    """Values of /metrics by name and labels, as in the text."""
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is problem details (RFC 9457) with this status and code, and tells nothing internal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "code", "detail", "request_id"}, response.text
    assert (problem["status"], problem["code"]) == (status, code), response.text
    assert problem["type"] == f"urn:hubel:error:{code}"
    assert problem["request_id"] == response.headers["x-request-id"]
    for internal in INTERNAL:
        assert internal not in response.text, response.text
    return problem
