"""Keys: the file that names them and their limits, the header that brings one, and the file's changes."""

import hashlib
import hmac
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from service.__main__ import main
from service.api.openapi import document
from service.errors import Overloaded, RateLimited, Unauthorized
from service.http import api_keys
from service.http.api_keys import Key, KeysError
from service.http.asgi import HttpApp
from service.http.auth import CLIENT, ApiKeyAuth, Client, bearer
from service.http.rate_limit import RateLimit
from tests.service.http.behind import Behind, Inner, count, request
from tests.service.http.keys import OTHER_SECRET, SECRET, entry, toml


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good file of two keys, without limits."""
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry(), entry("cron", OTHER_SECRET)))
    return path


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sent(key: str | None = SECRET, scheme: str = "Bearer") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x")] if key is None else [(b"host", b"x"), (b"authorization", f"{scheme} {key}".encode())]


def allowed(client: Client, images: int = 1) -> bool:
    try:
        client.charge(images)
    except RateLimited:
        return False
    return True


def faulty() -> float:
    return count("hubel_api_keys_file_faulty")


# --- the file


def test_a_file_is_read_as_written(file: Path) -> None:
    first, second = api_keys.read(file)
    assert first == Key("web", hashlib.sha256(SECRET.encode()).hexdigest())
    assert second.name == "cron"


BAD = {
    "no TOML": ("[[keys]\n", "is not a file of keys: "),
    "not UTF-8": (b"\xff\xfe", "is not a file of keys: "),
    "nothing": ("", "missing required field `keys`"),
    "no key": ("keys = []\n", "length >= 1"),
    "a field too many": (toml(entry(scope="all")), "unknown field `scope` - at `$.keys[0]`"),
    "another table": ("[options]\n" + toml(entry()), "unknown field `options`"),
    "no name": ('[[keys]]\nsha256 = "' + "0" * 64 + '"\n', "missing required field `name`"),
    "a number for a name": ("[[keys]]\nname = 1\n", "Expected `str`"),
    "an empty name": (toml(entry("")), "a name is 1 to 64 of"),
    "a name in capitals": (toml(entry("Web")), "a name is 1 to 64 of"),
    "a name with a line break": (toml(entry("web\\n")), "a name is 1 to 64 of"),
    "a long name": (toml(entry("x" * 65)), "a name is 1 to 64 of"),
    "a short hash": (toml({"name": "web", "sha256": "ab" * 31}), "the sha256 of web is not 64 digits"),
    "a hash in capitals": (toml({"name": "web", "sha256": "AB" * 32}), "the sha256 of web is not 64 digits"),
    "a key for its hash": (toml({"name": "web", "sha256": SECRET}), "the sha256 of web is not 64 digits"),
    "the hash of nothing": (toml(entry(secret="")), "the sha256 of web is that of nothing"),
    "a name twice": (toml(entry(), entry(secret=OTHER_SECRET)), "two keys have the name web"),
    "a hash twice": (toml(entry(), entry("cron")), "web and cron have the same sha256"),
    "no limit": (toml(entry(limit="")), "limit is '', it must be one amount of at most 15 digits and its time"),
    "a limit of words": (toml(entry(limit="many")), "limit is 'many', it must be"),
    "a limit of another unit": (toml(entry(limit="5/fortnight")), "limit is '5/fortnight', it must be"),
    "a limit of nothing": (toml(entry(limit="0/second")), "limit is '0/second', it must be"),
    "a limit in no time": (toml(entry(limit="5 per 0 seconds")), "limit is '5 per 0 seconds', it must be"),
    "a negative limit": (toml(entry(limit="-5/second")), "limit is '-5/second', it must be"),
    "a limit of 16 digits": (toml(entry(limit="1" * 16 + "/second")), "it must be one amount of at most 15 digits"),
    "two limits": (toml(entry(limit="1/second; 5/minute")), "limit is '1/second; 5/minute', it must be one"),
    "a limit of 5000 digits": (toml(entry(limit="9" * 5000 + "/second")), "it must be one amount"),
}


@pytest.mark.parametrize(("content", "fault"), BAD.values(), ids=BAD)
def test_a_faulty_file_is_refused_with_its_fault_and_without_what_might_be_a_key(
    tmp_path: Path, content: str | bytes, fault: str
) -> None:
    path = tmp_path / "keys.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(KeysError) as caught:
        api_keys.read(path)
    assert str(caught.value).startswith(f"{path} ")
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_that_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"keys.toml cannot be read: No such file or directory; HUBEL_API_KEYS_FILE names it"):
        api_keys.read(tmp_path / "keys.toml")
    with pytest.raises(KeysError, match="is no file"):
        api_keys.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KeysError, match="is no file"):  # and is not waited for
        api_keys.read(tmp_path / "pipe")


def test_a_file_that_everyone_may_write_is_refused_and_one_that_all_may_read_is_not(file: Path) -> None:
    file.chmod(0o644)
    assert len(api_keys.read(file)) == 2
    file.chmod(0o646)
    with pytest.raises(KeysError, match=f"can be written by everyone on this machine, .*: chmod go-w {file}"):
        api_keys.read(file)


@pytest.mark.parametrize(("mode", "good"), [(0o440, True), (0o640, True), (0o444, True), (0o660, False), (0o620, False)])
def test_a_file_that_its_group_may_write_is_refused_and_one_that_it_may_read_is_not(file: Path, mode: int, good: bool) -> None:
    file.chmod(mode)
    if good:
        assert len(api_keys.read(file)) == 2
    else:
        with pytest.raises(KeysError, match=f"can be written by its group, who could let others in: chmod go-w {file}"):
            api_keys.read(file)


LIMITS = {
    "50/second": RateLimit(50, 1, "second"),
    "1000 per 5 minutes": RateLimit(1000, 5, "minute"),
    " 3PER2Hours ": RateLimit(3, 2, "hour"),
    "1/day": RateLimit(1, 1, "day"),
    "7 per month": RateLimit(7, 1, "month"),
    "999999999999999 / 2 years": RateLimit(999_999_999_999_999, 2, "year"),
}


@pytest.mark.parametrize(("text", "limit"), LIMITS.items(), ids=LIMITS)
def test_a_limit_is_read_as_written(text: str, limit: RateLimit) -> None:
    assert api_keys.parse_limit(text) == limit


# --- new keys


def test_a_new_key_is_let_in_by_the_block_that_comes_with_it(tmp_path: Path) -> None:
    made = [api_keys.make("web", "50/second"), api_keys.make("cron")]
    path = tmp_path / "keys.toml"
    path.write_text("".join(block for _, block in made))
    access = ApiKeyAuth(path)
    assert [access.identify(sent(key)).name for key, _ in made] == ["web", "cron"]
    assert [client.quota and client.quota.whole for client in access.clients] == ["50/second", None]
    assert all(len(key) == 43 and key not in path.read_text() for key, _ in made)


def test_new_key_writes_the_key_to_one_output_and_the_block_to_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-key", "web", "--limit", "1000 per 5 minutes"]) == 0
    block, said = capsys.readouterr()
    key = said.split()[-1]
    (made,) = msgspec.toml.decode(block, type=api_keys.KeysFile).keys
    assert made == Key("web", hashlib.sha256(key.encode()).hexdigest(), "1000 per 5 minutes")
    assert main(["new-key", "web"]) == 0
    assert capsys.readouterr().err.split()[-1] != key


@pytest.mark.parametrize(
    ("arguments", "fault"), [(["Web"], "a name is 1 to 64"), (["web", "--limit", "5"], "limit is '5', it must be one amount")]
)
def test_new_key_refuses_what_the_service_would(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-key", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert fault in err


# --- where keys must be


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_on_loopback_nobody_needs_a_key(host: str) -> None:
    api_keys.require("", False, host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "0"])
def test_elsewhere_keys_are_needed_or_the_word_that_they_are_not(host: str) -> None:
    with pytest.raises(KeysError) as caught:
        api_keys.require("", False, host)
    for way_out in ("HUBEL_API_KEYS_FILE", "new-key", "HUBEL_ALLOW_ANONYMOUS=true", "127.0.0.1", f"HUBEL_HOST is {host},"):
        assert way_out in str(caught.value)
    api_keys.require("keys.toml", False, host)
    api_keys.require("", True, host)


def test_where_the_address_is_not_known_keys_are_needed_too() -> None:
    with pytest.raises(KeysError, match="HUBEL_ALLOW_ANONYMOUS"):
        api_keys.require("", False, None)
    api_keys.require("", True, None)


# --- who a request is from


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_right_key_is_its_client(file: Path, scheme: str) -> None:
    access = ApiKeyAuth(file)
    assert access.identify(sent(SECRET, scheme)).name == "web"
    assert access.identify(sent(OTHER_SECRET, scheme)).name == "cron"


WRONG: dict[str, list[tuple[bytes, bytes]]] = {
    "no header": sent(None),
    "a wrong key": sent("wrong"),
    "part of a key": sent(SECRET[:-1]),
    "more than a key": sent(SECRET + "x"),
    "no key": sent(""),
    "another scheme": sent(SECRET, "Basic"),
    "no scheme": [(b"authorization", SECRET.encode())],
    "the hash": sent(hashlib.sha256(SECRET.encode()).hexdigest()),
    "another header": [(b"x-api-key", SECRET.encode())],
    "two headers": [*sent(SECRET), *sent(SECRET)],
    "not ASCII": [(b"authorization", b"Bearer \xff\x00")],
    "a long one": sent("x" * 60_000),
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_without_a_right_key_nobody_is_let_in_and_all_are_told_the_same(file: Path, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthorized) as caught:
        ApiKeyAuth(file).identify(headers)
    with pytest.raises(Unauthorized) as other:
        ApiKeyAuth(file).identify(sent(None))
    assert str(caught.value) == str(other.value)
    assert "Authorization: Bearer KEY" in str(caught.value)


class Same:
    """Compares as the service does, and counts."""

    def __init__(self) -> None:
        self.compared: list[tuple[int, int]] = []

    def __call__(self, one: bytes, other: bytes) -> bool:
        self.compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)


@pytest.mark.parametrize("place", [0, 2, 4, None], ids=["the first", "one between", "the last", "a stranger"])
def test_the_work_is_the_same_for_every_key_and_for_none(tmp_path: Path, place: int | None) -> None:
    secrets = [f"key {i}" for i in range(5)]
    path = tmp_path / "keys.toml"
    path.write_text(toml(*(entry(f"client-{i}", secret) for i, secret in enumerate(secrets))))
    access, same = ApiKeyAuth(path), Same()
    if place is None:
        with pytest.raises(Unauthorized):
            access.identify(sent("stranger"), same)
    else:
        assert access.identify(sent(secrets[place]), same).name == f"client-{place}"
    assert same.compared == [(32, 32)] * 5  # hashes, all of them, whichever is right


def test_comparison_is_the_standard_library_s_that_takes_constant_time() -> None:
    assert ApiKeyAuth.identify.__defaults__ == (hmac.compare_digest,)


def test_bearer_takes_the_key_without_spaces_around() -> None:
    assert bearer([(b"authorization", b"Bearer  abc ")]) == b"abc"
    assert bearer([]) == b""


# --- the limit


def test_a_client_without_a_limit_is_never_refused(file: Path) -> None:
    assert all(allowed(ApiKeyAuth(file).clients[0], 32) for _ in range(100))


@pytest.mark.parametrize(("workers", "share"), [(1, 50), (2, 25), (3, 17), (4, 13), (64, 1)])
def test_each_worker_has_its_share_rounded_up(tmp_path: Path, clock: Clock, workers: int, share: int) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry(limit="50 per 5 minutes")))
    (client,) = ApiKeyAuth(path, workers, clock).clients
    assert sum(allowed(client) for _ in range(60)) == share
    clock.now += 300
    assert sum(allowed(client) for _ in range(60)) == share
    with pytest.raises(RateLimited) as refused:
        client.charge(1)
    shared = f", of which each of {workers} processes allows {share} per 5 minute" if workers > 1 else ""
    assert str(refused.value).startswith(f"the limit of the key web is 50 per 5 minutes{shared}; try again in ")


def test_one_client_s_limit_is_not_another_s(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry(limit="2/minute"), entry("cron", OTHER_SECRET, limit="2/minute")))
    web, cron = ApiKeyAuth(path, clock=clock).clients
    assert [allowed(web) for _ in range(3)] == [True, True, False]
    assert [allowed(cron) for _ in range(3)] == [True, True, False]


# --- changes of the file


def write(file: Path, *entries: dict[str, str]) -> None:
    """A new file in the old one's place, as operators shall."""
    new = file.with_suffix(".new")
    new.write_text(toml(*entries))
    new.rename(file)


