"""Pictures out of a report's data URLs."""

from base64 import b64decode
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def decoded(uri: str) -> tuple[str, NDArray[np.uint8]]:
    kind, _, data = uri.partition(",")
    return kind, np.asarray(Image.open(BytesIO(b64decode(data))))
