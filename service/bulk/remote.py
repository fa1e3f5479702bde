"""A running service, asked by several clients at a time, each as patient as the service wants it."""

import threading
from collections.abc import Generator, Iterator, Sequence

from hubel.client import Client, Refusal
from hubel.errors import ServiceError
from models.package.prediction import Classification
from service.bulk import ordered_pass
from service.bulk.errors import BulkError, Failure, told
from service.bulk.item import Item
from service.bulk.model import Pair
from service.errors import HubelError

CLIENTS = 4  # so that the service decodes one part while it computes another
PART = 32  # images; a client sends fewer at once where the service takes fewer
Answer = Classification | Failure


class RemoteModel:
    """The service at ``url``, with the key in HUBEL_API_KEY where it wants one."""

    def __init__(self, url: str, max_file_bytes: int) -> None:
        """Raises BulkError."""
        self.url = url
        self.max_file_bytes = max_file_bytes
        self.local = threading.local()
        self.clients: list[Client] = []
        try:
            with Client(url) as client:
                client.connect()
                self.name = client.model
        except ServiceError as err:
            raise BulkError(str(err)) from err
        self.facts = {"model": self.name, "computed by": "a service"}
        self.novel_above: float | None = None  # the service does not tell
        self.labels: Sequence[str] = ()

    def classify_all(self, items: Sequence[Item]) -> Generator[list[Pair]]:
        try:
            yield from ordered_pass.run(items, self._ask, _as_it_is, PART, CLIENTS)
        finally:
            for client in self.clients:
                client.close()
            self.clients.clear()

    def _ask(self, items: Sequence[Item]) -> list[Answer]:
        """In a thread."""
        failures: list[Failure | None] = []
        try:
            answers = list(self._client().classify_all(self._files(items, failures)))
        except ServiceError as err:
            raise BulkError(f"{err}; run the same command again once it answers, it goes on where it stopped") from err
        if self._client().model != self.name:
            raise BulkError(
                f"{self.url} went from {self.name} to {self._client().model} in between; an output holds the answers of one "
                "version: begin again with --overwrite"
            )
        given = iter(answers)
        return [_answer(next(given)) if failure is None else failure for failure in failures]

    def _files(self, items: Sequence[Item], failures: list[Failure | None]) -> Iterator[bytes]:
        """Those that can be read; notes for each whether it can."""
        for item in items:
            try:
                data = item.source.read(self.max_file_bytes)
            except (HubelError, OSError) as err:
                failures.append(told(err))
                continue
            failures.append(None)
            yield data

    def _client(self) -> Client:
        """That of this thread."""
        if not hasattr(self.local, "client"):
            self.local.client = Client(self.url)
            self.clients.append(self.local.client)
        client: Client = self.local.client
        return client


def _answer(answer: Classification | Refusal) -> Answer:
    return Failure(answer.code or "refused", answer.reason) if isinstance(answer, Refusal) else answer


def _as_it_is(answers: list[Answer]) -> list[Answer]:
    return answers
