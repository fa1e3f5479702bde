"""service/bulk/ray_data.py: the same rows as of one process, and paths that other machines find."""

import os
import tempfile
from pathlib import Path

import msgspec
import pytest

from service.bulk import ray_data
from service.bulk.errors import BulkError
from service.bulk.local import LocalModel
from service.bulk.row import Row, row_of
from service.bulk.walk import walk
from service.settings import Settings
from tests.factories import LABELS, make_image
from tests.server import ROOT
from tests.service.bulk.packing import pack_zip


def fill(folder: Path, n: int) -> Path:
    folder.mkdir()
    for number in range(n):
        (folder / f"{number:03}.jpg").write_bytes(make_image(seed=number, color=LABELS[number % 3]))
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def test_paths_are_absolute_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "a", 2)
    monkeypatch.chdir(tmp_path)
    for item in walk(["a"]).items:
        path = ray_data.path_of(item)
        assert path == f"{tmp_path}/{item.path}"
        assert ray_data.item_of(path).source.read(10**6) == item.source.read(10**6)


def test_members_of_archives_are_refused(tmp_path: Path) -> None:
    (item,) = walk([str(pack_zip(tmp_path / "x.zip", {"a.jpg": b""}))]).items
    with pytest.raises(BulkError, match="is in an archive, which is not handed to other machines; unpack it"):
        ray_data.path_of(item)


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_gives_the_rows_of_one_process(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    config = Settings(store=str(tiny_store), model="tiny", device="cpu", threads=1)
    folder = fill(tmp_path / "a", 200)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("HOME", str(tmp_path))  # where it writes a token
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short:  # as names of sockets are
        ray.init(num_cpus=4, include_dashboard=False, _temp_dir=short)
        try:
            ray_data.classify([str(folder)], str(tmp_path / "out"), config, actors=1, cpus=1)
        finally:
            ray.shutdown()
    rows = [msgspec.convert(row, Row) for row in parquet.read_table(tmp_path / "out").to_pylist()]
    pairs = LocalModel(config).classify(walk([str(folder)]).items)
    assert sorted(rows, key=lambda row: row.path) == [row_of(item.path, result) for item, result in pairs]
