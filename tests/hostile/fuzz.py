"""A program for Atheris: service.inference.decode.decode raises errors of the API and nothing else, whatever the bytes.

python -m tests.hostile.fuzz CORPUS -max_total_time=60 -rss_limit_mb=1024 -timeout=2
"""

import sys
import warnings
from typing import Any, cast

import atheris

with cast(Any, atheris).instrument_imports(include=["models", "service"]):
    from models.image.limits import Limits
    from models.image.spec import InputSpec
    from service.errors import HubelError
    from service.inference.decode import decode

SPECS = (InputSpec(height=32, width=32, resize=36), InputSpec(height=224, width=224, resize=256))  # the second uses fractions
LIMITS = Limits(4_000_000, 12_000)  # few enough for the limit of time on a slow machine


def decode_one(data: bytes) -> None:
    for spec in SPECS:
        try:
            pixels = decode(data, spec, LIMITS)
        except HubelError:
            continue
        assert pixels.shape == (spec.height, spec.width, 3)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning)
    atheris.Setup(sys.argv, decode_one)
    atheris.Fuzz()
