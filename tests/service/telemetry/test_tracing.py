"""OpenTelemetry's variables: whether traces are on, and what is told where they cannot be."""

import pytest

from service.telemetry import tracing
from service.telemetry.tracing import TracingError

ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
WHOLE = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector/otlp/v1/traces"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_TRACES_SAMPLER": "always_on"},
        ON | {"OTEL_SDK_DISABLED": "TRUE"},
        ON | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_endpoint_or_switched_off_there_are_no_traces(environment: dict[str, str]) -> None:
    assert tracing.endpoint(environment) is None


def test_traces_go_below_the_collector_s_address_or_to_their_own() -> None:
    assert tracing.endpoint(ON) == "http://collector:4318/v1/traces"
    assert tracing.endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4318/"}) == "http://[::1]:4318/v1/traces"
    assert tracing.endpoint(ON | WHOLE) == "https://collector/otlp/v1/traces"
    ratio = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    assert tracing.endpoint(ON | ratio | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}) == "http://collector:4318/v1/traces"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "an address such as http"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector:4317", "an address such as http"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://", "an address such as http"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:port", "no address; give one such as http"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1", "no address; give one such as http"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf, which collectors take on port 4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
        ("OTEL_TRACES_SAMPLER", "often", "always_on, always_off, traceidratio"),
    ],
)
def test_what_cannot_be_is_told_with_its_variable(variable: str, value: str, told: str) -> None:
    with pytest.raises(TracingError) as failed:
        tracing.endpoint(ON | {variable: value})
    assert variable in str(failed.value)
    assert told in str(failed.value)


@pytest.mark.parametrize("text", ["1%", "2", "-0.1", "nan", "often"])
def test_a_share_is_from_0_to_1(text: str) -> None:
    with pytest.raises(TracingError, match=r"OTEL_TRACES_SAMPLER_ARG is .*, it must be a share of the requests from 0 to 1"):
        tracing.endpoint(ON | {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": text})


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(TracingError, match="OTEL_EXPORTER_OTLP_HEADERS") as failed:
        tracing.endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:hunter2@collector:4318"})
    assert "hunter2" not in str(failed.value)


def test_where_the_exporter_is_not_installed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "NEEDED", "opentelemetry.exporter.carrier_pigeon.proto")
    with pytest.raises(TracingError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set and the exporter .*tracing"):
        tracing.endpoint(ON)
    assert tracing.endpoint({}) is None


def test_what_the_sdk_refuses_is_told_with_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ON | {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TracingError, match="OTEL_ variables"):
        tracing.start()
