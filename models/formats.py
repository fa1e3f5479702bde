"""What a file is by its first bytes: JPEG, PNG or WebP, or what else it looks like."""

from typing import Literal

from models.errors import ImageError, UnsupportedFormat

Format = Literal["jpeg", "png", "webp"]

FORMATS: tuple[Format, ...] = ("jpeg", "png", "webp")
OTHER_FORMATS = (
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG"),
)


def sniff(data: bytes) -> Format:
    """Format by magic bytes; raises UnsupportedFormat, naming the format where it is a known one."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if not data:
        raise ImageError("the image is empty (0 bytes); send the bytes of a JPEG, PNG or WebP file")
    start = data[:64].lstrip()
    name = next((name for magic, name in OTHER_FORMATS if start.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        name = "HEIC, AVIF or a film"
    what = f"looks like {name}" if name else "is no image format known here"
    raise UnsupportedFormat(f"the file {what}; accepted are JPEG, PNG and WebP, recognised by their first bytes")
