"""HTTP on a connection: uvicorn's, except that an overloaded service refuses a request on its head, without a task.

The body that follows is read and forgotten, so that the client sees the answer. Neighbours: edge.py words the refusal.
"""

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class RefusingProtocol(HttpToolsProtocol):
    """For an application that may have ``refuse_early``: scope -> the whole answer, or None to have it called as ever."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        refuse_early: Callable[[Any], bytes | None] | None = getattr(app, "refuse_early", None)
        answer = refuse_early(cycle.scope) if refuse_early and cycle.keep_alive else None
        if answer is None:
            super()._start_asgi_task(cycle, app)
            return
        self.transport.write(answer)
        cycle.response_started = cycle.response_complete = True
        self.on_response_complete()
