"""Makes what models/imagenet holds: our graph of EfficientNet-Lite0 without its weights, and what was measured of it with them.

`.venv/bin/python -m training.publishing.imagenet --photos FOLDER --known FOLDER --others NAME=FOLDER... --ranges FOLDER...`; the
names of the photographs begin with a WordNet id. It is run again when the exporter, the preprocessing or the calibration has
changed.
"""

import argparse
import hashlib
import lzma
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from sklearn.metrics import roc_auc_score

from models.errors import ImageError
from models.image.fingerprint import fingerprint
from models.image.preprocess import preprocess
from models.imagenet import graph, package, state_dict
from models.imagenet.graph import Hole, Skeleton, What
from models.package import manifest as manifests
from models.package.manifest import CARD, GOLDEN, MODEL, Accuracy, Evaluation, Manifest
from models.package.precision import GRAPHS
from models.package.statistics import wilson
from training import provenance
from training.data import dataset
from training.data.dataset import ImageSet
from training.data.pixels import Pixels
from training.evaluation import calibration, evaluate, novelty
from training.evaluation.retrieval import retrieval
from training.loop.checkpoint import Checkpoint
from training.networks import efficientnet_lite, pretrained
from training.networks.classifier import Classifier
from training.publishing import export
from training.publishing.class_angle import class_distance, of_head
from training.publishing.novelty import Nodes, extend, put_out
from training.publishing.quantize import quantize
from training.recipe import Recipe

