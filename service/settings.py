"""The one reader of the environment: HUBEL_* variables -> frozen Settings. docs/settings.md describes each."""

import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from models.image.limits import BOMB_PIXELS, DECODED_BYTES, LIMITS
from models.imagenet import package
from models.package.precision import Precision
from models.registry import registry

PREFIX = "HUBEL_"
Device = Literal["auto", "cuda", "cpu"]
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: "max 100000", or microseconds of processor time a period
NVIDIA = Path("/dev/nvidiactl")  # there where a driver is
CPU_WORKERS, MOST_WORKERS = 2, 16  # by default; the latter with a GPU
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")  # as a browser writes it
HOST = re.compile(r"\*|[A-Za-z0-9._-]{1,253}|[0-9a-fA-F:]{2,45}")  # a name or an address
Count = Annotated[int, Meta(ge=1)]
LOOSEST = {  # any other fits to these
    **{"max_queue": 2**62, "max_images": 1, "max_buffered_bytes": 2**62, "max_body_bytes": 1},
    **{"max_decode_bytes": 2**62, "max_pixels": 1},
}


class SettingsError(Exception):
    """A variable with a value that it cannot have; ``str()`` names both and what is allowed."""


class Settings(Struct, frozen=True):
    """Each field is read from the variable HUBEL_ + its name in capitals."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 3000
    workers: Annotated[int, Meta(ge=0, le=64)] = 0
    store: str = str(registry.STORE)
    model: str = package.NAME
    require_signature: str = ""
    device: Device = "auto"
    precision: Literal["auto", Precision] = "auto"
    threads: Annotated[int, Meta(ge=0)] = 0
    decode_threads: Annotated[int, Meta(ge=0)] = 0
    gpu_memory_mb: Annotated[int, Meta(ge=0)] = 0
    max_body_bytes: Count = 32 * 1024 * 1024
    max_buffered_bytes: Count = 256 * 1024 * 1024
    max_pixels: Annotated[int, Meta(ge=1, le=BOMB_PIXELS)] = LIMITS.max_pixels
    max_side_pixels: Count = LIMITS.max_side_pixels
    max_decode_bytes: Count = 2 * 1024 * 1024 * 1024
    max_images: Count = 32
    max_batch: Annotated[int, Meta(ge=0, le=1024)] = 0
    max_wait_ms: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    max_queue: Count = 512
    max_queue_ms: Count = 1500
    max_connections: Count = 1024
    max_unread_bytes: Annotated[int, Meta(ge=1024 * 1024)] = 64 * 1024 * 1024
    keep_alive_seconds: Annotated[int, Meta(ge=1, le=3600)] = 75
    deadline_ms: Count = 10_000
    drain_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1000
    shutdown_seconds: Count = 25
    hang_seconds: Count = 20
    api_keys_file: str = ""
    allow_anonymous: bool = False
    allowed_hosts: str = ""
    cors_origins: str = ""
    page: bool = True
    index_dir: str = ""
    feedback_key_file: str = ""
    feedback_expiry_days: Annotated[float, Meta(gt=0, le=3650)] = 7.0
    feedback_dir: str = ""
    feedback_share: Annotated[float, Meta(ge=0, le=1)] = 0.05
    feedback_wait_minutes: Annotated[float, Meta(ge=0)] = 60.0
    feedback_max_images: Count = 10_000
    feedback_max_days: Annotated[float, Meta(gt=0)] = 30.0
    feedback_max_mb: Count = 1000
    log: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        if self.max_queue < self.max_images:
            raise ValueError(f"max_queue is {self.max_queue}, it must hold one request of max_images ({self.max_images})")
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_buffered_bytes is {self.max_buffered_bytes}, it must hold one body of max_body_bytes "
                f"({self.max_body_bytes})"
            )
        for name in self.own_hosts():
            if not HOST.fullmatch(name):
                raise ValueError(
                    f"{name[:100]!r} is no host: a name or address without scheme and port, several with commas, or *"
                )
        if self.max_decode_bytes < DECODED_BYTES * self.max_pixels:
            raise ValueError(
                f"max_decode_bytes is {self.max_decode_bytes}, it must hold one image of max_pixels ({self.max_pixels}), "
                f"which may take {DECODED_BYTES} bytes a pixel"
            )
        for origin in self.allowed_origins():
            if not ORIGIN.fullmatch(origin) and self.cors_origins.strip() != "*":
                raise ValueError(
                    f"{origin[:100]!r} is no origin: scheme://host or scheme://host:port, in small letters, without a path, "
                    "several of them with commas between, or * alone"
                )

    def allowed_origins(self) -> tuple[str, ...]:
        """Origins of the web pages that may ask, as browsers name them; "*": all."""
        return tuple(origin.strip() for origin in self.cors_origins.split(",")) if self.cors_origins else ()

    def own_hosts(self) -> tuple[str, ...]:
        """Names by which the service may be called; "*": all."""
        return tuple(name.strip() for name in self.allowed_hosts.split(",")) if self.allowed_hosts else ()

    def model_store(self) -> Path:
        """Where the model is served from, which makes the bundled one where it is not there yet; raises PackageError."""
        return package.store_of(self.model, Path(self.store))

    def signature_key(self) -> Path | None:
        """The public key that a package must be signed for; None where it need not be signed."""
        return Path(self.require_signature) if self.require_signature else None

    def worker_count(self) -> int:
        """Worker processes: as asked for, else two where there are as many cores, as Python's lock keeps one from using more than
        about one; with a GPU, which computes faster than one can decode, one for each core.
        """
        gpu = self.device != "cpu" and has_gpu()
        return self.workers or min(available_cores(), MOST_WORKERS if gpu else CPU_WORKERS)

    def gpu_memory(self) -> int:
        """Bytes of a GPU's memory that a version may take; 0: any."""
        return self.gpu_memory_mb * 1_000_000

    def inference_threads(self) -> int:
        """Threads of the engine: as asked for, else all cores that this process may use."""
        return self.threads or available_cores()

    def decoding_threads(self) -> int:
        """Threads of one worker that decode: as asked for, else the cores shared among the workers."""
        return self.decode_threads or max(1, available_cores() // self.worker_count())


@cache
def has_gpu() -> bool:
    """Whether this environment and machine may compute on CUDA, as far as can be told without trying."""
    return NVIDIA.exists() and any(found.name == "onnxruntime-gpu" for found in distributions())


def available_cores(quota: Path = CPU_QUOTA) -> int:
    """Cores that this process may use: its cpuset's, or fewer where a container is given less time than that."""
    cores = len(os.sched_getaffinity(0))
    try:
        allowed, period = quota.read_text().split()
        return min(cores, max(1, int(allowed) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return cores


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the environment; an empty variable counts as unset. Raises SettingsError."""
    given: dict[str, str] = {}
    for field in Settings.__struct_fields__:
        if value := environment.get(PREFIX + field.upper()):
            given[field] = value
    for field, value in given.items():
        try:
            msgspec.convert(LOOSEST | {field: value}, Settings, strict=False)
        except msgspec.ValidationError as err:
            raise SettingsError(f"{PREFIX}{field.upper()} is {value!r}: {str(err).split(' - at ')[0]}") from err
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as err:
        raise SettingsError(f"the settings do not fit together: {err}") from err
