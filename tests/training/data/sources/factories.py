"""Makers of data in the forms that a source may have: shards, lists of files, and files of MNIST's format."""

import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.factories import make_image


def write_shard(path: Path, files: dict[str, bytes], mode: Any = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(labels: str, seed: int = 0) -> dict[str, bytes]:
    """A picture and its class for each letter."""
    files: dict[str, bytes] = {}
    for i, label in enumerate(labels):
        files[f"some/{i:04d}.jpg"] = make_image("JPEG", seed=seed + i)
        files[f"some/{i:04d}.cls"] = label.encode()
    return files


Row = dict[str, str]


def write_csv(path: Path, rows: list[Row]) -> Path:
    lines = [",".join(rows[0]), *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
    path.with_suffix(".csv").write_text("\n".join(lines) + "\n")
    return path.with_suffix(".csv")


def write_jsonl(path: Path, rows: list[Row]) -> Path:
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path.with_suffix(".jsonl")


def write_idx(root: Path, kind: str = "MNIST", each: int = 4, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    """Images (n, 28, 28) by the names of their files, ``each`` of the digits 0 to 9, in the format of the MNIST page."""
    folder = root / kind / "raw"
    folder.mkdir(parents=True)
    written: dict[str, NDArray[np.uint8]] = {}
    for i, name in enumerate(("train", "t10k")):
        pixels = np.random.default_rng(seed + i).integers(0, 256, (10 * each, 28, 28)).astype(np.uint8)
        targets = np.tile(np.arange(10, dtype=np.uint8), each)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, len(pixels), 28, 28) + pixels.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, len(targets)) + targets.tobytes())
        written[name] = pixels
    return written