GOLDEN_IMAGE = (
    Path(__file__).parents[2] / "docs" / "images" / "ball.jpg"
)  # a picture of a thing: noise has no class, in int8 least of all
RANGE_IMAGES, OTHER_IMAGES = 512, 400
IMAGES = {".jpg", ".jpeg", ".png", ".webp"}
PUBLISHED_TOP1 = 0.751
Given = tuple[NDArray[np.float32], NDArray[np.float32]]  # logits and features of images
Initializers = dict[str, tuple[str, What, float]]  # by name: layer, what it holds, scale of the layer's input


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="what is measured on")
    parser.add_argument("--known", type=Path, required=True, help="a folder a class, of things that it knows too, for novelty")
    parser.add_argument("--others", nargs="+", default=[], help="images of what it does not know, for novelty to be measured on")
    parser.add_argument("--ranges", type=Path, nargs="+", required=True, help="images, of which the ranges of int8 are taken")
    args = parser.parse_args()
    spec = pretrained.published(efficientnet_lite.NAME)[pretrained.LITE0].spec
    arrays = state_dict.read(package.weights())
    photos = labelled(args.photos, spec)
    ranges = np.stack([pixels for _, pixels in decoded(args.ranges, spec)])
    with tempfile.TemporaryDirectory() as folder:
        images = Images(photos, *read_others(args.known, args.others, spec))
        make(Path(folder), arrays, images, ranges[:: max(1, len(ranges) // RANGE_IMAGES)])


def decoded(folders: list[Path], spec: Any) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """Images below the folders, by name; what is damaged is left out."""
    for path in chain.from_iterable(sorted(folder.rglob("*")) for folder in folders):
        if path.suffix.lower() in IMAGES:
            try:
                yield path, preprocess(path.read_bytes(), spec)
            except ImageError as err:
                print(f"{path}: {err}")  # noqa: T201


def labelled(folder: Path, spec: Any) -> ImageSet:
    known = {row.wordnet: number for number, row in enumerate(package.labels())}
    found = [(known[path.name.partition("_")[0]], path.name, pixels) for path, pixels in decoded([folder], spec)]
    targets, names, pixels = zip(*found, strict=True)
    classes = tuple(row.label for row in package.labels())
    return ImageSet(np.stack(pixels), np.array(targets, np.int64), classes, names, ())


class Images(NamedTuple):
    """photos: what is measured on. known: (n, height, width, 3) uint8 of things that are known too, and the class of each, (n,).
    others: by name, images of what is not known."""

    photos: ImageSet
    known: NDArray[np.uint8]
    targets: NDArray[np.int64]
    others: dict[str, NDArray[np.uint8]]


def read_others(
    known: Path, others: list[str], spec: Any
) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[str, NDArray[np.uint8]]]:
    """As in Images; noise is among the others."""
    paths, pixels = zip(*decoded([known], spec), strict=True)
    targets = np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    noise = np.random.default_rng(0).integers(0, 256, (100, spec.height, spec.width, 3)).astype(np.uint8)
    found = {"noise": noise}
    for other in others:
        name, _, folder = other.partition("=")
        images = [path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in IMAGES]
        chosen = images[:: max(1, len(images) // OTHER_IMAGES)]
        found[name] = np.stack([preprocess(path.read_bytes(), spec) for path in chosen])
    return np.stack(pixels), targets.astype(np.int64), found


def make(folder: Path, arrays: state_dict.Arrays, images: Images, ranges: NDArray[np.uint8]) -> None:
    """Write models/imagenet. ranges: (n, height, width, 3) uint8."""
    photos = images.photos
    spec = pretrained.published(efficientnet_lite.NAME)[pretrained.LITE0].spec
    mean, std = pretrained.normalisation(efficientnet_lite.NAME)
    checkpoint = Checkpoint(Recipe(efficientnet_lite.NAME, spec, epochs=1), photos.classes, mean, std)
    names = efficientnet_lite.published_names()
    network = checkpoint.build()
    network.load_state_dict({names[name]: torch.from_numpy(values) for name, values in arrays.items()})
    layers = graph.layers_of(arrays)

    export.write_onnx(network.eval(), checkpoint, folder / MODEL)
    fill(folder / MODEL, layers, plain(names))
    quantize(folder / MODEL, folder / GRAPHS["int8"], ranges)
    complete(folder, checkpoint, network, images, layers, len(ranges))


def complete(
    folder: Path,
    checkpoint: Checkpoint,
    network: Classifier,
    images: Images,
    layers: dict[str, graph.Layer],
    ranges: int,
) -> None:
    """The rest, once ``folder`` holds both graphs; ranges: the number of images."""
    photos, spec, names = images.photos, checkpoint.recipe.input, efficientnet_lite.published_names()
    learnt = learn_novelty(folder, layers[graph.HEAD], images)
    fill(folder / MODEL, layers, plain(names))
    fill(folder / GRAPHS["int8"], layers, quantized(onnx.load(folder / GRAPHS["int8"]), names))

    expected = evaluate.logits_of(network, checkpoint, photos, device="cpu")
    logits = export.logits_of(export.open_session(folder / MODEL), photos.pixels)
    golden = preprocess(GOLDEN_IMAGE.read_bytes(), spec)[None]
    answered = export.logits_of(export.open_session(folder / MODEL), golden)
    np.savez_compressed(folder / GOLDEN, images=golden, logits=answered)
    chosen = calibration.choose(logits, photos.targets)
    evaluation = evaluated(photos, logits, expected, export.measure(folder, photos, logits), learnt.photos)
    facts = Facts(evaluation, chosen.temperature, chosen.threshold, ranges, learnt)
    (folder / CARD).write_text(card(facts))
    (folder / package.LABELS).write_bytes((package.HERE / package.LABELS).read_bytes())
    manifest = described(folder, checkpoint, facts, export.open_session(folder / MODEL))
    manifests.write(package.HERE, manifest)
    for name in (CARD, GOLDEN):
        (package.HERE / name).write_bytes((folder / name).read_bytes())


def learn_novelty(folder: Path, head: graph.Layer, images: Images) -> "Learnt":
    """Add the novelty to both graphs: the photographs give the mean, they and what else is known the distances."""
    session = export.open_session(folder / MODEL)

    def given(pixels: Pixels) -> Given:
        return export.logits_of(session, pixels), export.values_of(session, pixels, "features")

    photos, known = given(images.photos.pixels), given(images.known)
    angle = of_head(*head, photos[1].mean(0))
    curve = novelty.fit_curve(np.concatenate([angle.distance(*photos), angle.distance(*known)]))
    for name in (MODEL, GRAPHS["int8"]):
        nodes = Nodes()
        put_out(nodes, class_distance(nodes, angle), curve)
        extend(folder / name, nodes)
    alone = out_of_folds(head, photos, known)
    others = {name: curve.novelty(angle.distance(*given(pixels))) for name, pixels in images.others.items()}
    return Learnt(alone, len(images.known), others, retrieval(known[1], images.targets))


def out_of_folds(head: graph.Layer, photos: Given, known: Given) -> NDArray[np.floating]:
    """The novelty of each photograph (n,) by what the other four fifths of them teach."""
    logits, features = photos
    fold = np.random.default_rng(0).permutation(len(logits)) % calibration.FOLDS
    found = np.empty(len(logits))
    for k in range(calibration.FOLDS):
        angle = of_head(*head, features[fold != k].mean(0))
        distances = angle.distance(logits, features)
        curve = novelty.fit_curve(np.concatenate([distances[fold != k], angle.distance(*known)]))
        found[fold == k] = curve.novelty(distances[fold == k])
    return found


class Learnt(NamedTuple):
    """The novelty of each photograph, learnt without it; how many images are known besides; the novelty of others, by name; what
    the features of the known are worth."""

    photos: NDArray[np.floating]
    known: int
    others: dict[str, NDArray[np.floating]]
    retrieval: dict[str, float]


class Facts(NamedTuple):
    """temperature, threshold: chosen. ranges: how many images the ranges of int8 are of. novelty: see Learnt."""

    evaluation: Evaluation
    temperature: float
    threshold: float
    ranges: int
    novelty: Learnt


def plain(names: dict[str, str]) -> Initializers:
    """The initializers of the exported graph that hold weights."""
    found: Initializers = {}
    for published, ours in names.items():
        layer, own = published.removesuffix(".weight"), f"classifier.{ours}"
        if published == f"{graph.HEAD}.weight":
            found |= {own: (layer, "weight", 1.0), own.replace("weight", "bias"): (layer, "bias", 1.0)}
        elif layer.rpartition(".")[2] in graph.NORMS:
            found |= {own: (layer, "weight", 1.0), f"{own}_bias": (layer, "bias", 1.0)}
    return found


def quantized(model: onnx.ModelProto, names: dict[str, str]) -> Initializers:
    """The same of the int8 graph."""
    values = {one.name: one for one in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}
    scales: dict[str, float] = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and node.input[1] in made:  # novelty is not quantized
            weight = made[node.input[1]].input[0].removesuffix("_quantized")
            scales[weight] = float(numpy_helper.to_array(values[made[node.input[0]].input[1]]))
    found: Initializers = {}
    for name, (layer, what, _) in plain(names).items():
        weight = what == "weight"
        scale = scales[name if weight else name.replace("head.bias", "head.weight").removesuffix("_bias")]
        found[f"{name}_quantized"] = (layer, "int8 weight" if weight else "int32 bias", scale)
        found[f"{name}_scale" if weight else f"{name}_quantized_scale"] = (
            layer,
            "int8 scale" if weight else "int32 scale",
            scale,
        )
    return found


def fill(path: Path, layers: dict[str, graph.Layer], wanted: Initializers) -> None:
    """Write the skeleton of the graph at ``path`` into models/imagenet, and the graph as it comes out of that."""
    model, random = onnx.load(path), np.random.default_rng(0)
    marks: dict[str, bytes] = {}
    for one in model.graph.initializer:
        if one.name in wanted:
            layer, what, scale = wanted[one.name]
            values = graph.content(layers[layer], what, scale)
            check(one, values)
            marks[one.name] = random.bytes(values.nbytes)  # to be found by
            one.ClearField("float_data")
            one.ClearField("int32_data")
            one.raw_data = marks[one.name]
    if missing := wanted.keys() - marks.keys():
        raise SystemExit(f"{path} has no {', '.join(sorted(missing))}")
    data = model.SerializeToString(deterministic=True)
    holes: list[Hole] = []
    for name, mark in marks.items():
        assert data.count(mark) == 1
        holes.append(Hole(data.index(mark), *wanted[name]))
        data = data.replace(mark, bytes(len(mark)))
    skeleton = Skeleton(holes, lzma.compress(data, preset=9))
    (package.HERE / package.SKELETONS[path.name]).write_bytes(msgspec.msgpack.encode(skeleton))
    path.write_bytes(skeleton.filled(layers))


def check(one: onnx.TensorProto, values: NDArray[Any]) -> None:
    """What the exporter put there is what ours comes to; integers depend on the scale that was chosen."""
    theirs = numpy_helper.to_array(one)
    assert (theirs.shape, theirs.dtype) == (values.shape, values.dtype), one.name
    if one.name.endswith(("weight", "bias")):
        np.testing.assert_allclose(values, theirs, rtol=1e-4, atol=1e-5 * float(np.abs(theirs).max()), err_msg=one.name)


def evaluated(
    photos: ImageSet,
    logits: NDArray[np.float32],
    expected: NDArray[np.float32],
    providers: list[dict[str, Any]],
    novelties: NDArray[np.floating],
) -> Evaluation:
    folds, known = calibration.choose_out_of_folds(logits, photos.targets), novelties <= novelty.THRESHOLD
    found = evaluate.accuracy(logits, photos) | evaluate.honesty(logits, photos.targets, *folds, known)
    measured = {key: found[key] for key in Evaluation.__struct_fields__ if key in found}
    return Evaluation(
        dataset="125 photographs, one of every eighth class",
        split="smoke test: probably images that the weights were trained on",
        dataset_sha256=dataset.fingerprint(photos),
        samples=len(photos),
        parity_max_difference=float(np.abs(logits - expected).max()),
        parity_same_top1=float((logits.argmax(1) == expected.argmax(1)).mean()),
        providers=[Accuracy(**figure) for figure in providers],
        fitted_temperature=None,
        novel=round(float((~known).mean()), 4),
        **measured,
    )


def described(folder: Path, checkpoint: Checkpoint, facts: Facts, session: Any) -> Manifest:
    spec = checkpoint.recipe.input
    source = provenance.describe()
    return Manifest(
        schema=manifests.SCHEMA,
        name=package.NAME,
        version=1,
        created=datetime.now(UTC),
        architecture=checkpoint.recipe.architecture,
        labels=list(checkpoint.classes),
        input=spec,
        preprocessing=fingerprint(spec),
        outputs={output.name: output.shape[1:] for output in session.get_outputs()},
        temperature=round(facts.temperature, 4),
        threshold=facts.threshold,
        novelty_threshold=novelty.THRESHOLD,
        evaluation=facts.evaluation,
        provenance={
            "weights": package.WEIGHTS.name,
            "weights_sha256": package.SHA256,
            "package": f"{package.PACKAGE} {package.VERSION}",
            "licence": "Apache-2.0",
            "published_top1": PUBLISHED_TOP1,
            "mean": checkpoint.mean,
            "std": checkpoint.std,
            "libraries": source["libraries"],
            "hardware": source["hardware"],
        },
        files={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())},
    )


def card(facts: Facts) -> str:
    found, low_high = facts.evaluation, wilson(facts.evaluation.top1, facts.evaluation.samples)
    rows = "\n".join(f"| top-1 on {a.provider}, {a.precision} | {round(a.top1 * found.samples)} |" for a in found.providers)
    assert found.accuracy_kept is not None
    others = "\n".join(_other_row(name, values, facts.novelty.photos) for name, values in facts.novelty.others.items())
    worth = facts.novelty.retrieval
    return f"""# {package.NAME}

{efficientnet_lite.NAME} for the 1,000 classes of ImageNet, 224x224 pixels RGB (shorter side resized to 256, centre cut out,
bicubic). `{package.LABELS}` has the WordNet id beside the name of each class, in the order of the outputs.

## Whose it is

The weights are not ours and are not in our repository: they are installed as the Python package
`{package.PACKAGE}` {package.VERSION} (Copyright (c) 2020, ML Illustrated, Apache License 2.0; derived from \
EfficientNet-Lite of the
TensorFlow Authors, Apache License 2.0), `{package.WEIGHTS.name}`, SHA-256 {package.SHA256[:16]}. \
The graph is our own export, with
the batch norms in the convolutions. int8: weights of 7 bits, a scale for each channel; ranges of activations taken by us
on {facts.ranges} images.

## Figures

Published by others, of the 50,000 validation images of ImageNet: top-1 {100 * PUBLISHED_TOP1:.1f} %. **We did not measure that.**

Measured by us, on {found.samples} photographs, one of every eighth class. They are probably among the images that the weights
were trained on, so this is a smoke test and no accuracy:

| of {found.samples} photographs | right |
| --- | --- |
| top-1 | {round(found.top1 * found.samples)} ({100 * low_high[0]:.1f} to {100 * low_high[1]:.1f} %, 95 %) |
| among the first five | {round(found.top5 * found.samples)} |
{rows}
| novelty above {novelty.THRESHOLD} | {(facts.novelty.photos > novelty.THRESHOLD).sum()} |
| answers not "unsure" (probability at least {facts.threshold}, novelty at most {novelty.THRESHOLD}) | \
{round(found.coverage * found.samples)} |
| of these right | {100 * found.accuracy_kept:.1f} % |

Temperature ({facts.temperature:.4g}) and threshold were chosen on these {found.samples} photographs; what is "unsure" and the
calibration error, {found.calibration_error:.3f}, were measured on each fifth of them with what the other four fifths chose. On
photographs that it never saw the network is wrong more often, and surer of it than these figures say.

ONNX Runtime against torch, worst logit: {found.parity_max_difference:.1e}.

**Novelty** is told without the images that the weights were trained on, which nobody here has: it is the share of \
{found.samples} photographs
above and {facts.novelty.known} of ants and bees whose features point closer to what the head looks for in some class. \
Measured on each fifth of
the photographs with what the others teach:

| | images | median novelty | above {novelty.THRESHOLD} | area under the ROC against the photographs |
| --- | --- | --- | --- | --- |
| photographs | {found.samples} | {np.median(facts.novelty.photos):.2f} | \
{(facts.novelty.photos > novelty.THRESHOLD).sum()} | |
{others}

Features, on the {facts.novelty.known} photographs of ants and bees: the nearest other one is of the same kind for \
{100 * worth["recall_at_1"]:.1f} % (recall@1), mean
average precision {100 * worth["mean_average_precision"]:.1f} %.

## Limits

It knows these classes alone and gives every image one of them: 118 are breeds of dogs, and of people there are a scuba diver, a
baseball player and a bridegroom.

It has no reference to tell drift from: of the images that it was trained on we have none, and these photographs are like
nobody's traffic. So no gauge shows when what is sent changes, `hubel_drift_reference` is 0, and only feedback tells;
`hubel reference {package.NAME} DATA` publishes it again with a reference of your images, in folders that have its classes' names.
"""


def _other_row(name: str, values: NDArray[np.floating], photos: NDArray[np.floating]) -> str:
    truth = np.repeat([0, 1], [len(photos), len(values)])
    area = roc_auc_score(truth, np.concatenate([photos, values]))
    above = int((values > novelty.THRESHOLD).sum())
    return f"| {name} | {len(values)} | {np.median(values):.2f} | {above} | {area:.3f} |"


if __name__ == "__main__":
    main()
