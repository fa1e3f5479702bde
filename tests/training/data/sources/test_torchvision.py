"""training/data/sources/torchvision.py: sets in torchvision's own files, tiny ones that are written here."""

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision import datasets

from models.image.preprocess import preprocess
from models.image.spec import InputSpec
from tests.factories import encode
from tests.training.data.sources.factories import write_idx
from tests.training.factories import SPEC
from training.data import dataset
from training.errors import DataError


def write_batches(root: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """Images (6, 3, 32, 32) of the training batch. torchvision opens a batch only if its MD5 is a known one: it is told
    those of these files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()

    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32)).astype(np.uint8)
    train = write("data_batch_1", {"data": pixels.reshape(6, -1), "labels": [1, 0, 1, 0, 1, 0]})
    test = write("test_batch", {"data": pixels[:2].reshape(2, -1), "labels": [1, 0]})
    meta = write("batches.meta", {"label_names": ["ship", "cat"]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", train]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", test]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    return pixels


def test_the_digits_are_classes_and_their_pixels_unchanged(tmp_path: Path) -> None:
    written = write_idx(tmp_path)
    spec = InputSpec(height=28, width=28, resize=28)

    training, validation = dataset.load_training(f"mnist:{tmp_path}", spec, 0.25, 0)
    test = dataset.load_test(f"mnist:{tmp_path}", spec, training.classes)

    assert training.classes == tuple("0123456789")
    assert sorted(int(path) for path in (*training.paths, *validation.paths)) == list(range(40))
    assert set(validation.targets.tolist()) == set(range(10))
    assert test is not None
    np.testing.assert_array_equal(test.pixels, np.repeat(written["t10k"][..., None], 3, axis=3))
    assert test.targets.tolist() == list(range(10)) * 4
    for part in (training, validation):
        np.testing.assert_array_equal(part.pixels[..., 0], written["train"][[int(path) for path in part.paths]])


def test_geometry_is_that_of_the_service(tmp_path: Path) -> None:
    written = write_idx(tmp_path)
    spec = InputSpec(height=16, width=12, resize=20, interpolation="bicubic")

    test = dataset.load_test(f"mnist:{tmp_path}", spec, tuple("0123456789"))

    assert test is not None
    expected = [preprocess(encode(Image.fromarray(pixels)), spec) for pixels in written["t10k"]]
    np.testing.assert_array_equal(test.pixels, np.stack(expected))


def test_classes_keep_the_order_and_names_of_the_set(tmp_path: Path) -> None:
    write_idx(tmp_path, "FashionMNIST")

    training, _ = dataset.load_training(f"fashion-mnist:{tmp_path}", SPEC, 0.5, 0)

    assert training.classes[:3] == ("T-shirt/top", "Trouser", "Pullover")


def test_colours_and_order_of_cifar_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_batches(tmp_path, monkeypatch)
    spec = InputSpec(height=32, width=32, resize=32)

    training, validation = dataset.load_training(f"cifar10:{tmp_path}", spec, 0.3, 0)

    assert training.classes == ("ship", "cat")
    assert (len(training), len(validation)) == (4, 2)
    for part in (training, validation):
        np.testing.assert_array_equal(part.pixels, pixels[[int(path) for path in part.paths]].transpose(0, 2, 3, 1))
        assert part.targets.tolist() == [1 - int(path) % 2 for path in part.paths]


def test_without_a_folder_the_set_is_looked_for_in_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "data", each=2)
    monkeypatch.chdir(tmp_path)

    assert len(dataset.load_training("mnist:", SPEC, 0.5, 0)[0]) == 10


def test_what_cannot_be_downloaded_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")

    with pytest.raises(DataError, match=f"place train-images-idx3-ubyte.gz, .* into {tmp_path}/MNIST/raw by hand"):
        dataset.load_training(f"mnist:{tmp_path}", SPEC, 0.5, 0)
    with pytest.raises(DataError, match=f"place {tmp_path}/cifar-10-python.tar.gz .* by hand"):
        dataset.load_training(f"cifar10:{tmp_path}", SPEC, 0.5, 0)


@pytest.mark.parametrize("content", [b"", b"hello", struct.pack(">4I", 0x803, 10, 28, 28) + b"cut off"])
def test_a_damaged_file_is_an_error_that_names_the_set(content: bytes, tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)

    with pytest.raises(DataError, match=f"mnist is not in {tmp_path} .* or is damaged"):
        dataset.load_training(f"mnist:{tmp_path}", SPEC, 0.5, 0)


def test_a_batch_with_another_md5_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(tmp_path, monkeypatch)
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (opened,)

    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Trap()))

    with pytest.raises(DataError, match="is damaged"):
        dataset.load_training(f"cifar10:{tmp_path}", SPEC, 0.5, 0)
    assert not opened.exists()
