"""service/api/openapi.py: what is filled into openapi.yaml, and that what stands there is what the code does."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from models.image.formats import FORMATS
from service.api.endpoints import Endpoints
from service.api.feedback import FeedbackApi
from service.api.openapi import document
from service.api.schemas import Answer
from service.api.similar import DEFAULT_K, MOST_K, THUMBNAIL, SimilarApi
from service.errors import HubelError
from service.http.auth import OPEN
from service.inference.results import BOOLEANS, ENCODINGS
from service.monitoring.answer_token import CHARACTERS
from service.monitoring.feedback_json import MAX_FEEDBACKS, Feedback

PLAIN, KEYED = document(10, 32), document(10, 32, keys_needed=True)
IMAGES = ("/v1/classify", "/v1/top-k", "/v1/features", "/v1/explain", "/v1/similar")


def operations(made: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    return ((path, method, found) for path, methods in made["paths"].items() for method, found in methods.items())


def body_of(made: dict[str, Any], path: str, media_type: str) -> dict[str, Any]:
    return made["paths"][path]["post"]["requestBody"]["content"][media_type]["schema"]


def parameters_of(path: str, method: str = "post") -> dict[str, Any]:
    return {each["name"]: each["schema"] for each in PLAIN["paths"][path][method]["parameters"]}


def result_of(made: dict[str, Any], path: str) -> dict[str, Any]:
    return made["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]


def leaves(base: type[HubelError]) -> Iterator[type[HubelError]]:
    for kind in base.__subclasses__():
        yield from leaves(kind) if kind.__subclasses__() else [kind]


@pytest.mark.parametrize(("classes", "max_images", "default_k"), [(1, 1, 1), (3, 32, 3), (1000, 100, 5)])
def test_the_limits_of_a_service_stand_where_they_hold(classes: int, max_images: int, default_k: int) -> None:
    made = document(classes, max_images)
    k = made["paths"]["/v1/top-k"]["post"]["parameters"][0]["schema"]
    assert k == {"type": "integer", "minimum": 1, "maximum": classes, "default": default_k}
    for path in IMAGES:
        several = [body_of(made, path, kind)["properties"]["images"] for kind in ("multipart/form-data", "application/json")]
        for images in [*several, result_of(made, path)["properties"]["results"]]:
            assert (images["minItems"], images["maxItems"]) == (1, max_images)


@pytest.mark.parametrize("made", [PLAIN, KEYED], ids=["without keys", "with keys"])
def test_nothing_is_left_to_fill_in_and_every_reference_leads_to_a_schema(made: dict[str, Any]) -> None:
    text = msgspec.json.encode(made).decode()
    assert '"$' not in text.replace('"$ref"', "")
    assert set(made) - {"security"} == {"openapi", "info", "paths", "components"}
    assert set(re.findall('"#/components/schemas/([^"]+)"', text)) <= set(made["components"]["schemas"])


def test_a_document_is_its_callers_own() -> None:
    document(10, 32)["paths"].clear()
    assert document(10, 32) == PLAIN


def test_every_route_is_described() -> None:
    unstarted = Endpoints.__new__(Endpoints)
    unstarted.feedback, unstarted.similar = FeedbackApi.__new__(FeedbackApi), SimilarApi.__new__(SimilarApi)
    routes = {(path, method.lower()) for path, (method, _) in unstarted.routes().items()}
    assert {(path, method) for path, method, _ in operations(PLAIN)} == routes


def test_every_status_of_an_error_names_its_codes() -> None:
    for _, _, operation in operations(KEYED):
        for status, response in operation["responses"].items():
            if status != "200":
                codes = [kind.code for kind in leaves(HubelError) if kind.status == int(status)]
                assert response["description"] == "code: " + ", ".join(codes)
                assert response["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
                assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503"))


def test_keys_are_spoken_of_only_where_they_are_needed() -> None:
    for path, _, operation in operations(KEYED):
        assert ("security" in operation) == (path in OPEN)
        assert ({"401", "429"} <= set(operation["responses"])) == (path not in OPEN)
    assert not any({"401", "429"} & set(operation["responses"]) for _, _, operation in operations(PLAIN))
    assert not any("security" in part for part in [PLAIN, *(operation for _, _, operation in operations(PLAIN))])
    assert set(PLAIN["components"]) == {"schemas"}


@pytest.mark.parametrize("path", IMAGES)
def test_the_formats_of_images_are_those_that_are_decoded(path: str) -> None:
    media_types = set(PLAIN["paths"][path]["post"]["requestBody"]["content"])
    assert {name for name in media_types if name.startswith("image/")} == {f"image/{kind}" for kind in FORMATS}


@pytest.mark.parametrize("path", IMAGES)
def test_an_answer_has_the_fields_of_its_type(path: str) -> None:
    answer = result_of(PLAIN, path)
    assert answer["required"] == list(answer["properties"]) == list(Answer.__struct_fields__)


def test_the_choices_are_those_of_the_query() -> None:
    parameters = parameters_of("/v1/features")
    for name, values in (("normalize", BOOLEANS), ("encoding", ENCODINGS)):
        assert parameters[name] == {"type": "string", "enum": list(values), "default": next(iter(values))}
    assert parameters_of("/v1/explain")["encoding"] == parameters["encoding"]


def test_the_bounds_of_similar_images_are_those_of_the_code() -> None:
    expected = {"type": "integer", "minimum": 1, "maximum": MOST_K, "default": DEFAULT_K}
    assert parameters_of("/v1/similar")["k"] == expected
    name = parameters_of("/v1/similar/thumbnails/{thumbnail}", "get")["thumbnail"]
    assert name == {"type": "string", "pattern": f"^{THUMBNAIL.pattern.replace('([0-9a-f]{12})', '[0-9a-f]{12}')}$"}


def test_feedback_is_described_as_its_type_and_what_that_checks_besides() -> None:
    _, schemas = msgspec.json.schema_components([Feedback])
    expected = schemas["Feedback"] | {"required": ["answer"], "oneOf": [{"required": ["label"]}, {"required": ["wrong"]}]}
    expected["properties"] |= {"answer": {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{{CHARACTERS}}}$"}}
    assert PLAIN["components"]["schemas"]["Feedback"] == expected
    assert parameters_of("/v1/feedback/{answer}", "delete")["answer"] == expected["properties"]["answer"]
    _, several = body_of(PLAIN, "/v1/feedback", "application/json")["oneOf"]
    assert several["maxItems"] == MAX_FEEDBACKS
