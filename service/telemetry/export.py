"""Sending spans: what the collector does not take is lost, and the log says so once a minute."""

import logging
import math
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from service.telemetry.log import SERVICE

EVERY_SECONDS = 60.0  # between two lines about spans that are lost
TALKATIVE = "opentelemetry.exporter.otlp.proto.http.trace_exporter"  # a line for each try
FULL = "opentelemetry.sdk._shared_internal"  # a line for each span that finds no room
log = logging.getLogger(SERVICE)


class LastWord(logging.Filter):
    """Keeps what a logger says last, and lets nothing of it pass."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = record.getMessage()
        return False


LAST_WORD = LastWord()  # one for all senders: a logger asks no filter after one that lets nothing pass


class Sender(SpanExporter):
    """exporter: sends. address: where to, as the log has it."""

    def __init__(self, exporter: SpanExporter, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.exporter = exporter
        self.address = address
        self.clock = clock
        self.lost = 0  # since the collector took spans last
        self.told = -math.inf
        logging.getLogger(TALKATIVE).addFilter(LAST_WORD)
        logging.getLogger(FULL).setLevel(logging.ERROR)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self.exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self.lost:
                log.info("the collector at %s takes spans again, %d are lost", self.address, self.lost)
            self.lost, self.told = 0, -math.inf
            return result
        self.lost += len(spans)
        if self.clock() - self.told >= EVERY_SECONDS:
            self.told = self.clock()
            log.warning("the collector at %s does not take spans, %d are lost: %s", self.address, self.lost, LAST_WORD.text)
        return result

    def shutdown(self) -> None:
        self.exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.exporter.force_flush(timeout_millis)
