"""service/monitoring/feedback.py: what feedback on an answer counts as, the second time too, and what is refused."""

import fcntl
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models.captures import captured
from models.captures.captured import CapturedAnswer
from models.errors import PackageError
from service.errors import ClientError, InvalidParameter, MalformedRequest, Overloaded, UnknownAnswer, UnsupportedMediaType
from service.monitoring.answer_log import AnswerLog
from service.monitoring.capture import Bounds, Capture
from service.monitoring.feedback import FeedbackIntake
from service.monitoring.feedback_json import MAX_FEEDBACKS, Feedback, FeedbackResult, check_type, parse
from tests.factories import make_image


def take(intake: FeedbackIntake, client: str, feedback: Feedback) -> FeedbackResult:
    """What came of one feedback; raises what it was refused with."""
    (result,) = intake.take(client, [feedback])
    if isinstance(result, ClientError):
        raise result
    return result


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
def intake(tmp_path: Path, capture: Told, counted: Counter[tuple[int, bool, bool]]) -> FeedbackIntake:
    def labels(version: int) -> Sequence[str]:
        if version not in LABELS:
            raise PackageError("gone")
        return LABELS[version]

    def count(version: int, right: bool, replaced: bool) -> None:
        counted[version, right, replaced] += 1

    recent = AnswerLog(tmp_path, "worker-0", 16)
    recent.write("web", "r1", 0, 1, 0.9, 1, False)
    recent.write("web", "r2", 3, 2, 0.9, 2, False)
    recent.write("web", "r9", 0, 9, 0.9, 0, False)
    return FeedbackIntake("insects", recent, labels, count, capture)


def test_a_label_is_compared_with_the_answer_of_the_version_that_gave_it(
    intake: FeedbackIntake, capture: Told, counted: Counter[tuple[int, bool, bool]]
) -> None:
    result = take(intake, "web", Feedback("r1", label="ant"))
    assert (result.model, result.version, result.label, result.right) == ("insects", 1, "bee", False)
    assert take(intake, "web", Feedback("r2", index=3, label="fly")).right
    assert counted == {(1, False, False): 1, (2, True, False): 1}
    assert capture.told == [("web", "r1", 0, False, "ant"), ("web", "r2", 3, True, "fly")]


@pytest.mark.parametrize("label", ["cafe\u0301", "CAF\u00c9", " caf\u00e9 ", "caf\u00e9"])
def test_a_label_may_be_written_in_another_way_and_is_noted_as_the_version_calls_it(
    label: str, intake: FeedbackIntake, capture: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LABELS, 1, ("ant", "caf\u00e9", "Bee", "bee"))
    assert take(intake, "web", Feedback("r1", label=label)).right
    assert capture.told == [("web", "r1", 0, True, "caf\u00e9")]


def test_a_label_that_looks_like_two_is_neither_unless_it_is_one(intake: FeedbackIntake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LABELS, 1, ("Bee", "bee"))
    assert take(intake, "web", Feedback("r1", label="bee")).right
    assert not take(intake, "web", Feedback("r1", label="Bee")).right
    with pytest.raises(InvalidParameter, match="label is 'BEE'"):
        take(intake, "web", Feedback("r1", label="BEE"))


@pytest.mark.parametrize(("wrong", "right"), [(True, False), (False, True)])
def test_an_answer_can_be_called_wrong_or_right_without_a_label(
    intake: FeedbackIntake, capture: Told, wrong: bool, right: bool
) -> None:
    assert take(intake, "web", Feedback("r1", wrong=wrong)).right is right
    assert capture.told == [("web", "r1", 0, right, None)]


def test_of_several_feedbacks_on_an_answer_the_last_one_counts(
    intake: FeedbackIntake, counted: Counter[tuple[int, bool, bool]]
) -> None:
    for label in ("bee", "bee", "ant", "ant", "bee"):
        take(intake, "web", Feedback("r1", label=label))
    right = counted[1, True, False] - counted[1, True, True]
    wrong = counted[1, False, False] - counted[1, False, True]
    assert (right, wrong) == (1, 0)
    assert counted == {(1, True, False): 2, (1, True, True): 1, (1, False, False): 1, (1, False, True): 1}


