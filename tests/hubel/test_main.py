"""hubel: every command under one name, with help that needs nothing heavy."""

import json
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path

import pytest

from hubel.__main__ import main
from models import __main__ as models
from models.terminal import program
from service import __main__ as service
from tests.factories import make_image
from training import __main__ as training

HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "bentoml", "matplotlib", "scipy", "sklearn", "skimage", "tqdm", "jinja2")
HELP = """
import contextlib, io, json, sys
from hubel.__main__ import GROUPS, main
said = {}
for line in ["", *(name for group in GROUPS.values() for name in group)]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*line.split(), "--help"])
    said[line] = text.getvalue()
print(json.dumps({"said": said, "modules": list(sys.modules)}))
"""
WITHOUT = """
import contextlib, io, json, sys
from hubel.__main__ import main
blocked, lines = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
results = []
for line in lines:
    out, err = io.StringIO(), io.StringIO()
    sys.argv[:] = ["hubel", *line]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main()
    results.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=program.CHECKOUT, capture_output=True, text=True, check=False)


def test_help_of_every_command_comes_without_the_libraries_that_compute() -> None:
    found = json.loads(run(HELP).stdout)
    assert set(found["modules"]) & set(HEAVY) == set()
    overview = found["said"].pop("")
    for name, text in found["said"].items():
        assert text.startswith(f"usage: hubel {name} ")
        assert f"\n  {name} " in overview


def test_the_overview_has_the_commands_of_the_programs_and_no_others() -> None:
    for folder, names in ((training, program.TRAINING), (service, program.SERVICE), (models, program.STORE)):
        (commands,) = (action for action in folder.make_parser()._actions if action.nargs == "A...")
        assert set(commands.choices or ()) == set(names)


def without(libraries: Collection[str], *lines: list[str]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each command line, in an environment that lacks the libraries."""
    return json.loads(run(WITHOUT, json.dumps([sorted(libraries), lines])).stdout)


def make_data(folder: Path) -> Path:
    for label in ("red", "blue"):
        (folder / label).mkdir(parents=True)
        (folder / label / "1.png").write_bytes(make_image("PNG", color=label))
    return folder


def test_where_torch_is_missing_each_command_that_needs_it_says_which_environment_has_it(tmp_path: Path) -> None:
    data = str(make_data(tmp_path / "my data"))
    lines = [
        ["run", data, "--name", "x"],
        ["train", data, "--out", "x"],
        ["evaluate", "x", data],
        ["export", "x", data],
        ["report", "x", data],
        ["probe", "--run", "x", data],
        ["publish", "x", "--name", "x"],
        ["retrain", "x", data, data],
        ["reference", "cifar10", data],
    ]
    for line, (code, out, err) in zip(lines, without({"torch", "torchvision"}, *lines), strict=True):
        assert (code, out) == (1, "")
        assert err.startswith(f"error: hubel {line[0]} needs torch")
        assert err.endswith(f" run 'make setup' once, then: .venv/bin/hubel {shlex.join(line)}\n")


def test_data_are_inspected_without_torch(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    ((_, out, _),) = without(set(HEAVY) - {"scipy", "tqdm", "jinja2"}, ["inspect", str(data), "--json"])
    assert json.loads(out)["images"] == 2


def test_a_missing_folder_is_refused_before_what_looks_at_images_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "training.inspection", None)  # to import it is an error
    assert main(["inspect", "no photos"]) == 1
    assert capsys.readouterr().err.startswith("error: no photos is not a folder; ")


@pytest.mark.parametrize(("wrong", "meant"), [("trian", "train"), ("promote", "models promote"), ("server", "serve")])
def test_a_command_that_is_none_is_told_with_the_one_like_it(wrong: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([wrong, "photos"]) == 2
    assert f"no command {wrong!r}; is it 'hubel {meant}'?" in capsys.readouterr().err


def test_without_a_command_the_overview_is_shown_and_the_code_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: hubel COMMAND")


def test_the_installed_command_is_of_this_project_whatever_the_working_folder_holds(tmp_path: Path) -> None:
    for name in ("models", "service", "training", "hubel"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('another project')")
    script = Path(sysconfig.get_path("scripts")) / "hubel"
    result = subprocess.run([script, "models", "list", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "cifar10" in {row["model"].partition(":")[0] for row in json.loads(result.stdout)}


def test_a_reader_that_has_seen_enough_is_no_fault() -> None:
    result = subprocess.run(
        f"{sys.executable} -m hubel models list | true", shell=True, cwd=program.CHECKOUT, capture_output=True, text=True
    )
    assert result.stderr == ""
