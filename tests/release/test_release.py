"""make release: the same bytes for the same commit, and one version everywhere."""

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.release import __main__ as release
from tests.release.__main__ import ROOT, ReleaseError

WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small one in place of ours, without uv."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    author = ["-c", "user.name=a", "-c", "user.email=a@example"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True, timeout=60)

    def export(form: str, part: str, target: Path) -> None:
        serial = target.parent.stat().st_ino  # another each time, as uv has it
        target.write_text(json.dumps({"serialNumber": serial, "metadata": {"timestamp": serial}, "components": [part]}))

    monkeypatch.setattr(release, "ROOT", folder)
    monkeypatch.setattr(release, "export", export)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return folder


def test_the_files_are_the_same_bytes_each_time(repository: Path, tmp_path: Path) -> None:
    first, second = release.write(tmp_path / "a"), release.write(tmp_path / "b")
    assert [file.name for file in first] == [file.name for file in second]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    names = [file.name for file in first]
    assert names == ["hubel-1.2.3.tar.gz", *(f"hubel-1.2.3-sbom-{part}.json" for part in release.PARTS), "SHA256SUMS"]
    with tarfile.open(fileobj=io.BytesIO(first[0].read_bytes())) as archive:
        assert "hubel-1.2.3/pyproject.toml" in archive.getnames()
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "a", check=True, timeout=60)


def test_the_time_of_the_lists_is_that_of_the_commit_or_as_given(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    _, parts, *_ = release.write(tmp_path / "a")
    found = json.loads(parts.read_text())
    assert found["metadata"]["timestamp"] == "1970-01-02T00:00:00Z"
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", found["serialNumber"])


def test_what_is_not_committed_is_not_released(repository: Path, tmp_path: Path) -> None:
    (repository / "pyproject.toml").write_text('[project]\nversion = "1.2.4"\n')
    with pytest.raises(ReleaseError, match="not committed: commit or restore them"):
        release.write(tmp_path / "a")


def test_a_tag_is_that_of_the_version(repository: Path) -> None:
    release.check_tag("v1.2.3")
    with pytest.raises(ReleaseError, match=r"the tag is v1.2.4, pyproject.toml has version 1.2.3: tag v1.2.3, or"):
        release.check_tag("v1.2.4")


def test_without_an_engine_the_files_are_made_and_one_line_says_so(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(release, "DIST", repository / "dist")
    monkeypatch.setattr(release.shutil, "which", lambda name: None)
    assert release.main([]) == 0
    *files, last = capsys.readouterr().out.splitlines()
    assert len(files) == 2 + len(release.PARTS)
    assert last == "no image was built, as no Docker Engine answers"


def test_the_images_are_those_of_compose() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    built = {service["build"]["target"]: service["image"] for service in services if "build" in service}
    assert built == release.IMAGES


def test_the_workflow_runs_what_every_change_must_pass_and_pins_each_action_by_its_commit() -> None:
    jobs = yaml.safe_load(WORKFLOW)["jobs"]
    assert "bash .ci/run" in [step.get("run") for step in jobs["test"]["steps"]]
    assert jobs["release"]["needs"] == "test"
    assert any("make release" in step.get("run", "") for step in jobs["release"]["steps"])
    used = re.findall(r"uses: (\S+)", WORKFLOW)
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []
    assert yaml.safe_load(WORKFLOW)["permissions"] == {"contents": "read"}
