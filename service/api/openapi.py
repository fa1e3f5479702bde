"""The OpenAPI 3.1 document of the API, made from schemas.py, errors.py and the limits. Served at /openapi.json."""

from collections.abc import Mapping
from typing import Any

import msgspec

from models.image.formats import FORMATS
from service.api.schemas import (
    BOOLEANS,
    ENCODINGS,
    Classification,
    Deletion,
    Failure,
    Features,
    Feedback,
    FeedbackResult,
    Problem,
    Ranking,
    default_k,
)
from service.errors import HubelError
from service.http.auth import OPEN
from service.monitoring.feedback import MAX_FEEDBACKS

Json = dict[str, Any]
REF = "#/components/schemas/{name}"
ANY = ("404", "405", "408", "431", "503")  # statuses that do not depend on what is asked
BINARY: Json = {"schema": {"type": "string", "format": "binary"}}
TEXT: Json = {"200": {"description": "Prometheus text format", "content": {"text/plain": {"schema": {"type": "string"}}}}}
OBJECT: Json = {"200": {"description": "as documented", "content": {"application/json": {"schema": {"type": "object"}}}}}

DEADLINE: Json = {
    "name": "X-Deadline-Ms",
    "in": "header",
    "description": "milliseconds after which the answer is worth nothing; the service's own limit holds where that is shorter",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}


def document(classes: int, max_images: int, keys_needed: bool = False) -> Json:
    """The document for a model of that many classes."""
    made = _open_document(classes, max_images)
    return _with_keys(made) if keys_needed else made


def _open_document(classes: int, max_images: int) -> Json:
    shown = (Classification, Ranking, Features, Failure, Problem, Feedback, FeedbackResult, Deletion)
    _, schemas = msgspec.json.schema_components(shown, ref_template=REF)
    schemas["Feedback"]["properties"]["index"] = {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**31, "default": 0}
    del schemas["Feedback"]["properties"]["request_id"]  # one way is enough
    schemas["Feedback"]["required"] = ["id"]
    schemas["Feedback"]["oneOf"] = [{"required": ["label"]}, {"required": ["wrong"]}]
    k: Json = {"type": "integer", "minimum": 1, "maximum": classes, "default": default_k(classes)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hubel", "version": "1", "description": "Classify, rank and describe images."},
        "paths": {
            "/v1/classify": _post("classify", "The likeliest class of each image", Classification, {}, max_images),
            "/v1/top-k": _post("topK", "The k likeliest classes of each image", Ranking, {"k": k}, max_images),
            "/v1/features": _post(
                "features",
                "The feature vector of each image",
                Features,
                {"normalize": _choice(BOOLEANS), "encoding": _choice(ENCODINGS)},
                max_images,
            ),
            "/v1/feedback": _feedback(),
            "/v1/feedback/{id}": _deletion(),
            "/v1/models": _get("models", "The model in service", OBJECT),
            "/v1/info": _get("info", "Limits, formats, and what computes", OBJECT),
            "/livez": _get("livez", "The process lives", OBJECT),
            "/readyz": _get("readyz", "The model is loaded, checked and warm", OBJECT),
            "/metrics": _get("metrics", "Metrics for Prometheus", TEXT),
            "/openapi.json": _get("openapi", "This document", OBJECT),
        },
        "components": {"schemas": schemas},
    }


def _with_keys(document: Json) -> Json:
    """The same where callers need a key: everywhere but at the probes."""
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in OPEN:
                operation["security"] = []
            else:
                operation["responses"] |= _problems("401", "429")
    return document


def _choice(values: Mapping[str, object]) -> Json:
    return {"type": "string", "enum": list(values), "default": next(iter(values))}


def _get(operation: str, summary: str, responses: Json) -> Json:
    return {"get": {"operationId": operation, "summary": summary, "responses": responses | _problems(*ANY, "422", "500")}}


def _post(operation: str, summary: str, result: type, parameters: Mapping[str, Json], max_images: int) -> Json:
    results = {"type": "array", "items": {"anyOf": [_ref(result), _ref(Failure)]}, "minItems": 1, "maxItems": max_images}
    answer = {
        "type": "object",
        "required": ["id", "model", "version", "results"],
        "properties": {"id": {"type": "string"}, "model": {"type": "string"}, "version": {"type": "integer"}, "results": results},
    }
    ok = {
        "200": {
            "description": "one result for each image, in the order sent",
            "content": {"application/json": {"schema": answer}},
        }
    }
    return {
        "post": {
            "operationId": operation,
            "summary": summary,
            "parameters": [*({"name": name, "in": "query", "schema": schema} for name, schema in parameters.items()), DEADLINE],
            "requestBody": {"required": True, "content": _bodies(max_images)},
            "responses": ok | _problems("400", *ANY, "413", "415", "422", "500", "504"),
        }
    }


def _feedback() -> Json:
    several = {"type": "array", "items": _ref(Feedback), "minItems": 1, "maxItems": MAX_FEEDBACKS}
    results = {"type": "array", "items": {"anyOf": [_ref(FeedbackResult), _ref(Failure)]}, "minItems": 1}
    answer = {"type": "object", "required": ["results"], "properties": {"results": results}}
    return {
        "post": {
            "operationId": "feedback",
            "summary": "Say whether answers were right, or what would have been",
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"oneOf": [_ref(Feedback), several]}}},
            },
            "responses": {
                "200": {
                    "description": "one result for each feedback, in the order sent",
                    "content": {"application/json": {"schema": answer}},
                }
            }
            | _problems("400", *ANY, "413", "415", "422", "500"),
        }
    }


def _deletion() -> Json:
    name = {"type": "string", "pattern": "^[A-Za-z0-9._-]+$", "minLength": 1, "maxLength": 64}
    return {
        "delete": {
            "operationId": "deleteFeedback",
            "summary": "Delete what is kept of an answer: its images, labels and feedback",
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": name}],
            "responses": {
                "200": {"description": "deleted", "content": {"application/json": {"schema": _ref(Deletion)}}},
            }
            | _problems(*ANY, "422", "500"),
        }
    }


def _bodies(max_images: int) -> Json:
    images: Json = {"type": "array", "minItems": 1, "maxItems": max_images}
    files = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,  # files of other names are taken too, other form fields are not
        "properties": {"images": images | {"items": BINARY["schema"]}},
    }
    text = {"type": "string", "format": "byte", "contentEncoding": "base64", "description": "a data URL in base64 is taken too"}
    encoded = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,
        "properties": {"images": images | {"items": text}},
    }
    raw = dict.fromkeys([*(f"image/{kind}" for kind in FORMATS), "application/octet-stream", "binary/octet-stream"], BINARY)
    return raw | {"multipart/form-data": {"schema": files}, "application/json": {"schema": encoded}}


def _problems(*statuses: str) -> Json:
    """Problem details for each status, naming the codes that can come with it."""
    codes: dict[str, list[str]] = {}
    for kind in _kinds(HubelError):
        codes.setdefault(str(kind.status), []).append(kind.code)
    content = {"application/problem+json": {"schema": _ref(Problem)}}
    problems: Json = {s: {"description": "code: " + ", ".join(codes[s]), "content": content} for s in statuses}
    for status in {"429", "503"} & problems.keys():
        problems[status]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return problems


def _kinds(base: type[HubelError]) -> list[type[HubelError]]:
    """The concrete errors below ``base``."""
    below = base.__subclasses__()
    return [kind for child in below for kind in _kinds(child)] if below else [base]


def _ref(kind: type) -> Json:
    return {"$ref": REF.format(name=kind.__name__)}
