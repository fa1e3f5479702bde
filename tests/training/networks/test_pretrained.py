"""training/networks/pretrained.py and download.py: torchvision's weights give what they give in torchvision, or are refused.

The files are of the form of torchvision's, with random weights, in a folder of their own in the place of torch.hub's.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as transforms

from models.image.spec import InputSpec
from tests.training.factories import make_recipe
from tests.training.networks.factories import build_unfilled, publish, save
from training.errors import CheckpointError
from training.loop import initial_weights
from training.loop.checkpoint import Checkpoint
from training.loop.normalisation import normalise
from training.networks import download, pretrained, torchvision

SPEC = {"height": 64, "width": 64, "resize": 64}


@cache
def make_network(architecture: str) -> Any:
    """torchvision's own network for 3 classes with random weights and statistics, in eval mode. Read only."""
    torch.manual_seed(5)
    with torch.device("meta"):
        net = torchvision.plain(architecture, 3)
    net.to_empty(device="cpu")
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(7)
        elif value.ndim > 1:
            nn.init.kaiming_uniform_(value)
        else:
            nn.init.uniform_(value, 0.5, 1.5) if name.endswith(("running_var", "weight")) else nn.init.uniform_(value, -0.1, 0.1)
    return net.eval()


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["resnet18", "googlenet"])
def test_a_network_begins_with_the_features_that_torchvisions_own_gives_for_the_same_image(
    architecture: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make_network(architecture)
    publish(monkeypatch, save(net, hub, architecture))
    recipe = make_recipe(architecture=architecture, input=SPEC, weights="IMAGENET1K_V1")
    checkpoint = Checkpoint(recipe, ("ant", "bee"), [0.0] * 3, [1.0] * 3)
    model = checkpoint.build().eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)

    initial_weights.take_published(checkpoint, model)

    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    scaled = transforms.normalize(images.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    if architecture == "googlenet":  # torchvision builds it so with its weights
        monkeypatch.setattr(net, "transform_input", True)
    before_head: list[torch.Tensor] = []
    with net.fc.register_forward_pre_hook(lambda _, given: before_head.extend(given)):
        net(scaled)
    _, features, _ = model.outputs(normalise(torch.from_numpy(pixels), checkpoint))
    assert (features[0] - features[1]).abs().max() > 1e-2 * features.abs().max()
    torch.testing.assert_close(features, before_head[0], rtol=1e-3, atol=1e-4 * float(features.abs().max()))


def test_the_head_and_auxiliary_heads_begin_anew(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(make_network("googlenet"), hub, "googlenet")
    publish(monkeypatch, path)
    recipe = make_recipe(architecture="googlenet", input=SPEC, weights="IMAGENET1K_V1")
    checkpoint = Checkpoint(recipe, ("ant", "bee", "wasp"), [0.0] * 3, [1.0] * 3)  # as many as in the file
    model = checkpoint.build()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    initial_weights.take_published(checkpoint, model)

    kept = {name.partition(".")[0] for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {"head", "auxiliary"}
    assert checkpoint.provenance["started_from"] == {
        "weights": path.name,
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "vgg11", "vgg13_bn", "alexnet", "googlenet"])
def test_torchvisions_names_and_shapes_cover_trunk_and_neck(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        net = torchvision.plain(architecture, 1000)
    monkeypatch.setattr(pretrained, "_tensors", lambda _: net.state_dict())

    found = pretrained.read(architecture, Path())

    wanted = {name: value.shape for name, value in build_unfilled(architecture, 2).state_dict().items()}
    parts = ("trunk.", "neck.")
    assert {name: value.shape for name, value in found.items()} == {n: s for n, s in wanted.items() if n.startswith(parts)}


def test_torchvision_publishes_what_the_names_promise() -> None:
    assert {name: found.spec.resize for name, found in pretrained.published("resnet50").items()} == {
        "IMAGENET1K_V1": 256,
        "IMAGENET1K_V2": 232,
    }
    for architecture in torchvision.CUTS:
        found = pretrained.published(architecture)
        assert "IMAGENET1K_V1" in found
        assert all(download.HASH.search(str(there.place)) and there.spec.height == 224 for there in found.values())
    assert list(pretrained.published("efficientnet-lite0")) == ["imagenet-lite0"]
    assert pretrained.published("resnet20") == {}


def test_a_file_without_counters_of_batches_is_read(tmp_path: Path) -> None:
    net = make_network("resnet18")
    torch.save({n: v for n, v in net.state_dict().items() if not n.endswith("num_batches_tracked")}, tmp_path / "old.pth")

    weights = pretrained.read("resnet18", tmp_path / "old.pth")

    assert torch.equal(weights["trunk.0.weight"], net.conv1.weight)
    assert weights["trunk.1.num_batches_tracked"] == 0


def without(net: Any, name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in net.state_dict().items() if key != name}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"no weights", "damaged or holds more than tensors", id="no weights"),
        pytest.param(b"PK\x03\x04 cut off", "cannot be read as weights", id="cut off"),
        pytest.param({"model": {"conv1.weight": torch.zeros(1)}}, "no tensors by their names", id="a dictionary too many"),
        pytest.param([torch.zeros(1)], "no tensors by their names", id="a list"),
        pytest.param({"conv1.weight": Path("/")}, "more than tensors", id="more than tensors"),
        pytest.param("resnet34", r"of resnet18: it has layer1\.2\.conv1\.weight", id="another network"),
        pytest.param("layer4.1.conv2.weight", r"it lacks layer4\.1\.conv2\.weight", id="a part is missing"),
    ],
)
def test_a_file_of_something_else_is_refused_with_the_reason(content: object, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str) and content in torchvision.CUTS:
        torch.save(make_network(content).state_dict(), path)
    else:
        torch.save(without(make_network("resnet18"), content) if isinstance(content, str) else content, path)

    with pytest.raises(CheckpointError, match=reason) as caught:
        pretrained.read("resnet18", path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_whose_name_promises_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet18-f37072fd.pth"
    path.write_bytes(b"something else")

    with pytest.raises(CheckpointError, match=rf"{path} is damaged or another file: its SHA-256 begins with "):
        pretrained.find("resnet18", str(path))


def test_a_damaged_file_in_the_folder_of_torch_hub_is_not_loaded(hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "resnet18-f37072fd.pth").write_bytes(b"cut off")

    with pytest.raises(CheckpointError, match="remove it and fetch it again"):
        pretrained.find("resnet18", "IMAGENET1K_V1")


def test_without_a_network_one_message_says_what_to_bring_where(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens

    with pytest.raises(CheckpointError) as caught:
        pretrained.find("resnet50", "IMAGENET1K_V2")

    said = str(caught.value)
    assert "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" in said
    assert "SHA-256 begins with 11ad3fa6" in said
    assert str(hub) in said
    assert "--weights FILE" in said
    assert "\n" not in said
    assert list(hub.iterdir()) == []


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server on loopback: its address, and what it gives by path."""
    files: dict[str, bytes] = {}

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Site) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", files
        server.shutdown()


def test_a_published_file_is_downloaded_once(hub: Path, site: tuple[str, dict[str, bytes]]) -> None:
    address, files = site
    content = b"weights"
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    files[f"/{name}"] = content

    path = download.fetch(f"{address}/{name}")
    files.clear()
    again = download.fetch(f"{address}/{name}")

    assert path == again == hub / name
    assert path.read_bytes() == content
    assert list(hub.iterdir()) == [path]


@pytest.mark.parametrize(("content", "reason"), [(b"others", "not the file of that name"), (None, "404")])
def test_what_arrives_damaged_or_not_at_all_is_not_kept(
    content: bytes | None, reason: str, hub: Path, site: tuple[str, dict[str, bytes]]
) -> None:
    address, files = site
    if content:
        files["/net-0123abcd.pth"] = content

    with pytest.raises(CheckpointError, match=rf"net-0123abcd\.pth is not in {hub} .*{reason}"):
        download.fetch(f"{address}/net-0123abcd.pth")

    assert list(hub.iterdir()) == []


@pytest.mark.parametrize(
    ("weights", "reason"),
    [("IMAGENET1K_V3", "no file IMAGENET1K_V3; weights is a file, IMAGENET1K_V1"), ("/none.pth", "/none.pth")],
)
def test_a_file_that_is_not_there_is_named(weights: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        pretrained.find("resnet18", weights)


def test_images_of_another_geometry_than_that_of_the_weights_are_worth_a_hint() -> None:
    made_for = pretrained.published("resnet50")["IMAGENET1K_V2"].spec

    assert pretrained.hint("resnet50", "IMAGENET1K_V2", made_for) == ""
    assert pretrained.hint("resnet50", "none", InputSpec(64, 64, 64)) == ""
    said = pretrained.hint("resnet50", "IMAGENET1K_V2", InputSpec(224, 224, 256))
    assert "224x224 pixels of a shorter side of 232" in said
    assert "224x224 pixels of a shorter side of 256" in said
