"""What supervisor, engine and fronts tell each other beside the slots."""

from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from models.package.manifest import Manifest


class Load(Struct, frozen=True, tag=True):
    """To an engine: what is to be loaded, and how. folder: of the package. place: the engine's on the board. aside: another
    version answers meanwhile, to which it gives way: it does no more than it must. again: it takes the place of one that has
    computed, and there is no time to lose. max_batch: 0 is by the device. max_wait: seconds that a batch which is not full waits
    for more. gpu_memory: bytes; 0: any.
    """

    folder: str
    device: str
    precision: str
    threads: int
    key: str
    max_batch: int
    max_wait: float = 0.0
    place: int = 0
    aside: bool = False
    again: bool = False
    log_level: str = "warning"
    log: Literal["text", "json"] = "text"
    gpu_memory: int = 0


class Activate(Struct, frozen=True, tag=True):
    """To an engine: it answers from now on, and gives way to nobody any more."""


class Loaded(Struct, frozen=True, tag=True):
    """From an engine: its version is loaded, checked and warm."""


class Failed(Struct, frozen=True, tag=True):
    """From an engine: its version cannot be had. kind: the name of an error."""

    kind: str
    reason: str


class Ready(Struct, frozen=True):
    """From an engine to a front that has connected. loaded_at: Unix time. unexplained: why it gives no class maps, or ""."""

    manifest: Manifest
    provider: str
    precision: str
    skipped_backends: list[str]
    place: int
    loaded_at: float
    max_batch: int
    unexplained: str = ""


ToEngine: TypeAlias = Load | Activate
FromEngine: TypeAlias = Loaded | Failed
TO_ENGINE, FROM_ENGINE, READY = (msgspec.msgpack.Decoder(kind) for kind in (ToEngine, FromEngine, Ready))