@pytest.mark.parametrize(
    ("client", "feedback"),
    [
        ("web", Feedback("r3", wrong=True)),
        ("web", Feedback("r1", index=1, wrong=True)),
        ("app", Feedback("r1", wrong=True)),
        ("", Feedback("r1", wrong=True)),
        ("web", Feedback("r9", wrong=True)),  # its version is gone from the store
    ],
)
def test_what_is_not_remembered_is_not_found_nor_another_client_s(
    intake: FeedbackIntake, counted: Counter[tuple[int, bool, bool]], client: str, feedback: Feedback
) -> None:
    with pytest.raises(UnknownAnswer):
        take(intake, client, feedback)
    assert not counted


def test_who_is_not_known_here_is_told_what_is_and_where_else_to_go(intake: FeedbackIntake) -> None:
    with pytest.raises(UnknownAnswer) as caught:
        take(intake, "web", Feedback("of-another-replica", index=2, wrong=True))
    said = str(caught.value)
    assert said.startswith("no label of image 2 of the answer of-another-replica is known here for you; ")
    assert "the last 16 of each process since the service was started (HUBEL_FEEDBACK_ANSWERS)" in said
    assert "by this service: another one behind the same address knows its own" in said
    assert "to the service that answered, or let all share one HUBEL_FEEDBACK_DIR" in said
    assert "those whose image is kept" in said
    assert "an answer goes by its id, which it holds (X-Answer-ID), not by an X-Request-ID that was sent" in said
    intake.capture = None
    with pytest.raises(UnknownAnswer) as caught:
        take(intake, "web", Feedback("of-another-replica", index=2, wrong=True))
    assert "those whose image is kept" not in str(caught.value)


def test_a_version_whose_labels_cannot_be_read_is_not_called_removed(intake: FeedbackIntake) -> None:
    with pytest.raises(UnknownAnswer, match="insects:9, which answered, cannot be read from the store any more"):
        take(intake, "web", Feedback("r9", wrong=True))


def test_replicas_that_share_a_folder_take_feedback_on_the_answers_of_one_another(intake: FeedbackIntake, capture: Told) -> None:
    captured.prepare(capture.folder)
    bounds = Bounds(images=10, seconds=100, bytes=10**6, share=1, wait=100)
    other = Capture(capture.folder, bounds)
    other.offer(make_image(), CapturedAnswer("theirs", 0, "web", "", "insects", 1, "bee", 0.9, False, datetime.now(UTC)))
    other.close()
    assert not take(intake, "web", Feedback("theirs", label="ant")).right


def test_a_label_that_its_version_does_not_know_is_refused_and_changes_nothing(
    intake: FeedbackIntake, counted: Counter[tuple[int, bool, bool]]
) -> None:
    with pytest.raises(InvalidParameter, match="label is 'fly'; insects:1 knows ant, bee; where none is right"):
        take(intake, "web", Feedback("r1", label="fly"))
    assert not counted


def test_an_answer_that_the_folder_alone_remembers_is_taken_too(
    intake: FeedbackIntake, capture: Told, counted: Counter[tuple[int, bool, bool]]
) -> None:
    captured.prepare(capture.folder)
    answer = CapturedAnswer("old", 0, "web", "0.png", "insects", 2, "fly", 0.5, True, datetime.now(UTC))
    captured.write_answer(capture.folder, answer)
    assert not take(intake, "web", Feedback("old", label="bee")).right
    assert counted == {(2, False, False): 1}
    with pytest.raises(UnknownAnswer):
        take(intake, "", Feedback("old", label="bee"))


ONE = {"id": "r1", "label": "ant"}


def test_one_feedback_or_a_list_of_them_is_read() -> None:
    assert parse(json.dumps(ONE).encode()) == [Feedback("r1", label="ant")]
    several = [ONE, {"id": "r2", "index": 3, "wrong": True}]
    assert parse(json.dumps(several).encode()) == [
        Feedback("r1", label="ant"),
        Feedback("r2", 3, wrong=True),
    ]


