"""service/monitoring/feedback.py: what feedback on an answer counts as, the second time too, and what is refused."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models.captures import captured
from models.captures.captured import CapturedAnswer
from models.errors import PackageError
from service.errors import (
    ClientError,
    ExpiredAnswer,
    ForeignAnswer,
    InvalidAnswer,
    InvalidParameter,
    MalformedRequest,
    UnknownAnswer,
    UnsupportedMediaType,
)
from service.monitoring.answer_token import AnswerTokens
from service.monitoring.feedback import JUDGED, FeedbackIntake
from service.monitoring.feedback_json import MAX_FEEDBACKS, Feedback, FeedbackResult, check_type, parse


def take(intake: FeedbackIntake, client: str, feedback: Feedback) -> FeedbackResult:
    """What came of one feedback; raises what it was refused with."""
    (result,) = intake.take(client, [feedback])
    if isinstance(result, ClientError):
        raise result
    return result


TOKENS = AnswerTokens([b"k" * 32], "insects", 86_400)
R1 = TOKENS.sign("web", "01" * 16, 0, 1, 1, 0.9, False)
R2 = TOKENS.sign("web", "02" * 16, 3, 2, 2, 0.9, False)
R9 = TOKENS.sign("web", "09" * 16, 0, 9, 0, 0.9, False)
LABELS = {1: ("ant", "bee"), 2: ("ant", "bee", "fly")}


class Told:
    """Stands in for the keeper of images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[tuple[Any, ...]] = []

    def tell(self, client: str, answer_id: str, index: int, right: bool, given: str | None) -> None:
        self.told.append((client, answer_id, index, right, given))


@pytest.fixture
def counted() -> Counter[tuple[int, bool, bool]]:
    return Counter()


@pytest.fixture
def capture(tmp_path: Path) -> Told:
    return Told(tmp_path)


@pytest.fixture
def intake(capture: Told, counted: Counter[tuple[int, bool, bool]]) -> FeedbackIntake:
    def labels(version: int) -> Sequence[str]:
        if version not in LABELS:
            raise PackageError("gone")
        return LABELS[version]

    def count(version: int, right: bool, replaced: bool) -> None:
        counted[version, right, replaced] += 1

    return FeedbackIntake(TOKENS, labels, count, capture)


def test_a_label_is_compared_with_the_answer_of_the_version_that_gave_it(
    intake: FeedbackIntake, capture: Told, counted: Counter[tuple[int, bool, bool]]
) -> None:
    result = take(intake, "web", Feedback(R1, label="ant"))
    assert (result.model, result.version, result.label, result.right) == ("insects", 1, "bee", False)
    assert take(intake, "web", Feedback(R2, label="fly")).right
    assert counted == {(1, False, False): 1, (2, True, False): 1}
    assert capture.told == [("web", "01" * 16, 0, False, "ant"), ("web", "02" * 16, 3, True, "fly")]


@pytest.mark.parametrize("label", ["cafe\u0301", "CAF\u00c9", " caf\u00e9 ", "caf\u00e9"])
def test_a_label_may_be_written_in_another_way_and_is_noted_as_the_version_calls_it(
    label: str, intake: FeedbackIntake, capture: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LABELS, 1, ("ant", "caf\u00e9", "Bee", "bee"))
    assert take(intake, "web", Feedback(R1, label=label)).right
    assert capture.told == [("web", "01" * 16, 0, True, "caf\u00e9")]


def test_a_label_that_looks_like_two_is_neither_unless_it_is_one(intake: FeedbackIntake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LABELS, 1, ("Bee", "bee"))
    assert take(intake, "web", Feedback(R1, label="bee")).right
    assert not take(intake, "web", Feedback(R1, label="Bee")).right
    with pytest.raises(InvalidParameter, match="label is 'BEE'"):
        take(intake, "web", Feedback(R1, label="BEE"))


@pytest.mark.parametrize(("wrong", "right"), [(True, False), (False, True)])
def test_an_answer_can_be_called_wrong_or_right_without_a_label(
    intake: FeedbackIntake, capture: Told, wrong: bool, right: bool
) -> None:
    assert take(intake, "web", Feedback(R1, wrong=wrong)).right is right
    assert capture.told == [("web", "01" * 16, 0, right, None)]


def test_of_several_feedbacks_on_an_answer_the_last_one_counts(
    intake: FeedbackIntake, counted: Counter[tuple[int, bool, bool]]
) -> None:
    for label in ("bee", "bee", "ant", "ant", "bee"):
        take(intake, "web", Feedback(R1, label=label))
    right = counted[1, True, False] - counted[1, True, True]
    wrong = counted[1, False, False] - counted[1, False, True]
    assert (right, wrong) == (1, 0)
    assert counted == {(1, True, False): 2, (1, True, True): 1, (1, False, False): 1, (1, False, True): 1}


OLD = AnswerTokens(TOKENS.keys, "insects", -60).sign("web", "03" * 16, 0, 1, 1, 0.9, False)


