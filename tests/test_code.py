"""What the program's own code must not do: run what a file or a caller says. The rules are checked on its syntax tree."""

import ast

import pytest

from tests.sources import FOLDERS, ROOT, imported, sources

EVERY_SOURCE = [path for folder in FOLDERS for path in sources(folder)]
CODE_IN_DATA = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "pickle"}  # what these read can run code
HARMLESS = {"pickle.UnpicklingError"}  # the name of an error
RUN_TEXT = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path"}
REQUIRED = {  # argument that a call must have, as a constant
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
FORBIDDEN = {
    "shutil.unpack_archive",
    "torch.hub.load",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "yaml.full_load",
    "yaml.load",
    "yaml.unsafe_load",
}


def faults(source: str) -> list[str]:
    """What a source does that it must not, each as its line and what is wrong with it."""
    found = [f"import of {name}" for name in imported(source) if name.partition(".")[0] in CODE_IN_DATA and name not in HARMLESS]
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
        if name in RUN_TEXT | FORBIDDEN or name.endswith((".extractall", ".load_pickle")):
            found.append(f"line {call.lineno}: {name}")
        if name in REQUIRED and given.get(REQUIRED[name][0]) is not REQUIRED[name][1]:
            found.append(f"line {call.lineno}: {name} without {REQUIRED[name][0]}={REQUIRED[name][1]}")
        if given.get("shell", False) is not False:
            found.append(f"line {call.lineno}: {name} with a shell")
        if given.get("allow_pickle", False) is not False:
            found.append(f"line {call.lineno}: {name} with pickles")
        if name.endswith(".extract") and given.get("filter") != "data":
            found.append(f"line {call.lineno}: {name} without the data filter")
    return found


def test_no_file_runs_what_data_says() -> None:
    assert {path.relative_to(ROOT): found for path in EVERY_SOURCE if (found := faults(path.read_text()))} == {}


def test_the_calls_that_the_rules_are_about_are_there() -> None:
    calls = [node for path in EVERY_SOURCE for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert {"torch.load", "np.load"} <= {ast.unparse(call.func) for call in calls}


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, array, allow_pickle=True)",
        "import pickle",
        "from pickle import loads",
        "def f():\n    import marshal",
        "import shelve",
        "eval(text)",
        "exec(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=shell)",
        "os.system(text)",
        "archive.extractall(path)",
        "archive.extract(member, path)",
        "archive.extract(member, path, filter='fully_trusted')",
    ],
)
def test_the_rules_find_what_they_are_for(line: str) -> None:
    assert len(faults(line)) >= 1


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "from pickle import UnpicklingError",
        "model.eval()",
        "re.compile(text)",
        "subprocess.run(['git', 'status'], check=True)",
        "archive.extract(member, path, filter='data')",
    ],
)
def test_the_rules_let_the_rest_pass(line: str) -> None:
    assert faults(line) == []