def names(access: ApiKeyAuth) -> list[str]:
    return [client.name for client in access.clients]


def test_a_changed_file_holds_at_the_next_request_a_second_later(file: Path) -> None:
    clock = Clock()
    access = ApiKeyAuth(file, clock=clock)
    write(file, entry("new", "new-secret"))
    clock.now += 0.9
    assert access.identify(sent()).name == "web"
    clock.now += 0.2
    with pytest.raises(Unauthorized):
        access.identify(sent())
    assert access.identify(sent("new-secret")).name == "new"


def test_a_file_that_is_the_same_is_not_read_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    access = ApiKeyAuth(file, clock=clock)
    caplog.clear()
    with caplog.at_level(logging.INFO, "hubel"):
        for _ in range(5):
            clock.now += 2
            access.identify(sent())
    assert caplog.records == []


def spoil(file: Path) -> None:
    file.write_text("[[keys]]\nname = 1\n")


def open_up(file: Path) -> None:
    file.chmod(0o666)


@pytest.mark.parametrize("change", [spoil, Path.unlink, open_up], ids=["faulty", "missing", "open to all"])
def test_a_faulty_file_changes_nothing_is_told_once_and_mended_by_a_good_one(
    file: Path, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    access = ApiKeyAuth(file, clock=clock)
    assert faulty() == 0
    change(file)
    for _ in range(3):
        clock.now += 2
        assert access.identify(sent()).name == "web"
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith(f"the API keys stay as they were: {file} ")
    assert faulty() == 1
    write(file, entry("new", "new-secret"))
    clock.now += 2
    assert access.identify(sent("new-secret")).name == "new"
    assert faulty() == 0


def test_a_mode_that_is_mended_is_seen(file: Path) -> None:
    clock = Clock()
    access = ApiKeyAuth(file, clock=clock)
    for mode, value in ((0o666, 1), (0o600, 0)):
        file.chmod(mode)
        clock.now += 2
        access.identify(sent())
        assert faulty() == value


def test_a_client_that_stays_keeps_its_count(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry(limit="2/day")))
    access = ApiKeyAuth(path, clock=clock)
    access.identify(sent()).charge(2)
    write(path, entry("cron", OTHER_SECRET), entry(secret="another", limit="2 per 1 day"))
    clock.now += 2
    assert not allowed(access.identify(sent("another")))
    assert names(access) == ["cron", "web"]


