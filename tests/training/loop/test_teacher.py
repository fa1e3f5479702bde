"""training/loop/teacher.py: a network learns what a published model answers, on the very view that it sees itself."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.image.spec import InputSpec
from models.package import manifest as manifests
from models.package.manifest import CARD
from tests.factories import make_image
from tests.training.conftest import Journey
from tests.training.factories import COLOURS, interrupt_at, make_folder, make_recipe, same, timeless, write_recipe
from training.__main__ import main
from training.data import crop, dataset, unlabelled
from training.data.geometry import Pixels
from training.data.lineage import unpack
from training.errors import CheckpointError, DataError, RecipeError
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.loop import epoch, teacher, train
from training.loop.device import Device
from training.loop.epoch import Batch
from training.loop.state import begin
from training.loop.teacher import Teacher
from training.networks.catalogue import build
from training.recipe import Recipe, load
from training.workflows import retrain

WRONG = {"blue": "green", "green": "red", "red": "blue"}  # where the pictures of a colour lie


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours")


@pytest.fixture
def taught(journey: Journey) -> Recipe:
    """For images half as large as the teacher's."""
    return make_recipe(teacher=str(journey.package), epochs=2)


def agreement(run: Path, source: Path, labels: dict[str, str]) -> float:
    """Share of the pictures of ``source`` that get the label that their folder is mapped to."""
    checkpoint, model, _ = checkpoints.load(run)
    images = dataset.load_folder(source, checkpoint.recipe.input)
    wanted = [images.classes.index(labels[images.classes[c]]) for c in images.targets]
    return float((evaluate.logits_of(model, checkpoint, images, say=False).argmax(1) == wanted).mean())


def test_a_network_answers_as_its_teacher_where_that_has_all_the_weight(journey: Journey, tmp_path: Path) -> None:
    """The labels are wrong throughout: whoever learns of them cannot answer as the teacher does."""
    source, wrong = make_folder(tmp_path / "right", each=24), tmp_path / "wrong"
    for name, other in WRONG.items():
        shutil.copytree(source / name, wrong / other)
    how: dict[str, Any] = {"epochs": 6, "input": {"height": 16, "width": 16, "resize": 16}, "learning_rate": 0.02}
    right = {name: name for name in COLOURS}

    train.train(wrong, tmp_path / "alone", make_recipe(**how), say=False)
    train.train(wrong, tmp_path / "taught", make_recipe(teacher=str(journey.package), teacher_weight=1.0, **how), say=False)

    assert agreement(tmp_path / "alone", source, right) < 0.4
    assert agreement(tmp_path / "taught", source, right) > 0.7


