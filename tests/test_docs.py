"""The documents say what the code does: settings, metrics, routes, errors, fields, keys, commands and links."""

import ast
import io
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.metrics import MetricWrapperBase

import models.__main__
import service.__main__
import training.__main__
from models.image.spec import InputSpec
from models.package.manifest import Evaluation, Manifest
from models.terminal import program
from service import bento, errors
from service.api.endpoints import Endpoints
from service.api.feedback import FeedbackApi
from service.api.similar import SimilarApi
from service.errors import HubelError
from service.http.page import ROUTE as THE_PAGE
from service.settings import Settings
from service.telemetry import metrics
from tests.factories import encode, make_picture
from tests.sources import ORDER
from training.networks.catalogue import ARCHITECTURES
from training.recipe import Recipe

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md")])  # not what tools leave in hidden folders
SOURCES = ("hubel", "models", "service", "training")
PUBLISHED = ROOT / "models/store"
PARSERS = {
    "models": models.__main__.make_parser(),
    "service": service.__main__.make_parser(),
    "training": training.__main__.make_parser(),
}
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def read(name: str) -> str:
    return (ROOT / name).read_text()


def fenced(text: str) -> list[str]:
    """Its blocks of lines for a shell."""
    return re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.M | re.S)


def code_in(text: str) -> list[str]:
    """Lines of its blocks, and what stands in backquotes; continued lines are one."""
    lines = [line for block in fenced(text) for line in block.replace("\\\n", " ").splitlines()]
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [*lines, *(" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", rest))]


def commands_in(text: str) -> list[str]:
    """Every command line of hubel: by its name or path, run by torchrun, or in a container."""
    found = re.findall(
        r"(?:^|[ /]|-m )hubel (?=[a-z])(?!hubel |import )(.+)|docker compose run --rm (?:-T )?(?:hubel|train|train-gpu) (.+)",
        "\n".join(line for line in code_in(text) if "compose up" not in line and "compose build" not in line),
        re.M,
    )
    return [named or run for named, run in found]


def make_words(line: str) -> list[str]:
    """What follows make, where a line begins with it; settings may stand before."""
    try:
        given = list(dropwhile(lambda word: "=" in word, shlex.split(line.partition(", ")[0], comments=True)))
    except ValueError:  # no line for a shell
        return []
    return list(takewhile(lambda word: re.match(r"[A-Za-z]", word), given[1:])) if given[:1] == ["make"] else []


def refused(line: str) -> str | None:
    """Why a command line of hubel cannot be parsed; what follows a | or > and comments are no part of it."""
    given = shlex.split(line, comments=True)
    words = list(takewhile(lambda word: not re.match(r"\d?[|>;&]", word), given))
    folder = program.folder_of(words[0])
    if not folder:
        return "there is no such command"
    words = words[1:] if folder == "models" else words
    names = program.STORE if folder == "models" else {**program.SERVICE, **program.TRAINING}
    if len(words) < 2 and (not words or words[0] in names):
        return None  # named, not given
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            PARSERS[folder].parse_args(words)
    except SystemExit as err:
        return said.getvalue() if err.code else None
    return None


def hints_in(source: str) -> Iterator[str]:
    """The command lines that a module writes; what is not known before it runs is "1"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("program.command", "command"):
            given = [word for word in node.args if not isinstance(word, ast.Starred)]
            words = [word.value if isinstance(word, ast.Constant) else "1" for word in given]
            if words and words[0] != "1":
                yield shlex.join(map(str, words))


def rows(name: str) -> dict[str, list[str]]:
    """First cell, without backquotes -> further cells, of every table row of a document."""
    lines = (line for line in read(name).splitlines() if line.startswith("| `"))
    cells = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
    return {first.strip("`"): rest for first, *rest in cells}


def names_in(name: str) -> set[str]:
    """Everything that stands in backquotes in the first cells of a document's tables."""
    lines = (line for line in read(name).splitlines() if line.startswith("| `"))
    return {word for line in lines for word in re.findall(r"`([^`]+)`", line.split("|")[1])}


def shown(default: object) -> str:
    """A default as the table writes it."""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if default != "" else "none"


def test_every_setting_stands_in_the_table_with_its_default() -> None:
    table = rows("docs/settings.md")
    settings = Settings()
    assert set(table) == {"HUBEL_" + field.upper() for field in Settings.__struct_fields__}
    for field in set(Settings.__struct_fields__) - {"store"}:  # the store's default is a path of the checkout
        assert table["HUBEL_" + field.upper()][0] == shown(getattr(settings, field)), field


def test_cells_of_the_settings_have_at_most_twenty_words() -> None:
    lines = [line for line in read("docs/settings.md").splitlines() if line.startswith("|")]
    cells = [cell for line in lines for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    assert len(cells) > 100
    assert [cell for cell in cells if len(cell.split()) > 20] == []


def test_every_metric_stands_in_the_table_with_its_type_and_labels() -> None:
    table = {name: cells for name, cells in rows("docs/metrics.md").items() if name.startswith("hubel_")}
    found: dict[str, list[str]] = {}
    for metric in (value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)):
        (family,) = metric.describe()
        labels = cast(Any, metric)._labelnames
        found[family.name + ("_total" if family.type == "counter" else "")] = [family.type, ", ".join(f"`{x}`" for x in labels)]
    assert {name: cells[:2] for name, cells in table.items()} == found


def leaves(base: type[HubelError]) -> Iterator[type[HubelError]]:
    for kind in base.__subclasses__():
        if kind.__subclasses__():
            yield from leaves(kind)
        else:
            yield kind


