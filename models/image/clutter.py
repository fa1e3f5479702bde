"""What systems and programs leave behind in folders of images, which is nobody's class and nobody's picture."""

NAMES = {
    "__macosx",  # macOS, in every zip file that it makes
    "icon\r",
    "thumbs.db",  # Windows
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "lost+found",  # Linux, at the root of a disk
    "@eadir",  # storage on the network: Synology, QNAP
    "#recycle",
    "@recycle",
    "#snapshot",
    "@sharebin",
    "@tmp",
    "@transcode",
    "found.000",  # Windows, after a check of the disk
    "recycler",
    "network trash folder",  # macOS, on storage on the network
    "temporary items",
    "__pycache__",  # Python
}


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def is_clutter(name: str) -> bool:
    """Whether a file or folder of that name, which is not hidden, was left behind."""
    return name.lower() in NAMES
