"""The OpenAPI 3.1 document of the API: openapi.yaml, completed from schemas.py, errors.py and the limits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from models.package.prediction import Classification, Explanation, Ranking
from models.package.similar import Similar
from service.api.schemas import Failure
from service.errors import HubelError
from service.http.problems import Problem
from service.inference.results import Features, default_k
from service.monitoring.feedback_json import Deletion, FeedbackResult

Json = dict[str, Any]
WRITTEN: Json = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text())
ANSWERED = (Classification, Ranking, Features, Explanation, Similar, Failure, Problem, FeedbackResult, Deletion)
KEYED = ("401", "429")  # statuses of requests that need a key


def document(classes: int, max_images: int, keys_needed: bool = False) -> Json:
    """The document for a model of that many classes."""
    limits: Json = {"$classes": classes, "$default_k": default_k(classes), "$max_images": max_images}
    made: Json = _fill(WRITTEN, limits | _codes())
    del made["x-parts"]
    _, schemas = msgspec.json.schema_components(ANSWERED, ref_template="#/components/schemas/{name}")
    made["components"]["schemas"] |= schemas
    return made if keys_needed else _without_keys(made)


def _fill(part: Any, values: Json) -> Any:
    """A copy of a part of the document, with the values in their places."""
    if isinstance(part, dict):
        return {name: _fill(entry, values) for name, entry in part.items()}
    if isinstance(part, list):
        return [_fill(entry, values) for entry in part]
    return values[part] if isinstance(part, str) and part.startswith("$") else part


def _codes() -> dict[str, str]:
    """The codes that can come with each status."""
    codes: dict[str, list[str]] = {}
    for kind in _kinds(HubelError):
        codes.setdefault(f"${kind.status}", []).append(kind.code)
    return {status: "code: " + ", ".join(of_status) for status, of_status in codes.items()}


def _kinds(base: type[HubelError]) -> Iterator[type[HubelError]]:
    """The concrete errors below ``base``."""
    for child in base.__subclasses__():
        yield from _kinds(child) if child.__subclasses__() else [child]


def _without_keys(made: Json) -> Json:
    del made["security"], made["components"]["securitySchemes"]
    for operation in (operation for path in made["paths"].values() for operation in path.values()):
        operation.pop("security", None)
        for status in KEYED:
            operation["responses"].pop(status, None)
    return made
