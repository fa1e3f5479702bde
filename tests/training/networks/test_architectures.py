"""training/architectures: sizes as published, three outputs that fit together, the same function as torchvision's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as networks

import training
from tests.training.networks.factories import build_filled, build_unfilled
from training.networks import catalogue
from training.networks.classifier import Classifier

PARAMETERS = {  # of 1000 classes, as torchvision's documentation lists them
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "alexnet": 61_100_840,
    "googlenet": 6_624_904,  # without auxiliary heads
    "efficientnet-lite0": 4_652_008,
}
PARAMETERS_OF_SMALL = {  # of 10 classes, as published or counted by hand
    "resnet10-small": 2_324_138,
    "vgg8-small": 1_972_802,
    "mlp-512": 407_050,
    "mlp-800-400": 952_410,
    "convnet-32-64-128": 104_202,
    "convnet-32-64-128-unpooled": 712_202,
    "lenet1": 2_578,
    "lenet5": 61_706,
    "hog-28": 12_970,
    "hog-32": 17_650,
    "convnet-cifar": 113_738,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "plain20": 269_722,  # a shortcut has no parameters
    "plain56": 853_018,
    "vgg11-small": 9_225_610,
    "vgg11_bn-small": 9_231_114,
    "vgg13-small": 9_410_122,
    "vgg13_bn-small": 9_416_010,
    "vgg16-small": 14_719_818,
    "vgg16_bn-small": 14_728_266,
    "vgg19-small": 20_029_514,
    "vgg19_bn-small": 20_040_522,
}


@pytest.mark.parametrize("architecture", catalogue.ARCHITECTURES)
def test_a_network_has_as_many_parameters_as_published(architecture: str) -> None:
    classes = 10 if architecture in PARAMETERS_OF_SMALL else 1000

    model = build_unfilled(architecture, classes).mirrored()  # has all but auxiliary heads
    count = sum(p.numel() for p in model.parameters())

    assert count == (PARAMETERS_OF_SMALL if classes == 10 else PARAMETERS)[architecture]


def test_the_table_of_networks_has_them_all() -> None:
    text = (Path(training.__file__).parent / "README.md").read_text()
    assert [n for n in (PARAMETERS | PARAMETERS_OF_SMALL).values() if f"{n:,}" not in text] == []


@pytest.mark.parametrize("architecture", catalogue.ARCHITECTURES)
def test_the_head_has_one_row_for_each_class(architecture: str) -> None:
    head = build_unfilled(architecture, 7).head

    assert isinstance(head, nn.Linear)
    assert head.out_features == 7


@pytest.mark.parametrize(
    ("architecture", "side", "dimensions", "feature_map"),
    [
        pytest.param("resnet10-small", 32, 240, (240, 4, 4), id="resnet10-small"),
        pytest.param("resnet10-small", 16, 240, (240, 2, 2), id="resnet10-small at half the side"),
        pytest.param("vgg8-small", 32, 256, (256, 3, 3), id="vgg8-small"),
        pytest.param("vgg8-small", 9, 256, (256, 1, 1), id="vgg8-small at the least side"),
        pytest.param("mlp-512", 28, 512, (1, 28, 28), id="mlp-512"),
        pytest.param("mlp-800-400", 28, 400, (1, 28, 28), id="mlp-800-400"),
        pytest.param("convnet-32-64-128", 28, 1152, (128, 3, 3), id="convnet-32-64-128"),
        pytest.param("convnet-32-64-128-unpooled", 28, 61952, (128, 22, 22), id="convnet-32-64-128-unpooled"),
        pytest.param("lenet1", 28, 192, (12, 4, 4), id="lenet1"),
        pytest.param("lenet5", 28, 84, (16, 5, 5), id="lenet5"),
        pytest.param("hog-28", 28, 1296, (36, 6, 6), id="hog-28"),
        pytest.param("hog-32", 32, 1764, (36, 7, 7), id="hog-32"),
        pytest.param("convnet-cifar", 32, 2048, (128, 4, 4), id="convnet-cifar"),
        pytest.param("resnet20", 32, 64, (64, 8, 8), id="resnet20"),
        pytest.param("resnet110", 20, 64, (64, 5, 5), id="resnet110 at a smaller side"),
        pytest.param("plain20", 32, 64, (64, 8, 8), id="plain20"),
        pytest.param("resnet18", 64, 512, (512, 2, 2), id="resnet18"),
        pytest.param("resnet50", 64, 2048, (2048, 2, 2), id="resnet50"),
        pytest.param("vgg16-small", 32, 512, (512, 1, 1), id="vgg16-small"),
        pytest.param("alexnet", 224, 4096, (256, 6, 6), id="alexnet"),
        pytest.param("googlenet", 224, 1024, (1024, 7, 7), id="googlenet"),
        pytest.param("efficientnet-lite0", 224, 1280, (1280, 7, 7), id="efficientnet-lite0"),
        pytest.param("efficientnet-lite0", 33, 1280, (1280, 2, 2), id="efficientnet-lite0 at an odd side"),
        pytest.param("vgg16", 64, 4096, (512, 2, 2), id="vgg16"),
        pytest.param("vgg16_bn", 96, 4096, (512, 3, 3), id="vgg16_bn"),
    ],
)
def test_the_three_outputs_have_the_shapes_of_their_names(
    architecture: str, side: int, dimensions: int, feature_map: tuple[int, int, int]
) -> None:
    model = build_unfilled(architecture, 7).eval()

    outputs = model.outputs(torch.empty(2, 3, side, side, device="meta"))

    assert [tuple(output.shape) for output in outputs] == [(2, 7), (2, dimensions), (2, *feature_map)]


def plain_torchvision(model: Classifier, architecture: str, **arguments: Any) -> Any:
    """torchvision's own network with the weights of ``model``, whose own order they are in but for auxiliary heads."""
    with torch.device("meta"):
        plain: Any = getattr(networks, architecture)(weights=None, num_classes=7, **arguments)
    ours, theirs = model.state_dict(), list(plain.state_dict())
    names = [name for name in theirs if not name.startswith("aux")] + [name for name in theirs if name.startswith("aux")]
    plain.load_state_dict(dict(zip(names, list(ours.values())[: len(names)], strict=True)), assign=True)
    return plain.eval()


