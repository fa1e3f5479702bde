"""What models/ raises."""


class PackageError(Exception):
    """A package that must not be used; ``str()`` names the package, the fault and the way out."""
