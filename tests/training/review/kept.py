"""Makers of images as a service keeps them, with what people said of them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.captures import captured
from models.captures.captured import CapturedAnswer
from tests.factories import make_image

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def put(folder: Path, name: str, label: str = "cat", probability: float = 0.9, seed: int | None = None, **facts: Any) -> str:
    """An image with an answer; ``given`` or ``right`` make it one with feedback. Returns the name of its file."""
    image = make_image("PNG", 16, 12, seed=len(list(captured.read_all(folder))) if seed is None else seed)
    file = captured.image_name(image)
    captured.write_image(folder, file, image)
    given = facts.get("given")
    right: bool | None = facts.get("right", given == label if given else None)
    at: datetime | None = facts.get("given_at", None if right is None else NOW)
    unsure: bool = facts.get("unsure", False)
    captured.write_answer(folder, CapturedAnswer(name, 0, "", file, "pets", 3, label, probability, unsure, NOW, right, given, at))
    return file
