"""A collector that is down: the log says so once a minute, and once that it is back."""

import logging
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from service.telemetry.export import EVERY_SECONDS, TALKATIVE, Sender

SPANS = [TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")] * 5


class Line(SpanExporter):
    """up: whether anybody is there."""

    up = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not self.up:
            logging.getLogger(TALKATIVE).warning("Transient error, retrying")
            logging.getLogger(TALKATIVE).error("Failed to export: %s", "nobody there")
        return SpanExportResult.SUCCESS if self.up else SpanExportResult.FAILURE

    def shutdown(self) -> None: ...


def test_spans_that_nobody_takes_are_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    line = Line()
    Sender(Line(), "http://another/v1/traces")  # takes nothing away from it
    sender = Sender(line, "http://collector/v1/traces", lambda: now[0])
    for _ in range(100):
        assert sender.export(SPANS) is SpanExportResult.FAILURE  # type: ignore[arg-type]
        now[0] += EVERY_SECONDS / 50
    where = "the collector at http://collector/v1/traces"
    told = [f"{where} does not take spans, {lost} are lost: Failed to export: nobody there" for lost in (5, 255)]
    assert [record.getMessage() for record in caplog.records] == told
    caplog.clear()
    line.up = True
    for _ in range(3):
        assert sender.export(SPANS) is SpanExportResult.SUCCESS  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == [f"{where} takes spans again, 500 are lost"]