@pytest.mark.parametrize("limit", ["3/day", "2/hour", "2 per 2 days"])
def test_a_client_whose_limit_changes_is_counted_anew(tmp_path: Path, clock: Clock, limit: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry(limit="2/day")))
    access = ApiKeyAuth(path, clock=clock)
    access.identify(sent()).charge(2)
    write(path, entry(limit=limit))
    clock.now += 2
    assert allowed(access.identify(sent()), 2)


def test_of_clients_that_left_nothing_stays_in_memory(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml(*(entry(f"client-{i}", str(i), limit="2/day") for i in range(100))))
    access = ApiKeyAuth(path, clock=clock)
    buckets = [weakref.ref(client.quota.bucket) for client in access.clients if client.quota]
    assert len(buckets) == 100
    write(path, entry("client-7", "7", limit="2/day"))
    clock.now += 2
    assert allowed(access.identify(sent("7")))
    assert [i for i, bucket in enumerate(buckets) if bucket() is not None] == [7]


# --- at the edge


def guarded(file: Path, error: Overloaded | None = None, clock: Callable[[], float] = time.monotonic) -> HttpApp:
    return HttpApp(Inner(), lambda: Behind(error), ApiKeyAuth(file, clock=clock))


def auth(key: str = SECRET) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", ["/echo", "/page", "/nothing", "/metrics", "/"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_a_stranger_is_told_the_same_wherever_he_asks(file: Path, path: str, method: str) -> None:
    response = request(path, method, http_app=guarded(file))
    assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["status"]) == ("unauthorized", 401)
    for told in ("/echo", "/page", "web", "cron", "queue", "allow"):
        assert told not in response.body.decode()
    assert "allow" not in response.headers


