"""What the tests of the page give it: pictures, and answers of a service that explains and has an index."""

from typing import Any

import numpy as np
from PIL import Image

from tests.factories import encode
from tests.page.browsing import Visit
from tests.server import ROOT

SHIP = ROOT / "tests/images/ship.jpg"
NOISE = {
    "name": "noise.png",
    "mimeType": "image/png",
    "buffer": encode(Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3)).astype(np.uint8))),
}


def with_explanations(visit: Visit) -> None:
    visit.change("/openapi.json", lambda body: body["paths"].update({"/v1/explain": {}}))


def with_an_index(visit: Visit) -> None:
    visit.change("/openapi.json", lambda body: body["paths"].update({"/v1/similar": {}}))
    visit.change("/v1/info", lambda body: body.update(index={"images": 2, "dimensions": 3}))


def explanation(label: str, values: list[list[float]]) -> dict[str, Any]:
    seen, size = {"x": 60.0, "y": 0.0, "width": 360.0, "height": 360.0}, {"width": 480, "height": 360}
    result = {"label": label, "index": 8, "probability": 0.9, "map": {"width": 2, "height": 2, "values": values}}
    return {"model": "cifar10", "version": 2, "results": [result | {"seen": seen, "size": size}]}
