"""training/evaluation/choices.py: it says that nothing was chosen only where nothing was."""

from typing import Any

import pytest

from training.evaluation import choices

FLATTERS = "so the figures flatter a little: put images that nothing is chosen by into `test/`"
OUT_OF_FOLDS = "Temperature and threshold come from them too and are measured out of folds"


@pytest.mark.parametrize(
    ("evaluation", "recipe", "precisions", "said"),
    [
        (
            {"split": "test"},
            {},
            {"fp32"},
            ["No choice was made on these images. Temperature and threshold come from the validation images."],
        ),
        (
            {"split": "test"},
            {"patience": 5, "fit": "gradient"},
            set(),
            ["No choice was made on these images. The epoch that is kept, temperature and threshold come from the validation"],
        ),
        ({"split": "test"}, {"patience": 5, "fit": "linear"}, set(), ["No choice was made", " Temperature and threshold come"]),
        (
            {"split": "test"},
            {},
            {"fp32", "int8", "bf16"},
            ["One choice was made on these images: whether the service computes in bf16 and int8. Temperature"],
        ),
        (
            {"split": "validation"},
            {"patience": 5},
            {"fp32", "fp16", "int8"},
            [
                "The epoch that is kept, temperature, threshold and whether the service computes in fp16 and int8 were chosen",
                FLATTERS,
            ],
        ),
        ({"split": "validation"}, {}, {"fp32"}, ["Temperature and threshold were chosen by them", FLATTERS]),
        (
            {"split": "validation", "calibration_floor": 0.1},
            {},
            {"int8"},
            [OUT_OF_FOLDS, "Whether the service computes in int8 was chosen by them", FLATTERS],
        ),
        ({"split": "validation", "calibration_floor": 0.1}, {}, {"fp32"}, [OUT_OF_FOLDS, "Nothing else was chosen by them."]),
    ],
)
def test_every_choice_is_named_where_it_was_made(
    evaluation: dict[str, Any], recipe: dict[str, Any], precisions: set[str], said: list[str]
) -> None:
    told = choices.told(evaluation, recipe, precisions)

    assert all(part in told for part in said), told
    assert ("No choice" in told) == (said[0].startswith("No choice"))
    assert (FLATTERS in told) == (FLATTERS in said)


def test_made_images_are_no_sample_to_choose_by() -> None:
    assert choices.told({"split": "agreement"}, {}, {"int8"}) == ""
