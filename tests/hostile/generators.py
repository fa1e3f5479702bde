"""What Schemathesis needs to make valid requests: images, as bytes and as base64. It loads this as SCHEMATHESIS_HOOKS."""

from base64 import b64encode

import schemathesis
from hypothesis import strategies

from tests.factories import make_image

images = strategies.sampled_from([make_image("JPEG"), make_image("PNG", mode="P"), make_image("WEBP", seed=1)])

for media_type in ("image/jpeg", "image/png", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, images)
schemathesis.openapi.format("binary", images)
schemathesis.openapi.format("byte", images.map(lambda image: b64encode(image).decode()))
