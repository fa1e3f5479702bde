"""service/similar/near_copies.py: the groups of a comparison of all with all."""

from pathlib import Path

import numpy as np
import pytest

from service.similar.near_copies import near_copies
from tests.service.similar.indexes import make_index, make_vectors


def test_pairs_above_the_threshold_are_grouped_the_most_alike_first(tmp_path: Path) -> None:
    vectors = np.eye(6, 8, dtype=np.float32)
    vectors[1] = [0.99, np.sqrt(1 - 0.99**2), 0, 0, 0, 0, 0, 0]  # like 0
    vectors[3] = [0, 0, 0.96, 0, 0, 0, 0.28, 0]  # like 2, and
    vectors[5] = [0, 0, 0.8432, 0, 0, 0, 0.5376, 0]  # like 3 and not like 2: a chain
    found = near_copies(make_index(tmp_path, vectors), 0.95)
    assert [(group.images, group.score) for group in found] == [
        (["some/0.jpg", "some/1.jpg"], pytest.approx(0.99, abs=1e-6)),
        (["some/2.jpg", "some/3.jpg", "some/5.jpg"], pytest.approx(0.96, abs=1e-3)),
    ]


def test_files_with_the_same_content_are_a_group_whatever_their_features(tmp_path: Path) -> None:
    index = make_index(tmp_path, np.eye(4, 8, dtype=np.float32), contents=[b"a", b"b", b"a", b"a"])
    (group,) = near_copies(index, 1.0)
    assert (group.images, group.score) == (["some/0.jpg", "some/2.jpg", "some/3.jpg"], 1.0)


def test_with_stand_ins_the_groups_are_those_of_a_comparison_of_all(tmp_path: Path) -> None:
    vectors = make_vectors(4200, 512)
    vectors[4000] = vectors[17]
    index = make_index(tmp_path, vectors)
    assert index.bounds is not None
    found = {frozenset(group.images) for group in near_copies(index, 0.98)}
    index.bounds = None
    assert found == {frozenset(group.images) for group in near_copies(index, 0.98)}
    assert any({"some/17.jpg", "some/4000.jpg"} <= group for group in found)


def test_it_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[int] = []
    near_copies(make_index(tmp_path, make_vectors(30, 8)), 0.9, told.append)
    assert sum(told) == 30
