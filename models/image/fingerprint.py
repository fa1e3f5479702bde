"""One hash that changes when preprocessing does: code, libraries, or the input geometry.

A package carries the fingerprint that its accuracy was measured with; the service compares it with its own.
"""

import hashlib
import zlib
from base64 import b64decode
from io import BytesIO

import numpy as np
from PIL import Image

from models.image.preprocess import preprocess
from models.image.spec import InputSpec

JPEG = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAYEBQYFBAYGBQYHBwYIChAKCgkJChQODwwQFxQYGBcUFhYaHSUfGhsjHBYWICwgIyYn"
    "KSopGR8tMC0oMCUoKSj/2wBDAQcHBwoIChMKChMoGhYaKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo"
    "KCgoKCgoKCj/wAARCAAYACgDASIAAhEBAxEB/8QAGAABAQEBAQAAAAAAAAAAAAAAAAUGBAf/xAAjEAABAwIGAwEAAAAAAAAAAAAR"
    "AAQSBSIDExQxYYFRcfDx/8QAFwEBAQEBAAAAAAAAAAAAAAAABQYECP/EADARAAAEBQIBCgcAAAAAAAAAAAECERIAAwQFIRMxYRQi"
    "I0FCUVJxgaEkMkNjcsHR/9oADAMBAAIRAxEAPwDwdvRdCMQTNoA+2VNvRs0OwBdAeOelrG9F0IxBM2gD7ZU29FzQ7AF0B456Sk2s"
    "T4diN52mvy/cf2vw48IMt932F3r+oyjela8W5cOyfxU29OzQ0gBbP1x0tW3pWvFuXDsn8VNvTs0NIAWz9cdI2bdHdK9dTDkTW6mN"
    "+n4XY74trfddgXb2/sZRvTtCMOEzcdvtkW+b07QjDhM3Hb7ZEea/8mHR5Xot7DHt4O6/OLCRdHEVF9Y4m9F0IxBmG0AfbKm3o2aH"
    "YAugPHPSIss8pS1cyhAOiIR4BnBsZXfrHAinCOV7fVTWgZcjiKbela8W5cOyfxU29OzQ0gBbP1x0iII1XNmSaeoMPPnmacfEVWp3"
    "BjCggxcUFQcBEF22im3p2hGHCZuO32yIiBuF+r7fUnpaaY0hBQAQBQPMQEfeLKmmmPLAw7x//9k="
)  # 40x24 pixels, colour, halved chroma, quality 80: goes through libjpeg-turbo
LARGE = zlib.decompress(
    b64decode(
        "eNrt23s0lOsCx/FnzBgkl2Ena2xUuh8K3Wi7RS5d0M6WLi6lC6mciM5sR7ntktNe0d5luihbhZhqcquOk6K0FJXbIIojlYkQuYXGnBHt0jIt1tr/nd87"
        "f3hez/s+7zvv+/nru9YInwhrieJyq2VWhEIhhCL6EOFzMsWStX0bIba2ZDYhRFo0p0SoZGCeTj5uwqfEgijKjpcfP05RXk5eiaGorDqTqaqioqqnNU19"
        "5uJ5xkaG8wwWmdk425ktdbJcZLBq149Obu4enh4mtj4/797Cct7qsXlgEQpDSUl1gupcJnPuZnMD881j3oTZhCFNl6TLUSlTiASDQmVQhLmEKbrljxv5"
        "c6NRJekSA3O6iqL/SkjTJGnUT/MUSQkqjb5gYVjKHr+0O/OtHVJb5y0NCdW3tPLVG1hNdBx12GKEQhOdQhfNzWaIHhqVKjGw2qc5CT192hIfaoikb05x"
        "67yjKc/nm8eFCqsJjWwSVpHxogMlGFQGMSW1wb3WRPw27hXrgBPfM0u2cHnbOO7j4oCJ91nd77a/y6tfz3SeEUVnFo14WuiegyV1jn2vuUsM7273mS3o"
        "cK0K4ljr9fzcqXtWwzy25KTP5JbD6y+Z380+WLzVvmHljahuy8trJm+qtfC8dW6u5qIt8f2JbhmO3pO9a609p30xnqLT1blitubyDbmRmZKm8fp1FtVK"
        "4SXRbVotIYPLLO3pl/NKkVWQULOc27lYkJz8eXzh6dvXsy/n6jyTbqb/ZHLseoSmH7O8TqWFtjdsaEWZ04WPihx6HeZMNS7e4XhoLUuxSjtJMIutpPE6"
        "IzlX20h6l5Lo5pSExIFblXxd8fpurfRhOwyVvoD44wrxOnXW1RKD3zLComEF62i3WWJHgrPNP88FCgk9Y+2B8BC5c+zeM/vLHD+PS3Z1d0xYM3g/9YUf"
        "tJmRyc/Mq7OPFAVWCsmBsB/L29v/scD9NWle+fXTVj8VGeckJLqVXe8v9k4IapeL3emVGv3IIJvKNhP7ZgXh/TmcmUFNzHQ/VoFabtoFiv+pb0AQFkEK"
        "pIxKSjGkQMqopJRACqSMSkoppEDKqKTwIAVSRiWlDFIgZVRSyiEFUkYlpQJSIAU9BVLQUyAFPQVS0FMgBT0FUv4fekpTcMK9bxxg7916TEjUcu77N9co"
        "xb5gGcqpT1fO7zot85KyfYvYsxTtWpOFpKKaXhFpmN+ReXTzD3c4QuLmp+ZqxP9bSaPlc17mxnYt/jmXh/z5ZY1mn4dL+Ld91CtyPJ7d3qV/N2qbUe4i"
        "zpxbsiav+rZHfx+mVz85a/2UBzqVdJeH1gF3OjamarhdC/G+r9/i/kP5xPOSUe8E6TJXU9v4hq7s1TNOahorfR5OdNj/ek79nlNenZOOvKlNa3G7dqrg"
        "3zH1p7JstDLfa/exmxMOdS/bdH+ehrtaWXRT2Jx6raxNw3fdjUMHrxhakBfzKsDF5nyWqnY4u/mPoQvOEkgNXLLFwzCBu/qLIV1QNHTFk0MLst0kY30F"
        "6QXyS060K9ZcZmzhXMxffdb9bBmXXWa1+lj7d12XA7kNrc6lL4yCjcu/fK4ajS7h61jzF4b+8q5pcUFOXPp3upz8tf5bJ8mvEvsuZOoNdnHC7D1vqtWs"
        "3P3UiX62mLVAMF2/JUoyTzwjoiAshwzIGFFGBWRAxogyiiADMkaUUQwZkDGijBLIgIwRZZRCBmSMKIMHGZAxogz0DMhAz4AM9AzIQM+ADPQMyEDPgAz0"
        "DMhAz4AM9AzIQM+ADPQMyEDPgAzIQM+ADPQMyEDPgAz0DMhAz4AM9AzIQM+ADPQMyEDPgAz0DMhAz4AM9AzIgAz0DMhAz4AM9AzIQM+ADPQMyEDPgAz0"
        "DMhAz4AM9AzIQM+ADPQMyEDPgAzIQM+ADPQMyEDPgAz0DMhAz4AM9AzIQM+ADPQMyEDPgAz0DMhAz4AMyEDPgAz0DMhAz4CMv6RnNJAeK2nxR1AbuT05"
        "aczbfHphfGtQnFGv+cFEg1rKpUvizyis4WYI+lxD+G+dqvoFV3akWdw1PW4dlHvzvcLEivE6Z1ViX+xt+vjHz/boQn9+pd2G+NKIfio/2T415vqKROUP"
        "UoWO606q5p2IemUYzbWTzOtrNqmzOFa/Pstgoubb9L6IZ1xmzwrfNq8a2j7eMu+9iXlXqo4O341qucSpPenh9X3AmYvsUpXkWotqm692Z+UfmeAWmcJr"
        "njF4A/tN8hzSY7caerPtpu6s+9XzpZBQ2sumGtpt5ZSGDNydjW9MgVMiifF46Bx0q7Tl0w04DttbVr3gv0lPovlegQHNScrazRaRDhlKG84ktb25dmFl"
        "Woa8sR3PtjooqGdugo5jdnjmb5y2rsVnkv7+5d6FnfWHO/p+b0rUKWm4lxU5bdWHTtXBJ6PSZXTcop23cqeDV+BjM1kd3U/PXOpKCkvNVP7IoxNPbsrF"
        "hltvK1x0z38PJ4pmlC3uNVHOnL9bHpS710f9P9bhl4TkUFPd4vBSlmYpN0rKtkg8CClhEciAzNjIFIMMyIyNTAnIgMzYyJSCDMiMjQwPZEBmbGTKQAZk"
        "xkamHGRAZmxk0GVABl0GZNBlQAZdBmTQZUAGXQZkQAZdBmTQZUAGXQZk0GVABl0GZEAGXQZk0GVABl0GZNBlQAZdBmTQZb4ic9WEndP/S3vDOGbMi2B6"
        "6lXxv4syDbhV0d0staAy7nls/vnbda6BUoffHFQplLVvuzFlZ0Qa1yTft3pOjH2rpvGqNdus9OqHXolPf5/9DZkRKETJN+bfkoneG5eXVBWxT8/rCs2Y"
        "F/zV2z7ESPuX3vnfRdJ+GkRGlH/tORzZXbXvgberzobsyMxDypk7bjuk6Dzmve98unr6uqpwjUSvSd5v+oTkwdCixz8uKLFwj2XvvgddDtENfnU1eb9d"
        "3B8QfOJJAq8nJlhl/cY/v6aLe+vC/erqp6mP2lycG19SFHTFPhIPz9bO2Db1GDN/hYRW00S3SfKn//jWD8sq/wckS79W"
    )
)  # 1549x1541 pixels, stripes, halved chroma, EXIF orientation 6: resized to 128 to 256 pixels, it is decoded at a fraction


def fingerprint(spec: InputSpec) -> str:
    """SHA-256 over what ``preprocess`` makes of three built-in images with ``spec``."""
    digest = hashlib.sha256(repr(spec).encode())
    for data in (JPEG, LARGE, _png()):
        digest.update(preprocess(data, spec).tobytes())
    return digest.hexdigest()


def _png() -> bytes:
    """A pattern of 61x47 pixels with transparency; lossless, so the same on every machine."""
    y, x = np.mgrid[:47, :61]
    rgba = np.stack([x * 4, y * 5, (x * y) % 256, 255 - (x + y)], axis=2).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(rgba).save(file, "PNG")
    return file.getvalue()