@pytest.mark.parametrize(
    ("client", "answer", "refusal"),
    [
        ("web", R1[:-1] + ("A" if R1[-1] != "A" else "B"), InvalidAnswer),
        ("web", "01" * 16, InvalidAnswer),
        ("web", R1 * 100, InvalidAnswer),
        ("web", AnswerTokens([b"x" * 32], "insects", 86_400).sign("web", "01" * 16, 0, 1, 1, 0.9, False), InvalidAnswer),
        ("app", R1, ForeignAnswer),
        ("", R1, ForeignAnswer),
        ("web", OLD, ExpiredAnswer),
        ("web", AnswerTokens(TOKENS.keys, "birds", 86_400).sign("web", "01" * 16, 0, 1, 1, 0.9, False), UnknownAnswer),
        ("web", R9, UnknownAnswer),
    ],
    ids=["changed", "an id", "long", "another key", "another client", "no client", "expired", "another model", "version gone"],
)
def test_what_is_no_answer_to_this_client_is_refused_and_changes_nothing(
    intake: FeedbackIntake,
    capture: Told,
    counted: Counter[tuple[int, bool, bool]],
    client: str,
    answer: str,
    refusal: type[ClientError],
) -> None:
    with pytest.raises(refusal):
        take(intake, client, Feedback(answer, wrong=True))
    assert not counted
    assert not capture.told


def test_a_version_whose_labels_cannot_be_read_is_not_called_removed(intake: FeedbackIntake) -> None:
    with pytest.raises(UnknownAnswer, match="insects:9, which answered, cannot be read from the store any more"):
        take(intake, "web", Feedback(R9, wrong=True))


def test_the_same_feedback_at_a_process_that_shares_the_folder_counts_once(
    intake: FeedbackIntake, capture: Told, counted: Counter[tuple[int, bool, bool]]
) -> None:
    captured.prepare(capture.folder)
    now = datetime.now(UTC)
    answer = CapturedAnswer("01" * 16, 0, "web", "0.png", "insects", 1, "bee", 0.5, True, now, False, "ant", now)
    captured.write_answer(capture.folder, answer)
    assert not take(intake, "web", Feedback(R1, label="ant")).right
    assert not counted
    assert take(intake, "web", Feedback(R1, label="bee")).right
    assert counted == {(1, False, True): 1, (1, True, False): 1}


def test_so_many_answers_are_known_to_have_had_feedback_and_no_more(
    intake: FeedbackIntake, counted: Counter[tuple[int, bool, bool]]
) -> None:
    take(intake, "web", Feedback(R1, label="bee"))
    for i in range(JUDGED - 1):
        intake.judged[f"{i:032x}", 0] = True
    take(intake, "web", Feedback(R1, label="bee"))
    assert counted == {(1, True, False): 1}
    for i in range(JUDGED - 1, 2 * JUDGED - 2):
        answer = TOKENS.sign("web", f"{i:032x}", 0, 1, 1, 0.9, False)
        take(intake, "web", Feedback(answer, label="bee"))
    assert len(intake.judged) == JUDGED
    take(intake, "web", Feedback(R1, label="bee"))  # the oldest that is still known
    assert counted == {(1, True, False): JUDGED}


def test_a_label_that_its_version_does_not_know_is_refused_and_changes_nothing(
    intake: FeedbackIntake, counted: Counter[tuple[int, bool, bool]]
) -> None:
    with pytest.raises(InvalidParameter, match="label is 'fly'; insects:1 knows ant, bee; where none is right"):
        take(intake, "web", Feedback(R1, label="fly"))
    assert not counted


ONE = {"answer": "r1", "label": "ant"}


def test_one_feedback_or_a_list_of_them_is_read() -> None:
    assert parse(json.dumps(ONE).encode()) == [Feedback("r1", label="ant")]
    several = [ONE, {"answer": "r2", "wrong": True}]
    assert parse(json.dumps(several).encode()) == [
        Feedback("r1", label="ant"),
        Feedback("r2", wrong=True),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"answer": "r1"},
        {"answer": "r1", "label": "ant", "wrong": True},
        {"answer": "r1", "label": None},
        {"answer": "r1", "wrong": 1},
        {"answer": 7, "wrong": True},
        {"answer": None, "wrong": True},
        {"answer": "r1", "index": 1, "wrong": True},
        {"answer": "r1", "lable": "ant"},
        {"label": "ant"},
        {"id": "r1", "label": "ant"},
        [],
        "r1",
        [[ONE]],
    ],
)
def test_what_is_no_feedback_is_refused(body: object) -> None:
    with pytest.raises(MalformedRequest):
        parse(json.dumps(body).encode())


