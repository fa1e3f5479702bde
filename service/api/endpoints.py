"""What can be asked of the service: each route, its method and its parameters."""

import math
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import TypeVar

import msgspec

from models.package.manifest import Manifest
from models.package.prediction import Ranking
from service.api import explain, feedback
from service.api.describe import describe_models, describe_service
from service.api.explain import Explain
from service.api.feedback import FeedbackApi
from service.api.openapi import document
from service.api.pipeline import Pipeline
from service.api.question import Question
from service.api.similar import SimilarApi
from service.errors import InvalidParameter
from service.http.auth import OPEN
from service.http.request import Handler, Reply, Request, Routes, json_response
from service.inference.postprocess import Row, classify, encode_features, rank
from service.inference.results import BOOLEANS, ENCODINGS, default_k
from service.rollout.served_model import ServedModel
from service.settings import Settings
from service.telemetry import metrics

T = TypeVar("T")


class Endpoints:
    """pipeline: answers requests about images. feedback: those about answers. similar: those about an index. exposition: the
    text of the metrics."""

    def __init__(
        self,
        config: Settings,
        model: ServedModel,
        pipeline: Pipeline,
        feedback: FeedbackApi,
        similar: SimilarApi,
        exposition: metrics.Exposition,
    ) -> None:
        self.config = config
        self.model = model
        self.pipeline = pipeline
        self.feedback = feedback
        self.similar = similar
        self.exposition = exposition
        self.bentoml = version("bentoml")  # which reads files

    def routes(self) -> Routes:
        def get(value: Callable[[], Reply]) -> tuple[str, Handler]:
            async def handler(request: Request) -> Reply:
                if request.path not in OPEN:  # what probes may add, such as ?verbose, changes nothing
                    request.parameters()
                return value()

            return "GET", handler

        return {
            "/v1/classify": ("POST", self.classify),
            "/v1/top-k": ("POST", self.top_k),
            "/v1/features": ("POST", self.features),
            explain.PATH: ("POST", self.explain),
            **self.similar.routes(),
            **self.feedback.routes(),
            "/v1/models": get(lambda: json_response(describe_models(self.model.loaded))),
            "/v1/info": get(lambda: json_response(self.describe())),
            "/livez": get(lambda: json_response({"status": "alive"})),
            "/readyz": get(lambda: json_response({"status": "ready", "model": self.model.manifest.id})),
            "/openapi.json": get(lambda: Reply(self.document())),
            "/metrics": ("GET", self.scrape),
        }

    def check_load(self, route: str) -> None:
        """Raises Overloaded where one more image for the route would be too many."""
        if route == feedback.PATH:
            self.feedback.check_load()
        else:
            self.pipeline.check_load(route, math.inf)

    async def classify(self, request: Request) -> Reply:
        request.parameters()
        return await self.pipeline.answer(request, Question("logits", classify))

    async def top_k(self, request: Request) -> Reply:
        given = request.parameters("k").get("k")
        k = None if given is None else self.parse_k(given, request)

        def finish(logits: Row, manifest: Manifest, novelty: Row | None) -> Ranking:
            return rank(logits, manifest, k or default_k(len(logits)), novelty)

        return await self.pipeline.answer(request, Question("logits", finish))

    def parse_k(self, text: str, request: Request) -> int:
        classes = len(self.model.traffic.choose(request.key(), "logits").manifest.labels)
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= classes):
            raise InvalidParameter(f"k is {text[:50]!r}, it must be a whole number from 1 to {classes}, the number of classes")
        return int(text)

    async def features(self, request: Request) -> Reply:
        given = request.parameters("normalize", "encoding")
        normalize = choose(given, "normalize", BOOLEANS)
        encoding = choose(given, "encoding", ENCODINGS)
        question = Question("features", lambda row, *_: encode_features(row, normalize, encoding))
        return await self.pipeline.answer(request, question)

    async def explain(self, request: Request) -> Reply:
        given = request.parameters("class", "encoding")
        encoding = choose(given, "encoding", ENCODINGS)
        question = Explain(given.get("class"), encoding, explain.wants_picture(request.headers.get("accept", "")))
        question.target(self.model.traffic.choose(request.key(), question.output))  # before the body is read
        return await self.pipeline.answer(request, question)

    async def scrape(self, request: Request) -> Reply:
        request.parameters()
        return Reply(await self.exposition.text(), media_type=metrics.CONTENT_TYPE_LATEST)

    def describe(self) -> dict[str, object]:
        engine = self.model.loaded.serving.engine
        return describe_service(engine, self.config, self.bentoml) | {"index": self.similar.describe()}

    def document(self) -> bytes:
        """The OpenAPI document, for the live version's number of classes."""
        return _document(len(self.model.manifest.labels), self.config.max_images, bool(self.config.api_keys_file))


@cache
def _document(classes: int, max_images: int, keys_needed: bool) -> bytes:
    return msgspec.json.encode(document(classes, max_images, keys_needed=keys_needed))


def choose(given: dict[str, str], name: str, values: dict[str, T]) -> T:
    """Value of a parameter with few possible ones, the first of which is its default."""
    text = given.get(name, next(iter(values)))
    if text not in values:
        raise InvalidParameter(f"{name} is {text[:50]!r}, it must be {' or '.join(values)}")
    return values[text]