def test_with_a_key_everything_is_as_without_keys(file: Path) -> None:
    http_app = guarded(file)
    assert request("/echo", headers=auth(), http_app=http_app).status == 200
    assert request("/nothing", headers=auth(), http_app=http_app).status == 404
    assert request("/echo", "GET", headers=auth(), http_app=http_app).status == 405


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_need_no_key(file: Path, path: str) -> None:
    assert request(path, "GET", http_app=guarded(file)).status in (
        200,
        404,
    )  # a key would be asked for first


def test_a_stranger_s_body_is_not_read(file: Path) -> None:
    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    http_app, messages = guarded(file), list[Any]()

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "POST", "path": "/echo", "query_string": b"", "headers": []}
    with pytest.raises(StopIteration):
        http_app(scope, receive, send).__await__().send(None)  # it never waits
    assert messages[0]["status"] == 401


def test_no_key_is_ever_logged_or_answered(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    http_app = guarded(file)
    with caplog.at_level(logging.DEBUG):
        for path in ("/echo", "/broken", "/overloaded", "/nothing"):
            for key in (SECRET, "a-wrong-key"):
                assert key.encode() not in request(path, headers=auth(key), http_app=http_app).body
    assert "of web to /broken failed" in caplog.text  # its name is
    assert SECRET not in caplog.text
    assert "a-wrong-key" not in caplog.text


def test_requests_are_counted_by_the_name_of_their_key(file: Path) -> None:
    def counted() -> list[float]:
        return [count("hubel_requests_by_key_total", key="web", status=status) for status in ("200", "404", "499")]

    before, rejected = counted(), count("hubel_rejections_total", reason="unauthorized")
    http_app = guarded(file)
    request("/echo", headers=auth(), http_app=http_app)
    request("/nothing", headers=auth(), http_app=http_app)
    request("/echo", headers=auth("wrong"), http_app=http_app)
    assert counted() == [before[0] + 1, before[1] + 1, before[2]]
    assert count("hubel_rejections_total", reason="unauthorized") == rejected + 1
    keys_seen = {sample.labels["key"] for sample in samples_of("hubel_requests_by_key_total")}
    assert keys_seen <= {"web", "cron"}


def samples_of(name: str) -> Iterable[Any]:
    return (sample for family in REGISTRY.collect() for sample in family.samples if sample.name == name)


def test_past_the_limit_the_answer_is_429_with_the_wait(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry(limit="2/minute")))
    http_app = guarded(path, clock=clock)
    assert [request("/echo", headers=auth(), http_app=http_app).status for _ in range(2)] == [200, 200]
    before = count("hubel_rejections_total", reason="rate_limited"), count("hubel_requests_by_key_total", key="web", status="429")
    response = request("/nothing", headers=auth(), http_app=http_app)
    assert (response.status, response.json()["code"]) == (429, "rate_limited")
    assert int(response.headers["retry-after"]) >= 1
    after = count("hubel_rejections_total", reason="rate_limited"), count("hubel_requests_by_key_total", key="web", status="429")
    assert after == (before[0] + 1, before[1] + 1)