def test_what_is_taught_is_the_divergence_at_the_temperature_times_its_square() -> None:
    own, given = torch.tensor([[1.0, -1.0], [0.0, 3.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
    p, q = (given / 2).softmax(1), (own / 2).softmax(1)

    found = teacher.losses(own, given, temperature=2.0)

    torch.testing.assert_close(found, 4 * (p * (p / q).log()).sum(1))
    assert found[0] == pytest.approx(0, abs=1e-6)  # logits that differ by a constant are the same answer


def test_features_are_alike_whatever_their_length_and_unlike_where_they_turn_away() -> None:
    given = torch.tensor([[3.0, 4.0]] * 3)
    own = torch.tensor([[6.0, 8.0], [-4.0, 3.0], [-3.0, -4.0]])

    torch.testing.assert_close(teacher.unlike(own, given), torch.tensor([0.0, 1.0, 2.0]))


def test_the_teacher_sees_the_view_of_the_network_as_fine_as_it_is_used_to(
    taught: Recipe, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views: list[Pixels] = []
    batches: list[Batch] = []
    answers, loss = Teacher.answers, epoch._loss  # pyright: ignore[reportPrivateUsage]

    def seen(self: Teacher, pixels: Pixels) -> Any:
        views.append(pixels.copy())
        return answers(self, pixels)

    def learnt(state: Any, recipe: Any, batch: Batch, *rest: Any) -> Any:
        batches.append(batch)
        return loss(state, recipe, batch, *rest)

    monkeypatch.setattr(Teacher, "answers", seen)
    monkeypatch.setattr(epoch, "_loss", learnt)
    train.train(source, tmp_path / "run", taught, say=False)

    assert len(views) == len(batches) == 6
    for view, batch in zip(views, batches, strict=True):
        assert view.shape[1:] == (16, 16, 3)
        np.testing.assert_array_equal(crop.resize(view, 8, 8, "bilinear"), batch.pixels.numpy())


def test_images_are_held_as_fine_as_the_teachers_with_all_else_in_proportion() -> None:
    recipe = make_recipe(input={"height": 8, "width": 12, "resize": 14}, teacher="colours:1")

    assert crop.held(recipe, 1.0) == recipe.input
    assert crop.held(recipe, 2.0) == InputSpec(16, 24, 28, "bilinear")


def test_unlabelled_images_are_learnt_from_beside_the_others(taught: Recipe, source: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "more" / "anything", each=4, seed=900)
    recipe = load(str(write_recipe(tmp_path / "r.toml")), teacher=taught.teacher, unlabelled=str(tmp_path / "more"), epochs=1)

    checkpoint = train.train(source, tmp_path / "run", recipe, say=False)

    noted = checkpoint.provenance["teacher"]
    assert noted["unlabelled_images"] == 12
    assert 0 < checkpoint.history[0]["accuracy"] <= 1  # of those that have a label
    identities = dataset.load_folder(folder, recipe.input).identities
    assert set(identities) <= set(unpack(checkpoint.trained))
    assert checkpoint.data["training_images"] == 18


def test_unlabelled_images_that_are_measured_or_trained_on_are_left_out_and_counted(source: Path) -> None:
    spec = InputSpec(8, 8, 8)
    images, validation = dataset.load_training(source, spec, 0.25, 0)
    more = source.parent / "more"
    shutil.copytree(source, more)
    (more / "new.png").write_bytes(make_image("PNG", 16, 16, seed=77, color="red"))

    found = unlabelled.load(str(more), spec, images, [validation])

    assert (len(found.images), found.known, found.measured) == (1, len(images), len(validation))
    assert found.images.paths == ("new.png",)
    assert set(found.images.targets) == {unlabelled.OF_NO_CLASS}


@pytest.mark.parametrize(("given", "told"), [([], "holds no image:"), (["note.png"], "holds no image but 1 not to be read:")])
def test_a_folder_without_an_image_is_refused(given: list[str], told: str, taught: Recipe, source: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in given:
        (tmp_path / "more" / name).write_text("no picture")
    recipe = load(str(write_recipe(tmp_path / "r.toml")), teacher=taught.teacher, unlabelled=str(tmp_path / "more"))

    with pytest.raises(DataError, match=f"unlabelled is .*more, which {told} add images, or leave it out"):
        train.train(source, tmp_path / "run", recipe, say=False)


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (("blue", "green", "yellow"), "it does not know yellow and the data have no red"),
        (("blue", "green"), "the data have no red"),
        (("blue", "green", "red", "yellow"), "it does not know yellow"),
    ],
)
def test_a_teacher_of_other_classes_is_refused_with_those_that_differ(
    classes: tuple[str, ...], told: str, taught: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=f"the teacher colours:1 has other classes than the data: {told}. Teach by"):
        train.train(make_folder(tmp_path / "data", classes), tmp_path / "run", taught, say=False)


def test_a_teacher_of_the_classes_in_another_order_is_refused(taught: Recipe, tmp_path: Path) -> None:
    found = teacher.find(taught, tmp_path)
    assert found is not None

    with pytest.raises(CheckpointError, match="another order: its class 0 is blue, that of the data green"):
        teacher.check_classes(found, ("green", "blue", "red"), taught)


def test_features_alone_are_learnt_from_a_teacher_of_any_classes(journey: Journey, tmp_path: Path) -> None:
    recipe = make_recipe(teacher=str(journey.package), teacher_weight=0.0, teacher_hint=5.0, epochs=3)
    source = make_folder(tmp_path / "data", ("yellow", "grey"))

    first = train.train(source, tmp_path / "run", recipe, say=False).history

    assert first[-1]["loss"] < first[0]["loss"]


def test_a_gradient_is_shortened_with_that_of_the_layer_between_the_features() -> None:
    recipe = make_recipe(clip_norm=0.5, learning_rate=1.0, schedule="constant", warmup_share=0.0, momentum=0.0, weight_decay=0.0)
    state = begin(build(recipe.architecture, 2), recipe, Device("cpu", None), hinted=4)
    before = [p.detach().clone() for p in state.learning()]
    for p in state.learning():
        p.grad = torch.ones_like(p)

    epoch._step(state, recipe, 0, 1)  # pyright: ignore[reportPrivateUsage]

    moved = torch.cat([(p.detach() - old).flatten() for p, old in zip(state.learning(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.5, rel=1e-2)


def test_features_are_told_beside_what_the_training_images_have_in_common(taught: Recipe, journey: Journey) -> None:
    images = dataset.load_folder(journey.data / "train", InputSpec(16, 16, 16)).pixels
    found = teacher.find(taught, journey.store)
    assert found is not None

    features = found.used_to(images).answers(images[:])[1]

    spread = found.answers(images[:])[1].std(0, correction=0) > 0.01
    torch.testing.assert_close(features.mean(0), torch.zeros(240), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std(0, correction=0)[spread], torch.ones(int(spread.sum())), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("name", "told"), [("colours", "names no version"), ("colours:9", "colours:9 is not there")])
def test_a_teacher_that_is_not_there_or_may_change_is_refused(name: str, told: str, source: Path, journey: Journey) -> None:
    with pytest.raises(CheckpointError, match=told):
        train.train(source, source.parent / "run", make_recipe(teacher=name), say=False, store=journey.store)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"unlabelled": "more"}, "of which only a teacher says anything"),
        ({"teacher": "a:1", "fit": "linear"}, "a teacher needs fit"),
        ({"teacher": "a:1", "teacher_weight": 0.0}, "both 0"),
    ],
)
def test_a_recipe_that_no_teacher_could_follow_is_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=told):
        load(str(write_recipe(tmp_path / "r.toml")), **changes)


@pytest.mark.parametrize("hint", [0.0, 5.0])
@pytest.mark.skipif(torch.cuda.is_available(), reason="sums on a GPU may come in another order")
def test_a_taught_run_that_was_stopped_goes_on_to_the_same_weights(
    hint: float, taught: Recipe, source: Path, tmp_path: Path
) -> None:
    make_folder(tmp_path / "more", each=2, seed=900)
    recipe = load(
        str(write_recipe(tmp_path / "r.toml")), teacher=taught.teacher, unlabelled=str(tmp_path / "more"), teacher_hint=hint
    )
    whole = train.train(source, tmp_path / "whole", recipe, say=False)
    with interrupt_at(6), pytest.raises(KeyboardInterrupt):
        train.train(source, tmp_path / "run", recipe, say=False)

    resumed = train.train(source, tmp_path / "run", None, say=False)

    first, second = (checkpoints.load(tmp_path / name)[1].state_dict() for name in ("whole", "run"))
    assert same(first, second)
    assert timeless(resumed) == timeless(whole)


def test_a_run_goes_on_with_the_teacher_and_the_images_that_it_began_with_alone(
    journey: Journey, source: Path, tmp_path: Path
) -> None:
    make_folder(tmp_path / "more", each=2, seed=900)
    recipe = load(str(write_recipe(tmp_path / "r.toml")), teacher=str(journey.package), unlabelled=str(tmp_path / "more"))
    with interrupt_at(6), pytest.raises(KeyboardInterrupt):
        train.train(source, tmp_path / "run", recipe, say=False)
    (tmp_path / "more" / "red" / "new.png").write_bytes(make_image("PNG", 16, 16, seed=77, color="red"))

    with pytest.raises(DataError, match=r"holds other images than the run in .* began with"):
        train.train(source, tmp_path / "run", None, say=False)

    found = teacher.find(recipe, tmp_path)
    assert found is not None
    with pytest.raises(CheckpointError, match=r"is taught by pets:3 \(SHA-256 1234.*colours:1 .*is another"):
        teacher.check_same(found, {"package": "pets:3", "model_sha256": "1234"}, tmp_path)


def test_a_retraining_is_taught_by_feedback_and_not_by_the_teacher_of_before(taught: Recipe) -> None:
    assert retrain.recipe_after(taught, {}).teacher == "none"
    assert retrain.recipe_after(taught, {"teacher": "b:2"}).teacher == "b:2"


def test_card_manifest_and_report_say_who_taught(journey: Journey, source: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.toml", epochs=1, learning_rate=1e-6)
    run, store = tmp_path / "run", tmp_path / "store"
    shutil.copytree(journey.store, store)
    how = ["--teacher", "colours:1", "--teacher-weight", "0.8", "--teacher-hint", "2"]

    assert (
        main(["run", str(source), "--recipe", str(recipe), "--name", "own", "--out", str(run), "--store", str(store), *how]) == 0
    )

    package = store / "own" / "1"
    noted = manifests.read(package).provenance["teacher"]
    sha256 = manifests.read(journey.package).files["model.onnx"]
    assert noted == {
        "package": "colours:1",
        "model_sha256": sha256,
        "top1": manifests.read(journey.package).evaluation.top1,
        "temperature": 4.0,
        "weight": 0.8,
        "hint": 2.0,
    }
    said = f"`colours:1` (SHA-256 {sha256[:16]}"
    assert f"It was taught by {said}" in (package / CARD).read_text()
    assert "<dt>taught by</dt>" in (package / "report.html").read_text()