def test_labels_of_a_version_are_read_once_for_a_list(intake: FeedbackIntake) -> None:
    read: list[int] = []
    labels = intake.labels
    intake.labels = lambda version: read.append(version) or labels(version)
    several = [Feedback(R1, label="ant"), Feedback(R2, wrong=True), Feedback(R9, wrong=True)] * 11
    results = intake.take("web", several)
    assert [type(result) for result in results] == [FeedbackResult, FeedbackResult, UnknownAnswer] * 11
    assert sorted(read) == [1, 2, 9]


def test_an_answer_whose_version_has_fewer_labels_in_the_store_now_is_not_known(intake: FeedbackIntake) -> None:
    answer = TOKENS.sign("web", "07" * 16, 0, 1, 2, 0.9, False)
    with pytest.raises(UnknownAnswer, match="insects:1 in the store has 2 labels"):
        take(intake, "web", Feedback(answer, wrong=True))


HEAD, TAIL = b'{"answer": "r1", ', b"}"
NASTY = {
    "deep labels": HEAD + b'"label": ' + b"[" * 120_000,
    "deep and unknown": HEAD + b'"x": ' + b'{"a":' * 40_000 + b"1" + b"}" * 40_000 + TAIL,
    "deep list": b"[" * 50_000 + b"]" * 50_000,
    "huge number": HEAD + b'"wrong": ' + b"9" * 100_000 + TAIL,
    "infinite number": HEAD + b'"wrong": 1e999' + TAIL,
    "no number": HEAD + b'"wrong": NaN' + TAIL,
    "half a surrogate": HEAD + b'"label": "\\ud83d", "wrong": 0.5' + TAIL,
    "the other half": b'{"answer": "\\udc00", "wrong": true}',
    "half a surrogate as bytes": b'{"answer": "\xed\xa0\xbd", "wrong": true}',
    "many numbers": b"[" + b"1," * 99_999 + b"1]",
    "many empty objects": b"[" + b"{}," * 80_000 + b"{}]",
    "a name without end": b'{"' + b"x" * 200_000 + b'": 1}',
    "the same name often": b"{" + b'"answer": "r",' * 99 + b'"wrong": 3}',
    "another encoding": json.dumps(ONE).encode("utf-16"),
    "a mark of order": b"\xef\xbb\xbf" + json.dumps(ONE).encode(),
}


@pytest.mark.parametrize("body", NASTY.values(), ids=NASTY.keys())
def test_json_that_is_made_to_break_a_reader_is_refused_in_few_words(body: bytes) -> None:
    with pytest.raises((MalformedRequest, InvalidParameter)) as caught:
        parse(body)
    assert len(json.dumps(str(caught.value)).encode()) < 2000


PIECES = [
    b'"answer"',
    b'"r1"',
    b":",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"id"',
    b"1e308",
    b"-1",
    b'"label"',
    b'"wrong"',
    b"true",
    b"null",
    b'"\\ud800"',
    b"2147483647.5",
    b"1e-400",
    b'"\\u0000"',
    b"\xff",
    b"[" * 3000,
    b"9" * 400,
]


def test_json_with_pieces_exchanged_is_read_or_refused() -> None:
    rng = random.Random(3)
    good = [b"[", b"{", b'"answer"', b":", b'"r1"', b",", b'"wrong"', b":", b"true", b"}", b"]"]
    read = 0
    for _ in range(20_000):
        body = list(good)
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body))] = rng.choice(PIECES)
        try:
            found = parse(b"".join(body))
        except (MalformedRequest, InvalidParameter):
            continue
        read += 1
        assert all(isinstance(one, Feedback) for one in found)
    assert 100 < read < 19_000


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse(body)


def test_too_many_feedbacks_are_refused_unread() -> None:
    assert len(parse(json.dumps([ONE] * MAX_FEEDBACKS).encode())) == MAX_FEEDBACKS
    with pytest.raises(InvalidParameter, match="more than 100 feedbacks"):
        parse(json.dumps([ONE] * (MAX_FEEDBACKS + 1)).encode())


def test_a_label_that_is_called_as_a_field_is_counts_as_none() -> None:
    pair = [{"answer": "answer", "label": "answer"}, {"answer": "id", "label": '"answer":'}]
    body = json.dumps(pair * (MAX_FEEDBACKS // 2)).encode()
    assert len(parse(body)) == MAX_FEEDBACKS


def test_braces_in_a_label_are_not_taken_for_feedbacks() -> None:
    label = "{" * 2 * MAX_FEEDBACKS
    assert parse(json.dumps(ONE | {"label": label}).encode()) == [Feedback("r1", label=label)]


def test_more_feedbacks_than_allowed_are_refused_also_where_their_names_are_written_otherwise() -> None:
    body = json.dumps([ONE] * (MAX_FEEDBACKS + 1)).replace("answer", "answe\\u0072").encode()
    with pytest.raises(InvalidParameter, match="more than 100 feedbacks"):
        parse(body)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_content_type_that_any_web_page_may_send_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="feedback is sent as application/json"):
        check_type(kind)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_is_known_however_it_is_written(kind: str) -> None:
    check_type(kind)
