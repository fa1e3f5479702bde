"""What uv.lock installs for a service: one ONNX Runtime, and nothing of training."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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


@pytest.mark.parametrize(
    ("extra", "runtimes"), [("serve-cpu", {"onnxruntime", "onnxruntime-openvino"}), ("serve-gpu", {"onnxruntime-gpu"})]
)
def test_a_serving_environment_has_onnx_runtime_and_no_torch(extra: str, runtimes: set[str]) -> None:
    names = locked_for(extra)
    assert {"bentoml", "prometheus-client", "numpy"} <= names
    assert {name for name in names if name.startswith("onnxruntime")} == runtimes
    assert not {"torch", "torchvision", "onnx", "onnxscript", "pytest"} & names


@pytest.mark.parametrize("extra", ["serve-cpu", "train"])
@pytest.mark.parametrize(
    ("system", "machine", "python", "runtime"),
    [
        ("linux", "x86_64", "3.11", "onnxruntime-openvino"),
        ("linux", "x86_64", "3.13", "onnxruntime-openvino"),
        ("linux", "x86_64", "3.14", "onnxruntime"),
        ("linux", "aarch64", "3.11", "onnxruntime"),
        ("darwin", "arm64", "3.12", "onnxruntime"),
    ],
)
def test_each_platform_gets_one_onnx_runtime(extra: str, system: str, machine: str, python: str, runtime: str) -> None:
    place = {"sys_platform": system, "platform_machine": machine, "python_version": python}
    wanted = [Requirement(text) for text in PROJECT["project"]["optional-dependencies"][extra]]
    names = [w.name for w in wanted if w.name.startswith("onnxruntime") and (w.marker is None or w.marker.evaluate(place))]
    assert names == [runtime]


def test_the_project_is_built_by_the_uv_of_the_verbs_itself() -> None:
    (version,) = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    (builder,) = PROJECT["build-system"]["requires"]
    assert version in Requirement(builder).specifier
    assert version in Requirement(f"uv{PROJECT['tool']['uv']['required-version']}").specifier


def test_looking_at_data_needs_neither_torch_nor_a_runtime() -> None:
    assert not {name for name in locked_for("inspect") if name.startswith(("torch", "onnx", "bentoml"))}


def test_a_training_environment_has_torch_and_no_bentoml() -> None:
    names = locked_for("train")
    assert {"torch", "torchvision", "onnx", "onnxruntime", "onnxruntime-openvino"} <= names
    assert "bentoml" not in names
