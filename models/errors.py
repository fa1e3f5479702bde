"""What models/ raises."""


class PackageError(Exception):
    """A package that must not be used; ``str()`` names the package, the fault and the way out."""


class ImageError(ValueError):
    """An image that cannot be used; ``str()`` says why and what would do."""


class CutOff(ImageError):
    """Pixels are missing at the end of the file."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"the {kind.upper()} file is cut off, or damaged so that pixels are missing; send all of it, or save it again"
        )


class UnsupportedFormat(ImageError):
    """The bytes are not a JPEG, PNG or WebP file."""


class ImageTooLarge(ImageError):
    """The header announces more pixels than the caller allows; nothing was decoded.

    fact: size and limit. limit: which field of models.image.limits.Limits it is over.
    """

    def __init__(self, fact: str, limit: str) -> None:
        super().__init__(f"{fact}; make it smaller")
        self.fact = fact
        self.limit = limit