@torch.inference_mode()
@pytest.mark.parametrize(
    ("architecture", "side", "arguments"),
    [
        ("resnet18", 64, {}),
        ("resnet50", 64, {}),
        ("vgg11_bn", 64, {}),
        ("alexnet", 96, {}),
        ("googlenet", 64, {"aux_logits": False, "init_weights": True}),
    ],
)
def test_the_logits_are_those_of_the_plain_torchvision_network(architecture: str, side: int, arguments: dict[str, bool]) -> None:
    model = build_filled(architecture, 7)
    plain = plain_torchvision(model, architecture, **arguments)
    images = torch.randn(2, 3, side, side)

    logits, features, feature_map = model.outputs(images)

    assert (logits[0] - logits[1]).abs().max() > 1e-2 * logits.abs().max()
    torch.testing.assert_close(logits, plain(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(images), logits)
    torch.testing.assert_close(model.head(features), logits)
    torch.testing.assert_close(model.neck(feature_map), features)


@torch.inference_mode()
def test_googlenet_trains_with_the_auxiliary_logits_of_torchvision() -> None:
    model = build_filled("googlenet", 7).train()
    plain = plain_torchvision(model, "googlenet", aux_logits=True, init_weights=True).train()
    for layer in [*model.modules(), *plain.modules()]:
        if isinstance(layer, nn.Dropout):
            layer.eval()  # would differ by chance
    images = torch.randn(2, 3, 64, 64)

    weights, found = zip(*model.weighted_logits(images), strict=True)

    answer = plain(images)
    assert weights == (1.0, 0.3, 0.3)
    for logits, expected in zip(found, (answer.logits, answer.aux_logits1, answer.aux_logits2), strict=True):
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["resnet10-small", "resnet18", "resnet20", "googlenet", "efficientnet-lite0"])
def test_the_head_on_each_cell_of_the_feature_map_averages_to_the_logits(architecture: str) -> None:
    """What class activation maps rest on (Zhou et al. 2016, arXiv 1512.04150, section 2)."""
    model = build_filled(architecture, 7)
    logits, _, feature_map = model.outputs(torch.randn(2, 3, 64, 64))

    cells: Tensor = model.head(feature_map.permute(0, 2, 3, 1))

    torch.testing.assert_close(cells.mean((1, 2)), logits, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_an_image_gets_the_same_logits_alone_as_in_a_batch() -> None:
    model = build_filled("resnet10-small", 7)
    images = torch.randn(5, 3, 32, 32)

    torch.testing.assert_close(model(images)[3:4], model(images[3:4]), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_mirrored_form_answers_the_mean_for_an_image_and_its_mirror_image() -> None:
    model = build_filled("resnet10-small", 7)
    images = torch.randn(3, 3, 32, 32)
    logits, features, feature_map = model.mirrored().outputs(images)
    plain, turned = model.outputs(images), model.outputs(images.flip(3))

    torch.testing.assert_close(logits, (plain[0] + turned[0]) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features, (plain[1] + turned[1]) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(feature_map, (plain[2] + turned[2].flip(3)) / 2, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits, plain[0], atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "side", "stages"),
    [
        pytest.param("resnet10-small", 32, [(32, 32), (64, 16), (192, 8), (240, 4)], id="resnet10-small"),
        pytest.param("convnet-32-64-128", 28, [(32, 13), (64, 5), (128, 3)], id="convnet-32-64-128"),
        pytest.param("convnet-32-64-128-unpooled", 28, [(32, 26), (64, 24), (128, 22)], id="convnet-32-64-128-unpooled"),
        pytest.param("convnet-cifar", 32, [(32, 15), (64, 6), (128, 4)], id="convnet-cifar"),
        pytest.param("lenet1", 28, [(4, 12), (12, 4)], id="lenet1"),
        pytest.param("lenet5", 28, [(6, 14), (16, 5)], id="lenet5"),
        pytest.param("resnet56", 32, [(16, 32), (16, 32), (32, 16), (64, 8)], id="resnet56"),
        pytest.param("plain56", 32, [(16, 32), (16, 32), (32, 16), (64, 8)], id="plain56"),
        pytest.param("resnet18", 64, [(64, 16), (64, 16), (128, 8), (256, 4), (512, 2)], id="resnet18"),
        pytest.param("resnet50", 64, [(64, 16), (256, 16), (512, 8), (1024, 4), (2048, 2)], id="resnet50"),
        pytest.param("alexnet", 224, [(64, 27), (192, 13), (384, 13), (256, 13), (256, 6)], id="alexnet"),
        pytest.param("googlenet", 224, [(64, 56), (192, 28), (480, 14), (832, 7), (1024, 7)], id="googlenet"),
        pytest.param(
            "efficientnet-lite0",
            224,
            [(32, 112), (16, 112), (24, 56), (40, 28), (80, 14), (112, 14), (192, 7), (320, 7), (1280, 7)],
            id="efficientnet-lite0",
        ),
        pytest.param("vgg13_bn-small", 32, [(64, 16), (128, 8), (256, 4), (512, 2), (512, 1)], id="vgg13_bn-small"),
        pytest.param("vgg11", 64, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)], id="vgg11"),
        pytest.param("vgg16_bn", 64, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)], id="vgg16_bn"),
    ],
)
def test_the_stages_one_after_the_other_are_the_trunk(architecture: str, side: int, stages: list[tuple[int, int]]) -> None:
    """Of each stage: channels and side of what it puts out."""
    model = build_unfilled(architecture, 7)
    layers = [layer for stage in model.stages() for layer in stage]
    x = torch.empty(2, 3, side, side, device="meta")

    found: list[tuple[int, int]] = []
    for stage in model.stages():
        x = stage(x)
        found.append((x.shape[1], x.shape[2]))

    assert found == stages
    assert all(one is other for one, other in zip(layers, model.trunk.children(), strict=True))


