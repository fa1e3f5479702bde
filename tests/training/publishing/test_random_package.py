"""training/publishing/random_package.py: a package for measuring speed, made without data."""

from pathlib import Path

import pytest

from models.image.spec import InputSpec
from models.registry import registry
from tests.training import gpu
from training import provenance
from training.__main__ import main
from training.publishing import export, random_package


def test_a_network_with_random_weights_is_published_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_package, "INPUT", InputSpec(height=32, width=32, resize=32))
    monkeypatch.setattr(random_package, "IMAGES", 8)

    assert main(["export", "--architecture", "resnet10-small", "--weights", "none", "--store", str(tmp_path)]) == 0

    manifest = registry.verify(tmp_path / "resnet10-small" / "1")
    assert (len(manifest.labels), manifest.evaluation.split, manifest.evaluation.top1) == (1000, "agreement", 1.0)
    assert {a.top1 for a in manifest.evaluation.providers if a.precision == "fp32"} == {1.0}
    card = (tmp_path / "resnet10-small" / "1" / "card.md").read_text()
    assert "Its weights are random: it is for measuring speed, its answers mean nothing." in card


def test_its_classes_are_what_the_cpu_answers_also_where_there_is_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_package, "INPUT", InputSpec(height=32, width=32, resize=32))
    monkeypatch.setattr(random_package, "IMAGES", 8)
    used = gpu.pretend(monkeypatch)
    monkeypatch.setattr(provenance, "gpu", list[str])

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "write_graphs", stop)
    with pytest.raises(KeyboardInterrupt):
        random_package.publish("resnet10-small", tmp_path)

    assert set(used) == {"cpu"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--architecture", "resnet51"], "unknown architecture 'resnet51'; known are "),
        (
            ["run", "data", "--architecture", "resnet50"],
            "give a run and its data, or --architecture and --weights",
        ),
        (["run"], "give the folder of a run and the data it was trained on, or --architecture"),
    ],
)
def test_a_command_that_says_too_little_or_too_much_is_refused(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *arguments, "--store", str(tmp_path)]) == 1
    assert reason in capsys.readouterr().err
