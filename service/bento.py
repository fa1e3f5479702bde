"""The BentoML service: BentoML starts and stops it, and its client finds the endpoints. What it answers is app.py's.

The application in front answers every request, with fewer layers between the socket and the network than BentoML's own.
"""

import asyncio
from collections.abc import MutableMapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import bentoml
import msgspec

from service import app, settings
from service.engine.client import Attachment, EngineClient
from service.http import api_keys
from service.http.asgi import HttpApp
from service.http.auth import ApiKeyAuth
from service.http.cors import Cors
from service.http.hosts import Hosts
from service.http.page import Page
from service.http.request import App, Reply, Request, Routes, parse_head
from service.rollout.served_model import ServedModel
from service.settings import Settings
from service.telemetry import tracing

if TYPE_CHECKING:
    from service.telemetry.spans import Tracer

CONFIG = settings.read()
OWN = msgspec.structs.replace(CONFIG, workers=CONFIG.workers or 1)  # without a supervisor: each worker has an engine of its own
SCHEMA = "/schema.json"  # where BentoML's client looks for the endpoints


GIVEN: list[Attachment] = []  # by a supervisor


@cache
def attachment() -> Attachment:
    """Where the engine is: what the supervisor says; without one, as under BentoML's own server, an engine of our own."""
    return GIVEN[0] if GIVEN else app.start_own(CONFIG)


@cache
def engine() -> EngineClient:
    """What computes the live version. Raises EngineError."""
    return app.connect(CONFIG, attachment().address)


def config() -> Settings:
    return CONFIG if GIVEN else OWN


@cache
def access() -> ApiKeyAuth | None:
    """Who may ask; None: everyone."""
    return app.make_auth(config())


@cache
def tracer() -> "Tracer | None":
    """What traces requests; None: nothing does. Raises TracingError."""
    return tracing.start()


class FrontedService(bentoml.Service[Any]):
    """A BentoML service whose HTTP side is ours."""

    def to_asgi(self, is_main: bool = True) -> App:
        """For BentoML's own server, which does not tell where it listens."""
        api_keys.require(CONFIG.api_keys_file, CONFIG.allow_anonymous, host=None)
        return self.fronted(is_main)

    def fronted(self, is_main: bool = True) -> App:
        hosts = Hosts(CONFIG.own_hosts(), CONFIG.allowed_origins())
        page = Page() if CONFIG.page else None
        http_app = HttpApp(super().to_asgi(is_main), bentoml.get_current_service, access(), hosts, page, tracer())
        return Cors(http_app, origins) if (origins := CONFIG.allowed_origins()) else http_app


@bentoml.service(name="hubel", service_class=FrontedService, workers=OWN.workers, metrics={"enabled": False})
class Hubel:
    """Classify, rank, describe and explain images with one model."""

    def __init__(self) -> None:
        self.service = app.Service(config(), engine(), attachment())
        self.check_load = self.service.endpoints.check_load

    @bentoml.on_shutdown
    def close(self) -> None:
        self.service.close()
        if (sender := tracer()) is not None:
            sender.close()

    def routes(self) -> Routes:
        return {**self.service.endpoints.routes(), SCHEMA: ("GET", describe)}

    @bentoml.api(route="/v1/classify")
    async def classify(self, image: Path, /) -> dict[str, Any]:
        """The label of an image file, as POST /v1/classify answers."""
        return await self._ask("/v1/classify", image)

    @bentoml.api(route="/v1/top-k")
    async def top_k(self, image: Path, /) -> dict[str, Any]:
        """The likeliest labels of an image file, as POST /v1/top-k answers."""
        return await self._ask("/v1/top-k", image)

    @bentoml.api(route="/v1/features")
    async def features(self, image: Path, /) -> dict[str, Any]:
        """The feature vector of an image file, as POST /v1/features answers."""
        return await self._ask("/v1/features", image)

    @bentoml.api(route="/v1/explain")
    async def explain(self, image: Path, /) -> dict[str, Any]:
        """Which places of an image file speak for its class, as POST /v1/explain answers."""
        return await self._ask("/v1/explain", image)

    async def _ask(self, path: str, image: Path) -> dict[str, Any]:
        """The answer of an endpoint where no HTTP is between; raises the errors of service/errors.py."""
        body = iter((await asyncio.to_thread(image.read_bytes),))

        async def receive() -> MutableMapping[str, Any]:
            for part in body:
                return {"type": "http.request", "body": part, "more_body": False}
            return await asyncio.get_running_loop().create_future()  # nobody hangs up

        _, handler = self.service.endpoints.routes()[path]
        scope = {"method": "POST", "path": path, "query_string": b"", "headers": []}
        return msgspec.json.decode((await handler(parse_head(scope, receive))).body)


async def describe(request: Request) -> Reply:
    request.parameters()
    return Reply(msgspec.json.encode(cast(Any, Hubel).schema()))


def running() -> ServedModel:
    """What this process serves, once it has started."""
    return bentoml.get_current_service().service.model


def application() -> HttpApp | Cors:
    """The ASGI application that a worker process runs."""
    return cast("HttpApp | Cors", cast(Any, Hubel).fronted())
