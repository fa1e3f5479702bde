"""What uv.lock installs for a service: ONNX Runtime once, and nothing of training."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

LOCK = tomllib.loads((Path(__file__).parents[1] / "uv.lock").read_text())


def locked_for(extra: str) -> set[str]:
    """Names of all packages that the project with this extra pulls in, on any platform."""
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in LOCK["package"]:
        packages.setdefault(package["name"], []).append(package)
    (project,) = packages["hubel"]
    found: set[str] = set()
    ahead = [*project["dependencies"], *project["optional-dependencies"][extra]]
    while ahead:
        needed = ahead.pop()
        key = (needed["name"], *needed.get("extra", []))
        if str(key) in found:
            continue
        found.add(str(key))
        for package in packages[needed["name"]]:
            ahead += package.get("dependencies", [])
            for name in needed.get("extra", []):
                ahead += package.get("optional-dependencies", {}).get(name, [])
    return {name.split("'")[1] for name in found}


@pytest.mark.parametrize(("extra", "runtime"), [("serve-cpu", "onnxruntime"), ("serve-gpu", "onnxruntime-gpu")])
def test_a_serving_environment_has_one_onnx_runtime_and_no_torch(extra: str, runtime: str) -> None:
    names = locked_for(extra)
    assert {"bentoml", "prometheus-client", "numpy", runtime} <= names
    assert {name for name in names if name.startswith("onnxruntime")} == {runtime}
    assert not {"torch", "torchvision", "onnx", "onnxscript", "pytest"} & names


def test_a_training_environment_has_torch_and_no_bentoml() -> None:
    names = locked_for("train")
    assert {"torch", "torchvision", "onnx", "onnxruntime"} <= names
    assert "bentoml" not in names
