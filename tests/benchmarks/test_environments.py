"""What a system runs in: packages are made again where this version cannot use them, and variables name the right one."""

import shutil
from pathlib import Path

import pytest

from benchmarks import environments
from benchmarks.environments import PrepareError
from models.package import manifest as manifests
from tests.factories import make_manifest, make_package


def test_a_package_is_usable_as_long_as_it_is_whole_and_preprocessed_alike(tmp_path: Path) -> None:
    folder = make_package(tmp_path)
    assert environments.usable(folder)
    manifests.write(folder, make_manifest(preprocessing="0" * 64))
    assert not environments.usable(folder)
    shutil.rmtree(folder)
    assert not environments.usable(folder)


def test_variables_name_the_package_to_hubel_and_to_the_others(tmp_path: Path) -> None:
    found = environments.variables(None, tmp_path / "store/resnet50/1", 1234)
    assert found["BENCH_PACKAGE"] == str(tmp_path / "store/resnet50/1")
    assert (found["HUBEL_STORE"], found["HUBEL_MODEL"]) == (str(tmp_path / "store"), "resnet50:1")
    assert found["BENCH_PORT"] == found["HUBEL_PORT"] == "1234"


def test_a_command_that_fails_is_named_with_its_last_line() -> None:
    with pytest.raises(PrepareError, match=r"^sh -c .* failed: no such group$"):
        environments.call(["sh", "-c", "echo first; echo no such group; exit 3"])
