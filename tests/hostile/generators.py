"""What Schemathesis needs to make valid requests: images, as bytes and as base64. It loads this as SCHEMATHESIS_HOOKS."""

from base64 import b64encode
from typing import Any

import schemathesis
from hypothesis import strategies

from service.settings import Settings
from tests.factories import make_image

FILES = [make_image("JPEG"), make_image("PNG", mode="P"), make_image("WEBP", seed=1)]
PATIENCE_MS = 10_000
images = strategies.sampled_from(FILES)

for media_type in ("image/jpeg", "image/png", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, images)
schemathesis.openapi.format("binary", images)
schemathesis.openapi.format("byte", images.map(lambda image: b64encode(image).decode()))


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Leave out forms that were to be wrong and are not: now and then the name that is put in place of images is images."""
    body: Any = case.body
    meant_to_be_wrong = case.meta is not None and case.meta.generation.mode.is_negative
    if not (meant_to_be_wrong and case.media_type == "multipart/form-data" and isinstance(body, dict)):
        return True
    files = body.get("images")
    if set(body) != {"images"} or not isinstance(files, list):
        return True
    return not 0 < len(files) <= Settings().max_images or any(file not in FILES for file in files)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Ask for no deadline that no answer could keep."""
    given = str((case.headers or {}).get("X-Deadline-Ms", ""))
    if given.isascii() and given.isdigit() and 0 < int(given) < PATIENCE_MS:
        case.headers["X-Deadline-Ms"] = str(PATIENCE_MS)