@pytest.mark.parametrize("architecture", ["mlp-512", "mlp-800-400"])
def test_a_network_without_convolutions_has_no_stages(architecture: str) -> None:
    assert build_unfilled(architecture, 7).stages() == []


def with_auxiliary() -> Classifier:
    """Two layers with an auxiliary head between them."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    neck = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    auxiliary = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return Classifier(trunk, neck, nn.Linear(5, 3), ends=(1, 2), auxiliary={0: auxiliary})


def test_auxiliary_heads_are_a_part_of_the_loss_and_learn() -> None:
    model = with_auxiliary()
    images = torch.randn(2, 3, 8, 8)

    (weight, logits), (auxiliary_weight, auxiliary) = model.weighted_logits(images)

    assert (weight, auxiliary_weight) == (1.0, 0.3)
    torch.testing.assert_close(logits, model(images))
    torch.testing.assert_close(auxiliary, model.auxiliary["0"](model.stages()[0](images)))
    auxiliary.sum().backward()
    assert all(p.grad is not None for p in model.auxiliary.parameters())
    assert "auxiliary.0.2.weight" in model.state_dict()


def test_auxiliary_heads_answer_nothing_outside_training() -> None:
    model = with_auxiliary().eval()
    images = torch.randn(2, 3, 8, 8)

    ((weight, logits),) = model.weighted_logits(images)

    assert weight == 1.0
    torch.testing.assert_close(logits, model(images))
    assert not [name for name, _ in model.mirrored().named_parameters() if "auxiliary" in name]
    assert model.mirrored().stages() == []


def test_a_network_without_auxiliary_heads_has_its_logits_as_the_loss() -> None:
    model = build_filled("resnet10-small", 7)
    images = torch.randn(2, 3, 32, 32)

    ((weight, logits),) = model.weighted_logits(images)

    assert weight == 1.0
    torch.testing.assert_close(logits, model(images))


def test_a_name_that_is_not_in_the_catalogue_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="resnet19"):
        catalogue.build("resnet19", 3)
