"""training/report/examples.py: which images are shown, and that every section has its own."""

from typing import Any

import numpy as np
from torch import nn

from tests.training.factories import make_images, make_recipe
from training.evaluation import calibration
from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier
from training.report import examples

CHECKPOINT = Checkpoint(make_recipe(), ("class-0", "class-1", "class-2"), [127.5] * 3, [64.0] * 3)
SHARES = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.1, 0.9, 0], [0.4, 0.6, 0], [0.4, 0, 0.6], [0.7, 0, 0.3]])
IMAGES = make_images([2, 2, 2])
ANSWERS = calibration.answers(np.log(SHARES.clip(1e-9)), IMAGES.targets)  # answers 0, 1 (wrong); 1, 1; 2, 0 (wrong)
CONFUSED = [{"label": "class-2", "answer": "class-0", "count": 1}, {"label": "class-0", "answer": "class-1", "count": 1}]


def answers_of(*indices: int) -> calibration.Answers:
    chosen = list(indices)
    return calibration.answers(np.log(SHARES[chosen].clip(1e-9)), IMAGES.targets[chosen])


def convolutional() -> Classifier:
    return Classifier(
        nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(4, 3), (1,)
    )


def files(images: list[dict[str, Any]]) -> list[str]:
    return [image["file"] for image in images]


def test_every_section_shows_the_images_it_should() -> None:
    shown = examples.show(convolutional().eval(), CHECKPOINT, make_images([4, 4, 4]), IMAGES, ANSWERS, CONFUSED)

    assert tuple(shown) == examples.NAMES
    assert [files(pair["images"]) for pair in shown["confusions"]["pairs"]] == [["class-2/5.png"], ["class-0/1.png"]]
    assert shown["mistakes"]["count"] == 2
    assert files(shown["mistakes"]["images"]) == ["class-0/1.png", "class-2/5.png"]
    assert files(shown["feature_maps"]["images"]) == ["class-0/0.png", "class-0/1.png"]  # both of the class misjudged worst
    assert files(shown["class_activation"]["right"]) == ["class-0/0.png", "class-1/2.png", "class-2/4.png", "class-1/3.png"]
    assert files(shown["class_activation"]["wrong"]) == ["class-0/1.png", "class-2/5.png"]
    assert shown["patches"]["images"] == 12


def test_a_wrong_answer_has_a_map_for_itself_and_one_for_the_label() -> None:
    shown = examples.show(convolutional().eval(), CHECKPOINT, make_images([4, 4, 4]), IMAGES, ANSWERS, CONFUSED)[
        "class_activation"
    ]

    assert [[m["label"] for m in image["maps"]] for image in shown["wrong"]] == [["class-1", "class-0"], ["class-0", "class-2"]]
    assert [[m["label"] for m in image["maps"]] for image in shown["right"][:2]] == [["class-0"], ["class-1"]]


def test_where_all_is_right_no_wrong_image_is_shown() -> None:
    shown = examples.show(
        convolutional().eval(), CHECKPOINT, make_images([4, 4, 4]), IMAGES.subset(np.array([0, 2])), answers_of(0, 2), []
    )

    assert shown["mistakes"] == {"count": 0, "images": []}
    assert files(shown["feature_maps"]["images"]) in (["class-0/0.png"], ["class-1/2.png"])
    assert shown["class_activation"]["wrong"] == []


def test_where_all_is_wrong_no_right_image_is_shown() -> None:
    shown = examples.show(
        convolutional().eval(), CHECKPOINT, make_images([4, 4, 4]), IMAGES.subset(np.array([1, 5])), answers_of(1, 5), CONFUSED
    )

    assert files(shown["feature_maps"]["images"]) == ["class-0/1.png"]
    assert shown["class_activation"]["right"] == []


def test_a_network_without_convolutions_has_its_mistakes_alone() -> None:
    model = Classifier(nn.Identity(), nn.Flatten(), nn.Linear(192, 3)).eval()

    shown = examples.show(model, CHECKPOINT, make_images([4, 4, 4]), IMAGES, ANSWERS, CONFUSED)

    assert len(shown["mistakes"]["images"]) == 2
    assert all("no convolutions" in shown[name]["left_out"] for name in ("feature_maps", "patches", "class_activation"))
