"""Makefile: what is given reaches the programs as it was typed, and every option that a refusal names can be given."""

import os
import re
import subprocess
from argparse import ArgumentParser, Namespace
from typing import Any

import pytest

import models.__main__
import training.__main__
from tests.server import ROOT

MADE = (".venv/.synced", ".venv-serve/.synced-serve-cpu", "data-exists")
AWKWARD = (
    "my photos",
    'it\'s "so" $HOME $(x) & (a) [b] {c} ; d | e > f < g * ? ~ ! # `h` \\ фото 🐜',
    "-photos",
    "--name=x",
)
PROMOTE = {
    "HELD_OUT": "some images",
    "CLASSES_CHANGE": "it's $5 & more",
    "MARGIN": "0.02",
    "STRICT": "1",
    "CALIBRATION": "0.03",
    "RECALL": "0.2",
    "SPEED": "2",
    "MEMORY": "3",
    "SECONDS": "60",
    "KEY": "a key.pem",
    "FORCE": "1",
    "REASON": "because $x",
    "CANARY": "10",
    "REQUESTS": "500",
    "DISAGREEMENT": "0.3",
}


def make(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", "-s", *arguments], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


def words(verb: str, given: dict[str, str], **environment: str) -> list[str]:
    """The words of the last command that ``make`` would run, as the shell reads them."""
    variables = [f"{name}={value}" for name, value in given.items()]
    line = make("-n", *(word for done in MADE for word in ("-o", done)), verb, *variables, **environment)
    assert line.returncode == 0, line.stderr
    command = re.split(r"(?<!\\)\n", line.stdout.strip())[-1]
    done = subprocess.run(["sh", "-c", f"printf '%s\\0' {command}"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def parsed(parser: ArgumentParser, command: str, typed: list[str]) -> Namespace:
    return parser.parse_args(typed[typed.index(command) :])


def trained(verb: str, command: str, **environment: str) -> Any:
    given = {name: environment.pop(name) for name in list(environment) if not name.startswith("ENV_")}
    there = {name.removeprefix("ENV_"): value for name, value in environment.items()}
    return parsed(training.__main__.make_parser(), command, words(verb, given, **there))


@pytest.mark.parametrize("text", AWKWARD)
def test_data_may_be_called_anything(text: str) -> None:
    assert trained("inspect", "inspect", DATA=text).data == text
    found = trained("train", "run", DATA=text, NAME=text, RUN=text, STORE=text)
    assert [found.data, found.name, str(found.out), str(found.store)] == [text] * 4
    found = trained("retrain", "retrain", DATA=text, NAME=text, FEEDBACK=text)
    assert [found.data, found.name, str(found.feedback)] == [text] * 3
    found = trained("evaluate", "evaluate", DATA=text, RUN=text)
    assert [found.data, str(found.run_folder)] == [text] * 2


def test_a_name_is_made_of_the_data_and_a_chosen_one_says_that_it_was() -> None:
    assert trained("train", "run", DATA="a/train").name is None
    assert trained("train", "run", DATA="a/train", NAME="pets").name == "pets"
    assert str(trained("evaluate", "evaluate", DATA="My Photos").run_folder) == "runs/my-photos"
    published = trained("publish", "publish", DATA="/a/train")
    assert (published.name, str(published.run_folder)) == ("a-train", "runs/a-train")


def test_train_and_publish_put_the_same_into_a_package() -> None:
    assert trained("train", "run", DATA="photos").with_weights
    assert trained("publish", "publish", DATA="photos").with_weights


def test_what_has_no_variable_is_given_as_args() -> None:
    found = trained("train", "run", DATA="photos", ARGS="--epochs 5 --weights none --start-from 'my run' --fp16")
    assert (found.epochs, found.weights, found.start_from, found.fp16, found.data) == (5, "none", "my run", True, "photos")


def test_a_name_or_a_force_of_the_environment_does_nothing() -> None:
    assert trained("train", "run", DATA="photos", ENV_NAME="DESKTOP-1").name is None
    typed = words("promote", {"MODEL": "pets:2"}, FORCE="1", MARGIN="1", REASON="none")
    found = parsed(models.__main__.make_parser(), "promote", typed)
    assert (found.force, found.margin, found.reason) == (False, 0.01, "promoted by hand")


def test_promote_passes_what_it_is_given() -> None:
    found = parsed(models.__main__.make_parser(), "promote", words("promote", {"MODEL": "pets:2", **PROMOTE}))
    gate = (found.margin, found.strict, found.calibration, found.recall, found.speed, found.memory, found.seconds, found.force)
    assert gate == (0.02, True, 0.03, 0.2, 2, 3, 60, True)
    assert (found.model, found.classes_change, found.reason) == ("pets:2", "it's $5 & more", "because $x")
    assert (str(found.data), str(found.key)) == ("some images", "a key.pem")
    assert (found.canary, found.requests, found.max_disagreement) == (10, 500, 0.3)
    assert parsed(models.__main__.make_parser(), "promote", words("promote", {"MODEL": "a:1", "SHADOW": "1"})).shadow


def test_every_option_that_a_refusal_of_promote_names_can_be_given_to_make() -> None:
    names = ("promotion", "rules", "gate", "candidate", "dry_run")
    files = [*(f"models/lifecycle/{name}.py" for name in names), "service/dry_run.py"]
    texts = "".join(re.sub(r'add_argument\("[^"]*"|""".*?"""', "", (ROOT / file).read_text(), flags=re.DOTALL) for file in files)
    named = set(re.findall(r"(?<![\w`-])--[a-z][a-z-]+", texts))
    documented = set(
        re.findall(
            r"`(--[a-z-]+)", "\n".join(re.findall(r"^\|.*\(promote\).*$", (ROOT / "docs/troubleshooting.md").read_text(), re.M))
        )
    )
    typed = words("promote", {"MODEL": "pets:2", **PROMOTE}) + words("promote", {"MODEL": "pets:2", "SHADOW": "1"})

    assert {"--force", "--classes-change"} <= named
    assert {option.partition("=")[0] for option in typed} >= (named | documented) - {"--answers"}  # between our own processes


def test_rollback_passes_its_reason() -> None:
    found = parsed(models.__main__.make_parser(), "rollback", words("rollback", {"NAME": "pets", "REASON": "it's worse"}))
    assert (found.name, found.reason) == ("pets", "it's worse")


@pytest.mark.parametrize("verb", ["inspect", "train"])
def test_a_folder_that_does_not_exist_is_refused_before_anything_is_installed(verb: str) -> None:
    done = make("-W", "uv.lock", verb, "DATA=no such 'folder'")
    assert done.returncode != 0
    assert done.stderr.startswith("error: DATA=no such 'folder' does not exist; give the folder that holds")


def test_a_gpu_is_measured_without_an_installation() -> None:
    done = make("-n", "bench", "DEVICE=cuda", "ARGS=--seconds 60")
    (line,) = done.stdout.splitlines()
    assert line.endswith(" -m benchmarks.cuda --seconds 60")
    assert "benchmarks.cuda" not in make("-n", "-o", MADE[1], "bench", DEVICE="cuda").stdout
