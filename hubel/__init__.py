"""Hubel from Python: ``Client`` asks a running service, ``load`` computes a package in this process.

Both are imported when they are asked for, so that ``import hubel`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubel.client import Client, Refusal
    from hubel.errors import ServiceError
    from hubel.model import Model, load

__all__ = ["Client", "Model", "Refusal", "ServiceError", "load"]
PLACES = {"Client": "client", "Refusal": "client", "ServiceError": "errors", "Model": "model", "load": "model"}


def __getattr__(name: str) -> object:
    if name not in PLACES:
        raise AttributeError(f"module 'hubel' has no attribute {name!r}")
    return getattr(import_module(f"hubel.{PLACES[name]}"), name)
