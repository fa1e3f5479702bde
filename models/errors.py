"""What models/ raises."""


class PackageError(Exception):
    """A package that must not be used; ``str()`` names the package, the fault and the way out."""


class ImageError(ValueError):
    """An image that cannot be used; ``str()`` says why and what would do."""


class UnsupportedFormat(ImageError):
    """The bytes are not a JPEG, PNG or WebP file."""
