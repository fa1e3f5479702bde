"""The packages of versions that have answered, in memory or no longer: by which manifest each is read after the start."""

from pathlib import Path

from models.package import drift_reference
from models.package.drift_reference import Reference
from models.package.manifest import Manifest
from models.registry import registry
from service.rollout.loaded import LoadedModels

KNOWN = 16  # versions whose manifests are remembered


class Packages:
    """Of one model of the store. key: the public one that packages are signed for; None: they need not be signed."""

    def __init__(self, store: Path, name: str, key: Path | None, loaded: LoadedModels) -> None:
        self.store = store
        self.name = name
        self.key = key
        self.loaded = loaded
        self.known: dict[int, Manifest] = {}

    def folder(self, version: int) -> Path:
        """Raises PackageError where there is no such version."""
        return registry.resolve(self.store, f"{self.name}:{version}")

    def manifest(self, version: int) -> Manifest:
        """Of a version that is or was held, as it was when that was loaded; of another as it is, signed where it has to be.

        Raises:
            PackageError.
        """
        held = self.loaded.held.get(version)
        known = held.manifest if held else self.known.get(version)
        manifest = known or registry.describe(self.folder(version), self.key)
        self.known[version] = manifest
        if len(self.known) > KNOWN:
            self.known.pop(next(iter(self.known)), None)
        return manifest

    def labels(self, version: int) -> list[str]:
        """The classes of a version; raises PackageError where it is no longer there."""
        return self.manifest(version).labels

    def reference(self, version: int) -> Reference | None:
        """What the package of a version says of the images it is for; raises PackageError."""
        manifest = self.manifest(version)
        if drift_reference.FILE not in manifest.files:
            return None
        data = registry.load(self.folder(version), manifest, drift_reference.FILE)
        return drift_reference.read(data, len(manifest.labels), manifest.outputs["features"][0])
