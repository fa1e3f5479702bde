"""Mutated, lying and invalid image files, over HTTP: refused or answered, by the processes that were there before."""

import os

import pytest

from tests.client import assert_problem
from tests.hostile.mutations import MAX_GROWTH, attack, corpus, outcome
from tests.server import Server

pytestmark = pytest.mark.server
SEED = int(os.environ.get("HUBEL_TEST_SEED", "20261125"))


def test_the_corpus_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    files = list(corpus(SEED, 300))
    assert list(corpus(SEED, 300)) == files
    assert len(set(files)) > 280
    assert len(set(files) & set(corpus(SEED + 1, 300))) < 160  # those with a name


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.long)])
def test_bad_files_are_refused_or_answered_and_cost_neither_a_process_nor_memory(server: Server, count: int) -> None:
    answers, growth = attack(server, SEED, count)
    codes = {outcome(answer) for answer in answers}
    for answer in answers:
        if answer.status_code != 200:
            assert answer.status_code < 500, (SEED, answer.text)
            assert_problem(answer, answer.status_code, answer.json()["code"])
    assert {(200, ""), (400, "undecodable_image"), (413, "image_too_large"), (415, "unsupported_format")} <= codes
    assert len(answers) == count
    assert growth < MAX_GROWTH
