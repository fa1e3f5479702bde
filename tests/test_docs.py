"""The documents say what the code does: settings, metrics, routes, errors, fields, keys, commands and links."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.metrics import MetricWrapperBase

import models.__main__
import service.__main__
import training.__main__
from models.input import InputSpec
from models.manifest import Evaluation, Manifest
from service import errors, metrics
from service.app import Hubel
from service.errors import HubelError
from service.feedback_api import FeedbackApi
from service.settings import Settings
from training.architectures.catalogue import ARCHITECTURES
from training.recipe import Recipe

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md")])  # not what tools leave in hidden folders
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def read(name: str) -> str:
    return (ROOT / name).read_text()


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
    hubel = cast(Any, Hubel).inner
    unstarted = hubel.__new__(hubel)
    unstarted.feedback = FeedbackApi.__new__(FeedbackApi)
    routes = unstarted.routes()
    table = {name for name in rows("docs/api.md") if "/" in name}
    assert table == {f"{method} {path}" for path, (method, _) in routes.items()}


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


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_make_verbs_in_documents_exist(page: Path) -> None:
    verbs = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    for line in re.findall(r"(?:^|`)make ((?:[a-z-]+ ?)+)", page.read_text(), re.M):
        assert set(line.split()) <= verbs, f"{page.name}: make {line}"


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_commands_in_documents_exist(page: Path) -> None:
    programs = {"training": training.__main__, "models": models.__main__, "service": service.__main__}
    parsers = {name: program.make_parser() for name, program in programs.items()}
    for program, command in re.findall(r"python -m (training|models|service) ([a-z-]+)", page.read_text()):
        with pytest.raises(SystemExit, match="0"):
            parsers[program].parse_args([command, "--help"])


def test_the_changelog_begins_with_the_version_of_the_project() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    found = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.M)
    assert found is not None
    assert found[1] == version
