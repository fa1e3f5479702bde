"""Who may import whom: models is the contract, service never needs training or torch, training never needs service."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import FOLDERS, ORDER, ROOT, imported, sources

TRAINING_TOOLS = {"torch", "torchvision", "onnx"}
SIGNING, STORAGE = "model_signing", "fsspec"  # extras: imported where they are used, so that all else works without
DATASETS, TRACKING, PARQUET, RAY = "datasets", "mlflow", "pyarrow", "ray"  # extras too
GOVERNED = {*FOLDERS, *TRAINING_TOOLS, "bentoml", "onnxruntime", SIGNING, STORAGE, DATASETS, TRACKING, PARQUET, RAY}

ALLOWED = {  # of what is governed, what every file of a folder may import
    "models": {"models"},
    "service": {"models", "service"},
    "training": {"models", "hubel", "training", *TRAINING_TOOLS},
    "hubel": {"models", "hubel"},  # the programs are imported when they are asked for, by their names
}
ALSO = {  # and single files more
    "hubel/model.py": {"service"},
    "models/registry/locations.py": {STORAGE},
    "models/package/signature.py": {SIGNING},
    "service/bento.py": {"bentoml"},
    "service/bulk/formats.py": {PARQUET},
    "service/bulk/ray_data.py": {RAY},
    "service/bulk/remote.py": {"hubel"},
    "service/inference/backends/choice.py": {"onnxruntime"},
    "service/inference/backends/cuda_graph.py": {"onnxruntime"},
    "service/inference/backends/opening.py": {"onnxruntime"},
    "service/inference/backends/pinned.py": {"onnxruntime"},
    "training/publishing/export.py": {"onnxruntime"},
    "training/publishing/drift_reference.py": {"onnxruntime"},
    "training/publishing/quantize.py": {"onnxruntime"},
    "training/data/sources/huggingface.py": {DATASETS},
    "training/loop/teacher.py": {"onnxruntime"},
    "training/loop/tracking.py": {TRACKING},
}
STAGES = ("http/body", "inference/decode", "inference/batcher", "inference/session", "inference/postprocess")

BLOCK = """
import importlib, sys
blocked, modules = sys.argv[1].split(","), sys.argv[2:]

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
for module in modules:
    importlib.import_module(module)