def test_every_error_stands_in_the_table_with_its_status() -> None:
    table = {name: cells[0] for name, cells in rows("docs/api.md").items() if "/" not in name}
    assert table == {kind.code: str(kind.status) for kind in leaves(errors.HubelError)}


def test_every_route_stands_in_the_table() -> None:
    unstarted = Endpoints.__new__(Endpoints)
    unstarted.feedback, unstarted.similar = FeedbackApi.__new__(FeedbackApi), SimilarApi.__new__(SimilarApi)
    routes = unstarted.routes()
    table = {name for name in rows("docs/api.md") if "/" in name}
    others = {f"GET {bento.SCHEMA}", f"GET {THE_PAGE}"}
    assert table == {f"{method} {path}" for path, (method, _) in routes.items()} | others


def test_every_manifest_field_is_described() -> None:
    described = names_in("docs/model-package.md")
    assert set(Manifest.__struct_fields__) | set(Evaluation.__struct_fields__) <= described
    assert set(InputSpec.__struct_fields__) <= set(re.findall(r"`(\w+)`", read("docs/model-package.md")))


def test_every_recipe_key_stands_in_the_table_with_its_default() -> None:
    table = rows("docs/training.md")
    assert set(table) == set(Recipe.__struct_fields__)
    recipe = Recipe("resnet18", InputSpec(32, 32, 32), 1)
    for key in Recipe.__struct_fields__[3:]:
        default = getattr(recipe, key)
        written = str(default).lower() if isinstance(default, bool) else str(default)
        assert table[key][0].strip("`") == written, key


def test_every_architecture_is_named_or_one_that_differs_in_a_number() -> None:
    names = set(re.findall(r"`([^`\n]+)`", read("docs/training.md")))
    families = {re.sub(r"\d+", "#", name) for name in names}
    assert [name for name in ARCHITECTURES if re.sub(r"\d+", "#", name) not in families] == []


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target


@pytest.mark.parametrize("page", ["docs/settings.md", "docs/metrics.md", "docs/api.md", "docs/training.md"])
def test_no_table_says_a_thing_twice(page: str) -> None:
    firsts = re.findall(r"^\| (`[^|]+) \|", read(page), re.M)
    assert sorted(set(firsts)) == sorted(firsts)


def test_every_command_of_a_document_can_be_parsed() -> None:
    """Those with arguments, and the names of all others."""
    found = [(page, line) for page in PAGES for line in commands_in(page.read_text())]
    assert len(found) > 50
    for page, line in found:
        if fault := refused(line):
            pytest.fail(f"{page.relative_to(ROOT)}: {line}: {fault}")


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_a_page_whose_lines_begin_with_hubel_says_how_it_comes_onto_the_path(page: Path) -> None:
    lines = [line for block in fenced(page.read_text()) for line in block.splitlines()]
    if any(re.match(r"([A-Z_]+=\S+ )*hubel ", line) for line in lines):
        assert ". .venv/bin/activate" in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_make_lines_of_a_document_name_verbs_and_variables_that_exist(page: Path) -> None:
    verbs = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    variables = set(re.findall(r"\$\((?:call \w+,|value )?([A-Z_]+)[,)]", read("Makefile"))) | {"HUBEL_MODEL"}
    for words in filter(None, map(make_words, code_in(page.read_text()))):
        assert {word for word in words if "=" not in word} <= verbs, words
        assert {word.partition("=")[0] for word in words if "=" in word} <= variables, words


def test_every_hint_of_the_programs_can_be_parsed() -> None:
    found = [(path, line) for folder in SOURCES for path in (ROOT / folder).rglob("*.py") for line in hints_in(path.read_text())]
    assert len(found) > 15
    for path, line in found:
        if fault := refused(line):
            pytest.fail(f"{path.relative_to(ROOT)}: {line}: {fault}")


OLD = r"python3? -m (training|models|service)\b(?!\.)"  # what ends in a traceback outside of an environment


def test_no_document_hint_or_help_names_a_program_in_another_way() -> None:
    sources = [path for folder in SOURCES for ending in ("py", "j2") for path in (ROOT / folder).rglob(f"*.{ending}")]
    for path in [*PAGES, *sources, ROOT / "Makefile", ROOT / "Dockerfile", ROOT / "docker-compose.yml"]:
        if not path.is_relative_to(PUBLISHED):  # a published version never changes
            assert not re.search(OLD, path.read_text()), path


def test_the_changelog_begins_with_the_version_of_the_project() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    found = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.M)
    assert found is not None
    assert found[1] == version


def test_the_files_of_a_request_are_those_that_one_runs_through(tiny_store: Path, tmp_path: Path) -> None:
    picture = tmp_path / "cat.jpg"
    picture.write_bytes(encode(make_picture(), "JPEG"))
    command = [sys.executable, "-W", "ignore", "-m", "tests.trace", tiny_store, picture]
    traced = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert traced.returncode == 0, traced.stderr
    listed = read("docs/architecture.md").partition("<!-- traced -->\n```\n")[2].partition("```")[0]
    assert traced.stdout.split() == listed.split()


def test_the_folders_of_the_architecture_are_those_that_there_are() -> None:
    text = read("docs/architecture.md")
    for folder, order in ORDER.items():
        part = text.partition(f"| `{folder}/` | |")[2].partition("\n\n")[0]
        cells = [row.split("|")[1] for row in part.splitlines() if "`" in row]
        listed = [re.sub(r"/$|\.py$", "", name) for cell in cells for name in re.findall(r"`([\w./]+)`", cell)]
        assert listed == [room for room in order.split() if room != "__main__"]
