"""Traces by OpenTelemetry, where an endpoint for them is set: its standard variables say whether, where to and how many.

The SDK is imported where traces are on, and nowhere else.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from models.terminal import program

if TYPE_CHECKING:
    from service.telemetry.spans import Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"  # of a collector
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"  # the same with its path
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL, EXPORTER = "http/protobuf", "otlp"
SAMPLER, ARGUMENT = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
SAMPLERS = ("always_on", "always_off", "traceidratio")
NEEDED = "opentelemetry.exporter.otlp"
EXTRA = "tracing"


class TracingError(Exception):
    """Traces cannot be sent as the environment wants it; ``str()`` names the variable and the way out."""


def endpoint(environment: Mapping[str, str] = os.environ) -> str | None:
    """Where traces are sent to; None where they are off. Raises TracingError."""
    name = next((name for name in (TRACES_ENDPOINT, ENDPOINT) if environment.get(name)), None)
    exporter = environment.get("OTEL_TRACES_EXPORTER", "") or EXPORTER
    if name is None or exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if exporter != EXPORTER:
        raise TracingError(f"OTEL_TRACES_EXPORTER is {exporter[:50]!r}, it must be {EXPORTER} or none")
    for variable in PROTOCOLS:
        if (given := environment.get(variable) or PROTOCOL) != PROTOCOL:
            raise TracingError(f"{variable} is {given[:50]!r}, it must be {PROTOCOL}, which collectors take on port 4318")
    check_address(name, environment[name])
    check_sampler(environment)
    if not is_installed():
        raise TracingError(f"{name} is set and the exporter of OpenTelemetry is not installed: {program.extra(EXTRA)}")
    address = environment[name]
    return address if name == TRACES_ENDPOINT else f"{address.removesuffix('/')}/v1/traces"


def is_installed() -> bool:
    try:
        return find_spec(NEEDED) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def check_address(name: str, address: str) -> None:
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise TracingError(f"{name} is no address; give one such as http://collector:4318") from None
    if "@" in parts.netloc:  # not shown, as it may be a password
        raise TracingError(f"{name} holds a name or password; give it in OTEL_EXPORTER_OTLP_HEADERS")
    if not fits:
        raise TracingError(f"{name} is {address[:100]!r}, it must be an address such as http://collector:4318")


def check_sampler(environment: Mapping[str, str]) -> None:
    """The SDK would trace all requests instead."""
    sampler = environment.get(SAMPLER) or "parentbased_always_on"
    kind = sampler.lower().removeprefix("parentbased_")
    if kind not in SAMPLERS:
        raise TracingError(f"{SAMPLER} is {sampler[:50]!r}, it must be {', '.join(SAMPLERS)}, or one of these after parentbased_")
    text = environment.get(ARGUMENT) or "1"
    if kind == "traceidratio" and not is_share(text):
        raise TracingError(f"{ARGUMENT} is {text[:50]!r}, it must be a share of the requests from 0 to 1, such as 0.01")


def is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def start() -> "Tracer | None":
    """What makes spans and sends them; None where traces are off. Raises TracingError."""
    if (address := endpoint()) is None:
        return None
    from service.telemetry import spans

    try:
        return spans.start(address)
    except (ValueError, RuntimeError, OSError) as err:  # of a variable that the SDK reads
        raise TracingError(f"traces cannot be sent to {address}: {err}; look at the OTEL_ variables") from err
