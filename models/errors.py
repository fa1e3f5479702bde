"""What models/ raises."""


class PackageError(Exception):
    """A package that must not be used; ``str()`` names the package, the fault and the way out."""


class ImageError(ValueError):
    """An image that cannot be used; ``str()`` says why and what would do."""


class UnsupportedFormat(ImageError):
    """The bytes are not a JPEG, PNG or WebP file."""


class ImageTooLarge(ImageError):
    """The header announces more pixels than the caller allows; nothing was decoded.

    fact: size and limit. limit: which field of models.limits.Limits it is over.
    """

    def __init__(self, fact: str, limit: str) -> None:
        super().__init__(f"{fact}; make it smaller")
        self.fact = fact
        self.limit = limit