def early(http_app: HttpApp, headers: dict[str, str], path: str = "/echo") -> tuple[bytes | None, dict[str, Any]]:
    """What is answered on the head, and the scope after that."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": raw}
    http_app.begin()
    return http_app.refuse_early(scope, ()), scope


def test_an_overloaded_service_tells_a_stranger_to_bring_a_key_and_nothing_of_the_load(file: Path) -> None:
    http_app = guarded(file, Overloaded("9 images wait", 3))
    answer, _ = early(http_app, {})
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: Bearer\r\n" in answer
    assert b"wait" not in answer
    assert b"retry-after" not in answer
    answer, _ = early(http_app, auth())
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 503 ")


def test_a_stranger_is_refused_on_the_head_without_overload_too(file: Path) -> None:
    answer, _ = early(guarded(file), auth("wrong"))
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_what_was_counted_on_the_head_is_not_counted_again(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml(entry(limit="2/minute")))
    http_app = guarded(path, clock=clock)
    access = http_app.access
    assert access is not None
    answer, scope = early(http_app, auth())
    assert answer is None
    assert access.authenticate(scope) is scope[CLIENT]
    assert [early(http_app, auth())[0] is None for _ in range(2)] == [True, False]


# --- in the API's description


def test_the_document_asks_for_a_key_where_one_is_needed() -> None:
    paths = document(3, 32, keys_needed=True)["paths"]
    described = document(3, 32, keys_needed=True)
    assert described["security"] == [{"key": []}]
    assert described["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}
    open_paths = {path for path, operations in paths.items() for each in operations.values() if each.get("security") == []}
    assert open_paths == {"/livez", "/readyz"}
    assert {"401", "429"} <= set(paths["/metrics"]["get"]["responses"])
    assert "Retry-After" in paths["/v1/classify"]["post"]["responses"]["429"]["headers"]
    without = document(3, 32)
    assert "security" not in without
    assert "401" not in without["paths"]["/v1/classify"]["post"]["responses"]