"""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path.read_text())}


def import_without(blocked: set[str], modules: list[str]) -> subprocess.CompletedProcess[str]:
    """Import modules in a fresh interpreter that finds none of the blocked packages."""
    command = [sys.executable, "-c", BLOCK, ",".join(sorted(blocked)), *modules]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("folder", "blocked", "left_out"),
    [
        pytest.param("models", GOVERNED - {"models"}, set[str](), id="models alone"),
        pytest.param("service", {"training", *TRAINING_TOOLS, SIGNING, PARQUET, RAY}, set[str](), id="service without training"),
        pytest.param(
            "service",
            {"training", *TRAINING_TOOLS, "bentoml", "onnxruntime"},
            {
                "service.bento",
                "service.app",
                "service.inference.session",
                "service.inference.golden",
                *(f"service.inference.backends.{name}" for name in ("choice", "cuda_graph", "opening", "pinned", "sized")),
                "service.inference.classifier",
                "service.bulk.local",
                "service.engine.server",
                "service.dry_run",
                "service.similar.build",
            },
            id="service but for what computes without BentoML and ONNX Runtime",
        ),
        pytest.param("training", {"service", "bentoml", SIGNING, DATASETS, TRACKING}, set[str](), id="training without service"),
    ],
)
def test_every_module_can_be_imported_without_what_its_folder_must_not_need(
    folder: str, blocked: set[str], left_out: set[str]
) -> None:
    modules = [name for path in sources(folder) if (name := module_name(path)) not in left_out]
    assert len(modules) > 5
    result = import_without(blocked, modules)
    assert result.returncode == 0, result.stderr


def test_what_is_blocked_cannot_be_imported() -> None:
    result = import_without({"numpy"}, ["models.image.preprocess"])
    assert result.returncode != 0
    assert "numpy is blocked" in result.stderr


def test_commands_import_torchvision_where_they_need_it_alone() -> None:
    """It takes seconds, as it imports what compiles networks."""
    result = import_without({"torchvision"}, ["training.workflows.pipeline", "training.workflows.probe"])
    assert result.returncode == 0, result.stderr


def test_each_file_imports_only_what_its_cell_allows() -> None:
    found = {str(path.relative_to(ROOT)): packages(path) & GOVERNED for folder in FOLDERS for path in sources(folder)}
    allowed = {name: ALLOWED[Path(name).parts[0]] | ALSO.get(name, set()) for name in found}
    assert {name: more for name in found if (more := found[name] - allowed[name])} == {}


@pytest.mark.parametrize("name", ALSO)
def test_a_file_that_may_import_more_does(name: str) -> None:
    assert ALSO[name] <= packages(ROOT / name)


def test_models_needs_four_libraries_alone() -> None:
    found = set[str]().union(*(packages(path) for path in sources("models")))
    assert found - set(sys.stdlib_module_names) - {SIGNING, STORAGE} == {"models", "msgspec", "numpy", "PIL", "simplejpeg"}


def upward(name: str, source: str, order: list[str]) -> list[str]:
    """What a module imports from a room above its own, or from one that ``order`` lacks."""
    area, room = name.split(".")[:2]
    found = [other for other in imported(source) if other.startswith(f"{area}.")]
    below = set(order[order.index(room) :])
    return sorted(other for other in found if other.split(".")[1] not in below)


@pytest.mark.parametrize(("folder", "most"), [("models", 10), ("service", 17), ("training", 15)])
def test_a_room_imports_only_from_those_below_it(folder: str, most: int) -> None:
    order = ORDER[folder].split()
    modules = [path for path in sources(folder) if "store" not in path.parts and path != ROOT / folder / "__init__.py"]
    assert {module_name(path).split(".")[1] for path in modules} == set(order)
    assert len(set(order) - {"__main__"}) <= most
    assert {module_name(path): up for path in modules if (up := upward(module_name(path), path.read_text(), order))} == {}


def test_an_import_from_above_is_seen() -> None:
    source = "from models.image import spec\ndef f():\n    from models.registry import registry\nfrom models import unknown\n"
    assert upward("models.package.manifest", source, ORDER["models"].split()) == ["models.registry.registry", "models.unknown"]


@pytest.mark.parametrize("stage", STAGES)
def test_stages_import_neither_one_another_nor_the_settings(stage: str) -> None:
    names = {
        name.rpartition(".")[0] for name in imported((ROOT / f"service/{stage}.py").read_text()) if name.startswith("service.")
    }
    shared = {f"service.{name}" for name in ("errors", "inference", "inference.results", "inference.golden")}
    assert {name for name in names if not name.startswith("service.inference.backends")} <= shared


def test_only_the_wiring_and_the_programs_read_the_settings() -> None:
    readers = {path.name for path in sources("service") if "service.settings" in set(imported(path.read_text()))}
    assert readers == {"bento.py", "__main__.py", "worker.py", "dry_run.py"}


def test_no_test_module_is_imported() -> None:
    """What several of them need is in a module that is none."""
    imports = re.compile(r"(?:from|import) tests\.[a-z_.]*test_\w+")
    assert {path.relative_to(ROOT): found for path in sources("tests") if (found := imports.findall(path.read_text()))} == {}


def test_imports_inside_functions_are_seen() -> None:
    source = "import os.path\nfrom models import files\ndef f():\n    import torch.nn as nn\n    from bentoml import service\n"
    assert list(imported(source)) == ["os.path", "models.files", "torch.nn", "bentoml.service"]
