"""A package computed in this process: the service's session, its decoder and its answers, without a server."""

from collections.abc import Generator, Sequence

from models.image.limits import Limits
from models.package import manifest as manifests
from models.package.manifest import NOVELTY, Manifest
from models.package.prediction import Classification
from models.registry import registry
from service.bulk import ordered_pass
from service.bulk.decoder import Decoded, Decoder
from service.bulk.errors import BulkError, Failure, told
from service.bulk.item import Item
from service.bulk.model import Pair
from service.errors import OutOfMemory
from service.inference import postprocess
from service.inference.backends.choice import DeviceError, DeviceLost
from service.inference.heap import give_back_large_blocks
from service.inference.session import Arrays, OnnxSession
from service.settings import Settings, available_cores


def load(config: Settings) -> OnnxSession:
    """The package of the settings, verified and warm, on all cores. Raises PackageError and BulkError."""
    folder = registry.resolve(config.model_store(), config.model)
    how = (config.inference_threads(), config.signature_key(), config.gpu_memory())
    try:
        session = OnnxSession(folder, config.device, config.precision, *how)
        session.warm(config.max_batch)
    except (DeviceError, DeviceLost, OutOfMemory) as err:
        raise BulkError(str(err)) from err
    return session


def decoder_of(config: Settings, manifest: Manifest) -> Decoder:
    """What the service takes, it takes."""
    limits = Limits(config.max_pixels, config.max_side_pixels)
    return Decoder(manifest.input, limits, config.max_body_bytes, config.max_decode_bytes)


class LocalModel:
    """Raises, in each method, BulkError where the GPU is lost. Not for several threads at once."""

    def __init__(self, config: Settings) -> None:
        """Raises PackageError and BulkError."""
        give_back_large_blocks()
        self.session = load(config)
        self.manifest = self.session.manifest
        self.decoder = decoder_of(config, self.manifest)
        self.threads = config.decode_threads or available_cores()
        limits = {"pixels": config.max_pixels, "side": config.max_side_pixels, "bytes": config.max_body_bytes}
        self.facts = {
            "model": self.manifest.id,
            "package": registry.sha256(self.session.folder / manifests.FILE),
            "computed by": f"{self.session.provider} in {self.session.precision}",
            "limits": ", ".join(f"{name} {value}" for name, value in limits.items()),
        }
        self.novel_above = self.manifest.novelty_threshold
        self.labels = self.manifest.labels

    def classify_all(self, items: Sequence[Item]) -> Generator[list[Pair]]:
        """All of them in order, some at a time."""
        return ordered_pass.run(items, self.decoder, self._classify, self.session.sizes[-1], self.threads)

    def classify(self, items: Sequence[Item]) -> list[Pair]:
        """A few, which memory holds at once."""
        return [pair for part in self.classify_all(items) for pair in part]

    def _classify(self, decoded: Decoded) -> Sequence[Classification | Failure]:
        return decoded.merge(self._answer(row) for row in compute(self.session, decoded, self.manifest.answer_outputs))

    def _answer(self, row: Arrays | Failure) -> Classification | Failure:
        return row if isinstance(row, Failure) else postprocess.classify(row["logits"], self.manifest, row.get(NOVELTY))


def compute(session: OnnxSession, decoded: Decoded, outputs: Sequence[str]) -> list[Arrays | Failure]:
    """One row of each output for each decoded image. Where a batch fails its images are tried one by one, so that a bad one
    fails alone. Raises BulkError where none can be computed any more.
    """
    pixels = decoded.pixels
    try:
        found = session.run(pixels, outputs) if len(pixels) else {}
        return [{name: array[row] for name, array in found.items()} for row in range(len(pixels))]
    except DeviceLost as err:
        raise BulkError("the GPU failed; run the same command again, it goes on where it stopped") from err
    except Exception as err:  # ONNX Runtime's own classes share no base
        if len(pixels) == 1:
            return [told(err)]
        parts = (Decoded(pixels[row : row + 1], [None]) for row in range(len(pixels)))
        return [row for part in parts for row in compute(session, part, outputs)]
