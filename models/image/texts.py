"""What a text is that came in place of an image: a page, an error, an address, or an image written as text.

Everything here looks at a few KiB at most, with expressions that take time in proportion to that.
"""

import base64
import codecs
import re
from collections.abc import Callable
from typing import NamedTuple

CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
BYTE_ORDER = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
FOREIGN = 0.3  # share of bytes that are not ASCII, from which a file that is no UTF-8 is no text

BEFORE_ROOT = re.compile(r"\s+|<\?.*?\?>|<!--.*?-->|<!doctype[^>\[]*(?:\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)
ELEMENT = re.compile(r"<(?:[\w.-]+:)?([a-z][\w.-]*)", re.IGNORECASE)
OF_HTML = {"html", "head", "body", "title", "meta", "script", "style", "div", "p", "h1", "h2", "center", "pre", "table"}
JSON = re.compile(r'[{\[]\s*(?:["{\[\]}\d-]|true|false|null)')
DATA_URL = re.compile(r"data:[^,\s]{0,200},", re.IGNORECASE)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,20}://\S+", re.IGNORECASE)
FILE_NAME = re.compile(r"[^\n<>]{1,1000}\.(?:jpe?g|png|webp|gif|bmp|tiff?|hei[cf]|avif)", re.IGNORECASE)
FIELD = re.compile(r"[\w.\[\]-]{1,100}=\S")
BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
HEXADECIMAL = re.compile(r"(?:[0-9a-fA-F]{2}){8,}")
ENOUGH = 128  # characters of encoded bytes that tell what they are
URL_SAFE = str.maketrans("-_", "+/")

THE_IMAGE = "use the image itself"
PAGE = "perhaps a server's error came in place of the image; fetch it again"
DECODE = "decode it to the bytes of the file; base64 is taken in JSON alone"


class Looks(NamedTuple):
    """What a file is, to follow the words "the file", and the way out."""

    what: str
    way_out: str


def text_of(data: bytes) -> str | None:
    """The text that a file begins with, without its byte order mark; None where it is none. The file may be cut off."""
    order = next((order for order in BYTE_ORDER if data.startswith(order)), b"")
    encoding = BYTE_ORDER.get(order) or {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}.get(data[:2], "utf-8")
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data[len(order) :])
    except UnicodeDecodeError:
        if sum(byte > 127 for byte in data) > FOREIGN * len(data):
            return None
        text = data.decode("latin-1")
    return None if CONTROL.search(text) else text


def look_at_text(text: str, name_of: Callable[[bytes], str | None]) -> Looks:
    """``name_of`` tells what bytes are."""
    text = text.strip()
    return _markup(text) or _encoded(text.strip("\"'"), name_of) or _reference(text.strip("\"'")) or _other(text)


def _markup(text: str) -> Looks | None:
    if not text.startswith("<"):
        return None
    if text.startswith("<?php"):
        return Looks("looks like PHP", THE_IMAGE)
    at = 0
    while found := BEFORE_ROOT.match(text, at):
        at = found.end()
    root = found[1].lower() if (found := ELEMENT.match(text, at)) else ""
    if root == "svg":
        return Looks("looks like SVG", "save it as PNG")
    if root in OF_HTML or text[:14].lower() == "<!doctype html":
        return Looks("looks like HTML", PAGE)
    return Looks("looks like XML", PAGE) if root else Looks("looks like XML, SVG or HTML", THE_IMAGE)


def _encoded(text: str, name_of: Callable[[bytes], str | None]) -> Looks | None:
    """An image written as text."""
    if DATA_URL.match(text):
        return Looks("is a data URL", "decode it to the bytes of the file; data URLs are taken in JSON alone")
    if text[:2] in ("b'", 'b"') and "\\x" in text[:ENOUGH]:
        return Looks("is bytes as Python prints them", "send the bytes themselves")
    start = "".join(text[: 2 * ENOUGH].split())[:ENOUGH]
    if HEXADECIMAL.fullmatch(start[: len(start) // 2 * 2]) and (name := name_of(bytes.fromhex(start[: len(start) // 2 * 2]))):
        return Looks(f"is a {name} file in hexadecimal digits", "decode it to the bytes of the file")
    if BASE64.fullmatch(start):
        whole = start.rstrip("=")[: len(start.rstrip("=")) // 4 * 4].translate(URL_SAFE)
        if name := name_of(base64.b64decode(whole)):
            return Looks(f"is a {name} file in base64", DECODE)
    return None


def _reference(text: str) -> Looks | None:
    """Where an image is, in place of the image."""
    if ADDRESS.fullmatch(text):
        return Looks("is an address", "nothing is fetched; send the bytes of the image")
    if text.startswith("version https://git-lfs."):
        return Looks("is a pointer of Git LFS", "fetch the file itself with git lfs pull")
    if FILE_NAME.fullmatch(text):
        return Looks("is the name of a file", "no file is opened for it; send the bytes of the image (curl --data-binary @NAME)")
    return None


def _other(text: str) -> Looks:
    if JSON.match(text):
        return Looks(
            "looks like JSON", "images in base64 are sent with the content type application/json; else use the image itself"
        )
    if text.startswith("--") and "content-disposition" in text.lower():
        return Looks("looks like a form", "send it as multipart/form-data with its boundary, or the file alone")
    if FIELD.match(text):
        return Looks("looks like fields of a form", "send the bytes of the image, or a form as multipart/form-data")
    return Looks("looks like text", THE_IMAGE)
