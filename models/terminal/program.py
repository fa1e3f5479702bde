"""The command ``hubel``: its subcommands in a line each, and how a hint names one so that it runs as printed.

It needs no library, so that a program can say which one is missing.
"""

import os
import shlex
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

NAME = "hubel"
CHECKOUT = Path(__file__).resolve().parents[2]
INTERRUPTED = 130  # exit code after Ctrl-C

SERVICE = {
    "serve": "serve one model over HTTP until SIGTERM or Ctrl-C",
    "classify": "name what is on every image of folders, archives and addresses, into a table",
    "status": "who is alive in a running service, and what is loaded; 0 where all is well",
    "new-key": "make an API key",
    "forget": "delete what is kept of an answer: images, labels and feedback, of whichever key",
    "index": "make the index of a folder of images, in which a service finds similar ones",
    "near-copies": "list the images of an index that are nearly the same",
}
TRAINING = {
    "run": "train, evaluate, export, report and publish; goes on where it was stopped",
    "inspect": "look at data before training: counts, copies, leaks, damaged and odd images",
    "train": "train a network on a folder of class folders",
    "evaluate": "measure a checkpoint on images it was not trained on",
    "export": "write the network as ONNX, in fp32 and int8, and measure both",
    "report": "write a page on how good the network is, where it fails and what it sees",
    "probe": "see how well a linear layer tells new classes apart by given features",
    "publish": "put an evaluated and exported run into the store as a package",
    "feedback": "make a folder to review and to train on of the images that a service kept",
    "retrain": "train the live version further with feedback, and publish the next one",
    "reference": "publish a package again with what its images are like, to notice drift",
}
STORE = {
    "list": "every package in the store",
    "show": "one package: figures, gate, history",
    "diff": "what two packages differ in",
    "verify": "check the files of a package against its manifest",
    "promote": "make a version live, or a candidate first, once the gate passes it",
    "rollback": "make the version before live again",
    "end": "end the candidate; the version stays published",
    "retire": "take a version out of use",
    "rename": "call a class by another name, in a new version",
    "gc": "remove retired and old versions, and what killed processes left",
    "pull": "copy a package into the store",
    "push": "copy a package out of the store",
    "sign": "sign a package, so that others can tell who published it",
    "pack": "write a package as one file",
    "unpack": "put the package in such a file into the store, once it verifies",
}
ENVIRONMENTS = {"service": ".venv-serve", "training": ".venv", "models": ".venv-serve"}  # that 'make setup' makes
EXTRAS = {"service": "serve-cpu or serve-gpu", "training": "train", "models": "serve-cpu or serve-gpu"}
IMAGES = {"service": "hubel", "training": "train", "models": "hubel"}  # of Compose
LIBRARY = {"service": "bentoml", "training": "torch", "models": "msgspec"}  # whose presence tells such an environment


def folder_of(command: str) -> str:
    """The folder with the program of a subcommand; "" for what is none."""
    folders = {**dict.fromkeys(SERVICE, "service"), **dict.fromkeys(TRAINING, "training"), "models": "models"}
    return folders.get(command, "")


def command(*words: object) -> str:
    """A command line of ``hubel`` that runs in the shell and the folder from which this process was started: where it
    is on the PATH by its name, else by its path, and in another environment where this one lacks what it needs."""
    folder = folder_of(str(words[0]))
    here = Path(sysconfig.get_path("scripts")) / NAME
    there = CHECKOUT / ENVIRONMENTS[folder] / "bin" / NAME
    if find_spec(LIBRARY[folder]) is None and (CHECKOUT / "Makefile").is_file():
        program = [_shown(there)]
    else:
        program = [_shown(here)] if here.is_file() else [sys.executable, "-m", NAME]
    return shlex.join([*program, *map(str, words)])


def _shown(script: Path) -> str:
    """The script as a shell finds it."""
    found = shutil.which(NAME)
    by_uv = "UV_RUN_RECURSION_DEPTH" in os.environ  # the shell does not have the PATH that uv run gives
    if found and not by_uv and os.path.realpath(found) == os.path.realpath(script):
        return NAME
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)


def store(root: Path) -> list[str]:
    """The option that names a store, where it is not the one of the checkout."""
    return [] if root.resolve() == CHECKOUT / "models" / "store" else ["--store", str(root)]


def module(name: str) -> list[str]:
    """How a module of ours is run in a process of its own: that of this checkout, whatever the working folder holds."""
    return [sys.executable, *([] if Path.cwd() == CHECKOUT else ["-P"]), "-m", name]


def make(*words: object) -> str:
    """A command line of make that runs in the folder from which this process was started."""
    elsewhere = [] if Path.cwd() == CHECKOUT else ["-C", str(CHECKOUT)]
    return shlex.join(["make", *elsewhere, *map(str, words)])


def extra(name: str) -> str:
    """How an extra is installed."""
    if (CHECKOUT / "Makefile").is_file():
        return f"'{make('setup', f'EXTRAS={name}')}' installs it"
    return f"it comes with the extra {name}"


def missing(folder: str, error: ImportError) -> str:
    """What a program says instead of a traceback where this environment lacks a library that it needs."""
    words = _words(folder)
    if error.name == folder:
        again = shlex.join(["docker", "compose", "run", "--rm", IMAGES[folder], *words])
        return f"error: {shlex.join([NAME, *words[:1]])} is not in this image: {again}"
    what = f"error: {shlex.join([NAME, *words[:1]])} needs {error.name or error}, which {sys.prefix} lacks"
    if not (CHECKOUT / "Makefile").is_file():
        return f"{what}: it comes with the extra {EXTRAS[folder]}"
    return f"{what}: run '{make('setup')}' once, then: {elsewhere(folder)}"


def elsewhere(folder: str) -> str:
    """The command line of this process in the environment that is made for the program of a folder."""
    return shlex.join([_shown(CHECKOUT / ENVIRONMENTS[folder] / "bin" / NAME), *_words(folder)])


def _words(folder: str) -> list[str]:
    given = sys.argv[1:]
    if folder == "models" and given[:1] != ["models"]:  # as a module
        return ["models", *given]
    return given or (["serve"] if folder == "service" else [])  # as a module


def leave(code: int) -> NoReturn:
    if code == INTERRUPTED:  # at once: torch's threads, stopped in the middle of their work, can abort an orderly exit
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
