"""service/monitoring/answer_token.py: what a token says of its answer, and that no other than ours is believed."""

import base64
import hmac
import random
import string
import time
from collections.abc import Callable

import pytest

from service.errors import ClientError, ExpiredAnswer, ForeignAnswer, InvalidAnswer, UnknownAnswer
from service.monitoring import answer_token
from service.monitoring.answer_token import CHARACTERS, AnswerTokens, read_id

KEY, OTHER = b"a" * 64, b"b" * 64
ID = "00ff" * 8
DAY = 86_400
MORE = string.ascii_letters + string.digits + "-_"


def tokens(*keys: bytes, model: str = "insects", seconds: float = DAY) -> AnswerTokens:
    return AnswerTokens(keys or (KEY,), model, seconds)


def sign(with_: AnswerTokens, client: str = "web", index: int = 3) -> str:
    return with_.sign(client, ID, index, 70_000, 99_999, 0.75, True)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time() + seconds
    monkeypatch.setattr(answer_token.time, "time", lambda: now)


def test_a_token_tells_another_process_with_the_key_all_that_feedback_needs() -> None:
    answer = tokens().verify_recent("web", token := sign(tokens()))
    assert (answer.id, answer.index, answer.version, answer.label) == (ID, 3, 70_000, 99_999)
    assert (answer.probability, answer.unsure, answer.until - answer.at) == (0.75, True, DAY)
    assert abs(answer.at - time.time()) < 60
    assert len(token) == CHARACTERS == 100
    assert set(token) <= set(MORE)
    assert read_id(token) == ID


def test_every_character_of_a_token_counts() -> None:
    rng, token = random.Random(0), sign(tokens())
    for i, character in enumerate(token):
        other = rng.choice(MORE.replace(character, ""))
        with pytest.raises(InvalidAnswer):
            tokens().verify("web", token[:i] + other + token[i + 1 :])


def test_any_change_of_what_is_said_needs_the_key() -> None:
    data = base64.urlsafe_b64decode(sign(tokens()))
    forged = base64.urlsafe_b64encode(data[:-18] + hmac.digest(OTHER, data[:-18], "sha256")[:18]).decode()
    with pytest.raises(InvalidAnswer, match="another key than HUBEL_FEEDBACK_KEY_FILE holds now"):
        tokens().verify("web", forged)
    with pytest.raises(InvalidAnswer):
        tokens().verify("web", base64.urlsafe_b64encode(data[:-18] + bytes(18)).decode())


def test_of_several_keys_the_first_signs_and_all_verify() -> None:
    old, both, new = sign(tokens(KEY)), tokens(OTHER, KEY), tokens(OTHER)
    assert both.verify("web", old).id == ID
    assert new.verify("web", sign(both)).id == ID
    with pytest.raises(InvalidAnswer):
        new.verify("web", old)


@pytest.mark.parametrize("client", ["", "app", "web2", "WEB"])
def test_an_answer_is_its_client_s_alone(client: str) -> None:
    with pytest.raises(ForeignAnswer, match="to another API key"):
        tokens().verify(client, sign(tokens()))


def test_an_answer_of_another_model_is_not_known() -> None:
    with pytest.raises(UnknownAnswer, match="by another model than birds"):
        tokens(model="birds").verify("web", sign(tokens()))


def test_feedback_is_taken_until_the_token_says_whatever_the_setting_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    token = sign(tokens(seconds=100))
    later(monkeypatch, 98)
    tokens(seconds=1).verify_recent("web", token)
    later(monkeypatch, 4)
    with pytest.raises(ExpiredAnswer, match=r"was given at 20.*HUBEL_FEEDBACK_EXPIRY_DAYS"):
        tokens(seconds=1000).verify_recent("web", token)
    assert tokens().verify("web", token).id == ID  # which deletion goes by


def test_how_long_ago_it_was_given_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = tokens().verify("web", sign(tokens()))
    assert answer.is_recent(60)
    later(monkeypatch, 61)
    assert not answer.is_recent(60)


NONE: dict[str, Callable[[str], str]] = {
    "nothing": lambda token: "",
    "one character less": lambda token: token[:-1],
    "one character more": lambda token: token + "A",
    "twice": lambda token: token * 2,
    "a megabyte": lambda token: token * 10_000,
    "an id": lambda token: ID,
    "padding": lambda token: token[:-2] + "==",
    "characters that base64 leaves out": lambda token: token[:-4] + "!!!!",
    "other letters": lambda token: "é" * 100,
    "half a surrogate": lambda token: "\ud800" * 100,
    "zeros": lambda token: "\x00" * 100,
    "another kind": lambda token: "_" + token[1:],
}


@pytest.mark.parametrize("change", NONE.values(), ids=NONE)
def test_what_is_no_token_is_refused_in_few_words(change: Callable[[str], str]) -> None:
    text = change(sign(tokens()))
    for read in (lambda: tokens().verify("web", text), lambda: read_id(text)):
        with pytest.raises(InvalidAnswer) as caught:
            read()
        assert len(str(caught.value)) < 200


def test_a_long_text_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_token, "urlsafe_b64decode", lambda text: pytest.fail("it was decoded"))
    with pytest.raises(InvalidAnswer, match="has 1000000 characters, those of this service have 100"):
        tokens().verify("web", "A" * 10**6)


def test_every_key_is_compared_however_early_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(answer_token.hmac, "compare_digest", lambda a, b: compared.append(a) or compare(a, b))
    tokens(KEY, OTHER).verify("web", sign(tokens()))
    assert len(compared) == 2


def test_a_refusal_says_nothing_of_what_would_have_been_right() -> None:
    token = sign(tokens())
    forged = [token[:-1] + ("A" if token[-1] != "A" else "B"), "B" + token[1:]]
    texts: set[str] = set()
    for each in forged:
        for client in ("web", "app"):
            with pytest.raises(ClientError) as caught:
                tokens().verify(client, each)
            texts.add(str(caught.value))
    assert not any(token[-24:] in text or KEY.decode() in text for text in texts)
    with pytest.raises(InvalidAnswer):  # whose it is said to be is looked at once it is known to be ours
        tokens().verify("app", forged[0])