def test_a_whole_number_may_be_written_with_a_point(intake: FeedbackIntake) -> None:
    (feedback,) = parse(b'{"id": "r2", "index": 3.0, "label": "fly"}')
    result = take(intake, "web", feedback)
    assert (result.index, result.right) == (3, True)
    assert isinstance(result.index, int)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "r1"},
        {"id": "r1", "label": "ant", "wrong": True},
        {"id": "r1", "label": None},
        {"id": "r1", "wrong": 1},
        {"id": "../r1", "wrong": True},
        {"id": "r1\n", "wrong": True},
        {"id": "r" * 65, "wrong": True},
        {"id": "r1", "index": -1, "wrong": True},
        {"id": "r1", "index": 1.5, "wrong": True},
        {"id": "r1", "index": "1", "wrong": True},
        {"id": "r1", "lable": "ant"},
        {"label": "ant"},
        {"id": "r1", "request_id": "r1", "label": "ant"},
        {"request_id": "../r1", "wrong": True},
        [],
        "r1",
        [[ONE]],
    ],
)
def test_what_is_no_feedback_is_refused(body: object) -> None:
    with pytest.raises(MalformedRequest):
        parse(json.dumps(body).encode())


def test_while_another_process_keeps_the_lock_nothing_is_taken_and_what_needs_none_is_answered(
    intake: FeedbackIntake, capture: Told, counted: Counter[tuple[int, bool, bool]], tmp_path: Path
) -> None:
    other = AnswerLog(tmp_path, "worker-1", 16)
    with other.alone(time.monotonic()):
        with pytest.raises(Overloaded, match="nothing of this request was taken; try again in 1 s") as caught:
            intake.take("web", [Feedback("r1", wrong=True), Feedback("unknown", wrong=True)], until=time.monotonic() + 0.05)
        assert caught.value.headers() == {"retry-after": "1"}
        (unknown,) = intake.take("web", [Feedback("unknown", wrong=True)])
        assert isinstance(unknown, UnknownAnswer)
    assert not counted
    assert not capture.told
    assert not take(intake, "web", Feedback("r1", wrong=True)).right
    assert counted == {(1, False, False): 1}


def test_a_list_is_marked_under_one_lock_and_labels_of_a_version_are_read_once(
    intake: FeedbackIntake, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    taken: list[int] = []
    labels, flock = intake.labels, fcntl.flock
    intake.labels = lambda version: read.append(version) or labels(version)
    monkeypatch.setattr(fcntl, "flock", lambda lock, what: taken.append(what) or flock(lock, what))
    ids = [Feedback("r1", label="ant"), Feedback("r2", index=3, wrong=True), Feedback("r9", wrong=True)] * 11
    results = intake.take("web", ids)
    assert [type(result) for result in results] == [FeedbackResult, FeedbackResult, UnknownAnswer] * 11
    assert sorted(read) == [1, 2, 9]
    assert taken == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN]


def test_said_many_times_in_a_request_an_answer_that_the_folder_remembers_counts_once(
    intake: FeedbackIntake, capture: Told, counted: Counter[tuple[int, bool, bool]]
) -> None:
    captured.prepare(capture.folder)
    captured.write_answer(
        capture.folder, CapturedAnswer("old", 0, "web", "0.png", "insects", 2, "fly", 0.5, True, datetime.now(UTC))
    )
    intake.take("web", [Feedback("old", wrong=wrong) for wrong in (True, False) * 30])
    assert counted == {(2, True, False): 1}
    assert len(capture.told) == 60


def test_an_answer_whose_version_has_fewer_labels_in_the_store_now_is_not_known(intake: FeedbackIntake) -> None:
    intake.recent.write("web", "r7", 0, 1, 0.9, 2, False)
    with pytest.raises(UnknownAnswer, match="insects:1 in the store has 2 labels"):
        take(intake, "web", Feedback("r7", wrong=True))


