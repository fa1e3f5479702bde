"""What a file is, its first bytes say: neither its content type nor what Pillow could read besides changes the answer."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from models.image.formats import FORMATS
from models.image.preprocess import preprocess
from models.package import manifest as manifests
from models.package.manifest import MODEL
from tests.client import assert_problem, results_of
from tests.conftest import StartServer
from tests.factories import LABELS, encode, make_image, make_picture, run_onnx
from tests.server import ROOT

pytestmark = pytest.mark.server

LIES: list[dict[str, str]] = [{}, *({"content-type": kind} for kind in ("image/jpg", "image/eps", "text/plain"))]
MODES = ("RGB", "P", "L", "1", "RGBA", "F", "CMYK")


def files() -> dict[str, bytes]:
    """A valid file of each format that this Pillow can write."""
    Image.init()
    found: dict[str, bytes] = {}
    for name in sorted(Image.SAVE):
        for mode in MODES:
            file = BytesIO()
            try:
                make_picture(mode=mode).save(file, name)
            except Exception:  # each format says in its own way that it takes another mode, or that a library is missing
                continue
            found[name] = file.getvalue()
            break
    return found


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program gs that would leave the file started: Pillow calls it for EPS."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "gs").write_text(f"#!/bin/sh\ntouch {folder}/started\nexit 1\n")
    (folder / "gs").chmod(0o755)
    return folder


def test_only_the_three_formats_are_decoded_whatever_the_content_type_says(start_server: StartServer, canary: Path) -> None:
    server = start_server(PATH=f"{canary}:{os.environ['PATH']}")
    sent = files()
    assert {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "EPS", "PDF", "ICO", "PPM", "TGA", "JPEG2000"} <= set(sent)
    with server.client() as client:
        for name, data in sent.items():
            for headers in LIES:
                answer = client.post("/v1/classify", content=data, headers=headers)
                if headers == LIES[-1]:
                    assert_problem(answer, 415, "unsupported_media_type")
                elif name.lower() in FORMATS or data[:3] == b"\xff\xd8\xff":  # MPO is a JPEG with others behind it
                    assert answer.status_code == 200, (name, headers)
                else:
                    assert_problem(answer, 415, "unsupported_format")
    assert not (canary / "started").exists()


def test_the_canary_would_tell(canary: Path) -> None:
    script = "from PIL import Image, sys; Image.open(sys.argv[1]).load()"
    (canary / "page.eps").write_bytes(make_image("EPS"))
    environment = os.environ | {"PATH": f"{canary}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", script.replace("Image, sys", "Image; import sys"), str(canary / "page.eps")]
    assert subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode != 0
    assert (canary / "started").exists()
    (canary / "started").unlink()


LOADED = """
import sys
from models.image.spec import InputSpec
from models.image.preprocess import preprocess
for path in sys.argv[1:]:
    try:
        preprocess(open(path, "rb").read(), InputSpec(height=32, width=32, resize=36))
        print("decoded")
    except ValueError:
        print("refused")
print(*(name for name in sys.modules if name.startswith("PIL.") and name.endswith("ImagePlugin")))
"""


def test_no_other_reader_of_pillow_is_even_loaded(tmp_path: Path) -> None:
    sent = {"JPEG": "decoded", "PNG": "decoded", "WEBP": "decoded", "MPO": "decoded", "EPS": "refused", "TIFF": "refused"}
    for format in sent:
        options: dict[str, Any] = {} if format == "EPS" else {"exif": with_orientation(6)}
        (tmp_path / format).write_bytes(make_image(format, **options))
    command = [sys.executable, "-c", LOADED, *(str(tmp_path / format) for format in sent)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    *outcomes, names = result.stdout.splitlines()
    assert outcomes == list(sent.values()), result.stderr
    loaded = set(names.split())
    assert {"PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.WebPImagePlugin"} <= loaded
    assert loaded & {"PIL.EpsImagePlugin", "PIL.PdfImagePlugin", "PIL.TiffImagePlugin", "PIL.MpoImagePlugin"} == set()


def with_orientation(orientation: int) -> bytes:
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


KINDS: dict[str, dict[str, Any]] = {
    **{f"EXIF {i}": {"format": "JPEG", "exif": with_orientation(i)} for i in range(1, 9)},
    "CMYK": {"format": "JPEG", "mode": "CMYK"},
    "16 bits": {"format": "PNG", "mode": "I;16"},
    "palette with transparency": {"format": "PNG", "mode": "P", "transparency": 3},
    "LA": {"format": "PNG", "mode": "LA"},
    "grey JPEG": {"format": "JPEG", "mode": "L"},
    "grey PNG": {"format": "PNG", "mode": "L"},
    "one bit": {"format": "PNG", "mode": "1"},
    "RGBA": {"format": "WEBP", "mode": "RGBA", "lossless": True},
    "profile in JPEG": {"format": "JPEG", "icc_profile": profile()},
    "profile in PNG": {"format": "PNG", "icc_profile": profile()},
    "profile in WebP": {"format": "WEBP", "icc_profile": profile()},
    "progressive": {"format": "JPEG", "progressive": True},
    "1x1": {"format": "PNG", "width": 1, "height": 1},
    "1x65500": {"format": "PNG", "width": 1, "height": 65_500},
    "65500x1": {"format": "JPEG", "width": 65_500, "height": 1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_training_s_own_pipeline(client: httpx.Client, tiny_store: Path, kind: str) -> None:
    image = make_image(**KINDS[kind], seed=7)
    folder = tiny_store / "tiny" / "1"
    pixels = preprocess(image, manifests.read(folder).input)
    logits = run_onnx(folder / MODEL, pixels[None])["logits"][0].astype(np.float64)
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    (result,) = results_of(client.post("/v1/top-k", content=image))
    scores = {entry["label"]: entry["probability"] for entry in result["top"]}
    assert [scores[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-3)


TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {  # how each orientation stores an upright picture
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


@pytest.fixture(scope="module")
def bundled(start_server: StartServer) -> Iterator[httpx.Client]:
    """A client of a service with the bundled model: to the tiny one a picture and its mirror image are the same."""
    with start_server(ROOT / "models" / "store", HUBEL_MODEL="cifar10").client() as client:
        yield client


def features_of(client: httpx.Client, image: bytes) -> list[float]:
    (result,) = client.post("/v1/features", content=image).json()["results"]
    return result["features"]


@pytest.mark.parametrize(
    ("format", "options", "tolerance"), [("PNG", {}, 1e-3), ("WEBP", {"lossless": True}, 1e-3), ("JPEG", {"quality": 95}, 0.02)]
)
def test_a_picture_in_all_eight_orientations_has_one_answer(
    bundled: httpx.Client, format: str, options: dict[str, Any], tolerance: float
) -> None:
    picture = np.asarray(make_picture(60, 40, seed=1))
    stored = [
        encode(Image.fromarray(np.ascontiguousarray(turn(picture))), format, exif=with_orientation(i), **options)
        for i, turn in TURNS.items()
    ]
    answers = [features_of(bundled, image) for image in stored]
    for answer in answers:
        assert answer == pytest.approx(answers[0], abs=tolerance)
    mirrored = encode(Image.fromarray(np.ascontiguousarray(picture[::-1])), format, **options)
    assert features_of(bundled, mirrored) != pytest.approx(answers[0], abs=5 * tolerance)
