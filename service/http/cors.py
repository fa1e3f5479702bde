"""Web pages of other origins may ask, where HUBEL_CORS_ORIGINS names them: Starlette's middleware around the application.

Without the setting it is not there. Every answer has the application's shape. A preflight needs no key: browsers send none.
"""

import time
from collections.abc import Collection
from typing import cast

from starlette import datastructures
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Send

from service.errors import CorsRefused, HubelError
from service.http.answered import note_answer
from service.http.asgi import OTHER, HttpApp
from service.http.problems import headers_of, problem_response
from service.http.request import Headers, Reply, Scope, nothing, parse_head

METHODS = ("GET", "HEAD", "POST")
SENT = ("Authorization", "Content-Type", "X-Deadline-Ms", "X-Request-ID")
SEEN = ("Retry-After", "Server-Timing", "X-Model", "X-Request-ID")  # what a page's script may read of an answer
REMEMBERED_SECONDS = 600  # how long a browser need not ask again


class Cors(CORSMiddleware):
    """origins: as browsers name them, scheme://host[:port]; "*": all."""

    def __init__(self, http_app: HttpApp, origins: Collection[str]) -> None:
        super().__init__(cast(ASGIApp, http_app), origins, METHODS, SENT, expose_headers=SEEN, max_age=REMEMBERED_SECONDS)
        self.http_app = http_app

    @property
    def draining(self) -> bool:
        return self.http_app.draining

    def refuse_unread(self, error: HubelError, more: Headers) -> bytes:
        return self.http_app.refuse_unread(error, more)

    def refuse_early(self, scope: Scope, more: Headers) -> bytes | None:
        """As the application's; a page's request is refused in the ordinary way, so that the page may read why."""
        return None if any(name == b"origin" for name, _ in scope["headers"]) else self.http_app.refuse_early(scope, more)

    def preflight_response(self, request_headers: datastructures.Headers) -> Response:
        began = time.perf_counter()
        decided = super().preflight_response(request_headers)
        request = parse_head({"method": "OPTIONS", "path": "", "query_string": b"", "headers": request_headers.raw}, nothing)
        reply = Reply(b"", 204)
        if decided.status_code != 200:
            what = bytes(decided.body).decode().removeprefix("Disallowed CORS ")
            reply = problem_response(
                CorsRefused(
                    f"not allowed to pages of {request_headers['origin'][:100]!r}: {what}; HUBEL_CORS_ORIGINS names the "
                    f"origins, the methods are {', '.join(METHODS)}, the headers {', '.join(SENT)}"
                ),
                request,
            )
        note_answer(request, OTHER, reply, began)
        headers = {name.decode(): value.decode("latin-1") for name, value in headers_of(reply, request)}
        headers |= {name: value for name, value in decided.headers.items() if not name.startswith("content-")}
        return Response(reply.body, reply.status, headers)

    async def send(self, message: Message, send: Send, request_headers: datastructures.Headers) -> None:
        """Starlette tells every origin what a page may read; here one that is not allowed gets no header of CORS."""
        if not self.is_allowed_origin(request_headers.get("origin", "")):
            request_headers = datastructures.Headers()
        await super().send(message, send, request_headers)
