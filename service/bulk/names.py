"""What the name of a file tells: an image, an archive, or neither."""

import os.path

from models.image.clutter import is_clutter, is_hidden

TAKEN = (".jpg", ".jpeg", ".png", ".webp")
REFUSED = (  # pictures too: each gets a row that says in which format to save it
    *(".jpe", ".jfif", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)
IMAGES = frozenset((*TAKEN, *REFUSED))
ZIP = (".zip",)
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGES


def is_archive(name: str) -> bool:
    return name.lower().endswith((*ZIP, *TAR))


def is_passed_over(name: str) -> bool:
    """Whether a file or folder found in a folder is nobody's picture: hidden, or left behind by a system."""
    return is_hidden(name) or is_clutter(name)