HEAD, TAIL = b'{"id": "r1", ', b"}"
NASTY = {
    "deep labels": HEAD + b'"label": ' + b"[" * 120_000,
    "deep and unknown": HEAD + b'"x": ' + b'{"a":' * 40_000 + b"1" + b"}" * 40_000 + TAIL,
    "deep list": b"[" * 50_000 + b"]" * 50_000,
    "huge index": HEAD + b'"wrong": true, "index": ' + b"9" * 100_000 + TAIL,
    "infinite index": HEAD + b'"wrong": true, "index": 1e999' + TAIL,
    "no number": HEAD + b'"wrong": true, "index": NaN' + TAIL,
    "half a surrogate": HEAD + b'"label": "\\ud83d", "index": 0.5' + TAIL,
    "the other half": b'{"id": "\\udc00", "wrong": true}',
    "half a surrogate as bytes": b'{"id": "\xed\xa0\xbd", "wrong": true}',
    "zero": b'{"id": "r1\\u0000", "wrong": true}',
    "many numbers": b"[" + b"1," * 99_999 + b"1]",
    "many empty objects": b"[" + b"{}," * 80_000 + b"{}]",
    "a name without end": b'{"' + b"x" * 200_000 + b'": 1}',
    "the same name often": b"{" + b'"id": "r",' * 99 + b'"wrong": 3}',
    "another encoding": json.dumps(ONE).encode("utf-16"),
    "a mark of order": b"\xef\xbb\xbf" + json.dumps(ONE).encode(),
}


@pytest.mark.parametrize("body", NASTY.values(), ids=NASTY.keys())
def test_json_that_is_made_to_break_a_reader_is_refused_in_few_words(body: bytes) -> None:
    with pytest.raises((MalformedRequest, InvalidParameter)) as caught:
        parse(body)
    assert len(json.dumps(str(caught.value)).encode()) < 2000


def test_a_number_that_is_as_good_as_zero_is_zero() -> None:
    for number in (b"1e-99999999999", b"-0." + b"0" * 9999 + b"1"):
        (found,) = parse(HEAD + b'"wrong": true, "index": ' + number + TAIL)
        assert found.index == 0


PIECES = [
    b'"id"',
    b'"r1"',
    b":",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"index"',
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
    good = [b"[", b"{", b'"id"', b":", b'"r1"', b",", b'"index"', b":", b"2", b",", b'"wrong"', b":", b"true", b"}", b"]"]
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


def test_an_answer_may_be_called_by_the_request_id_that_came_with_it_where_that_is_its_own() -> None:
    for name in ("id", "request_id"):
        (found,) = parse(json.dumps({name: "r1", "index": 1, "label": "ant"}).encode())
        assert (found.answer(), found.index, found.label) == ("r1", 1, "ant")
        with pytest.raises(InvalidParameter, match="more than 100 feedbacks"):
            parse(json.dumps([{name: "r1", "wrong": 7}] * (MAX_FEEDBACKS + 1)).encode())  # nothing of it is made


def test_a_label_that_is_called_as_a_field_is_counts_as_none() -> None:
    body = json.dumps([{"id": "id", "label": "id"}, {"id": "request_id", "label": '"id":'}] * (MAX_FEEDBACKS // 2)).encode()
    assert len(parse(body)) == MAX_FEEDBACKS


def test_braces_in_a_label_are_not_taken_for_feedbacks() -> None:
    label = "{" * 2 * MAX_FEEDBACKS
    assert parse(json.dumps(ONE | {"label": label}).encode()) == [Feedback("r1", label=label)]


def test_more_feedbacks_than_allowed_are_refused_also_where_their_names_are_written_otherwise() -> None:
    body = json.dumps([ONE] * (MAX_FEEDBACKS + 1)).replace("id", "i\\u0064").encode()
    with pytest.raises(InvalidParameter, match="more than 100 feedbacks"):
        parse(body)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_content_type_that_any_web_page_may_send_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="feedback is sent as application/json"):
        check_type(kind)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_is_known_however_it_is_written(kind: str) -> None:
    check_type(kind)
