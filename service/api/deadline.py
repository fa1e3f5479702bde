"""How long an answer may take: the service's limit, or less where the client asks for it, and what is said where it is over."""

from collections.abc import Mapping

from service.errors import InvalidParameter
from service.http.request import Request

HEADER = "x-deadline-ms"


class Deadline:
    """Of one request. service_ms: the longest that the service takes (HUBEL_DEADLINE_MS).

    Raises:
        InvalidParameter: X-Deadline-Ms is no number of milliseconds.
    """

    def __init__(self, request: Request, service_ms: int) -> None:
        text = request.headers.get(HEADER)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1):
            raise InvalidParameter(f"X-Deadline-Ms is {text[:50]!r}, it must be a whole number of milliseconds from 1 on")
        self.service_ms = service_ms
        self.ms = service_ms if text is None else min(int(text), service_ms)

    @property
    def chosen(self) -> bool:
        """Whether the client allows less time than the service does."""
        return self.ms < self.service_ms

    @property
    def name(self) -> str:
        return "X-Deadline-Ms" if self.chosen else "HUBEL_DEADLINE_MS"

    def describe_body(self, less: str) -> str:
        """For a body that did not arrive in time; ``less``: what else may help."""
        ways = ", or ".join(["send it faster", less, *self._more_time()])
        return f"the body did not arrive within {self.ms} ms ({self.name}); {ways}"

    def describe_delay(self, images: int, stages: Mapping[str, float]) -> str:
        """Where the time went in which a request was not answered, and what may help."""
        read, decode = (round(1000 * stages.get(stage, 0.0)) for stage in ("read", "decode"))
        rest = max(0, self.ms - read - decode)
        ways = ["send fewer images at once"] if images > 1 else ["send a smaller image"] if decode > rest else []
        return (
            f"no answer to {'1 image' if images == 1 else f'{images} images'} within {self.ms} ms ({self.name}): "
            f"{read} ms of these went by until the body was here, {decode} with decoding, {rest} with waiting and computing; "
            + ", or ".join([*ways, *self._more_time(), "try again"])
        )

    def _more_time(self) -> list[str]:
        return [f"allow more time (X-Deadline-Ms, at most {self.service_ms})"] if self.chosen else []
