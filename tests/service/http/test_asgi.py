"""The outermost layer, driven without a server: routes, request ids, problem details, timings, metric labels."""

import json
import logging
import re

import pytest
from prometheus_client import REGISTRY

from service.errors import HeadTooLarge, ImageTooLarge, Overloaded
from service.http.asgi import OTHER, HttpApp
from service.http.problems import describe
from service.http.request import json_response, nothing, parse_head
from service.telemetry.log import NEVER, WRITER
from tests.service.http.behind import ROUTES, SECRET, Behind, Inner, call, count, request


def test_a_request_gets_its_handler_s_answer() -> None:
    response = request("/echo", query="a=1&b=x%20y", headers={"x-request-id": "me"})
    assert response.status == 200
    assert response.json() == {"called": "me", "given": {"a": "1", "b": "x y"}}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.body))
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("given", ["a", "7f3c-1.B_x", "x" * 64])
def test_a_safe_request_id_is_echoed(given: str) -> None:
    assert request("/echo", headers={"x-request-id": given}).headers["x-request-id"] == given
    assert request("/broken", headers={"x-request-id": given}).json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\nb", "a\n", '"', "ä", "<script>", "a,b", None])
def test_another_request_id_is_replaced_by_a_new_one(given: str | None) -> None:
    headers = {} if given is None else {"x-request-id": given}
    ids = {request("/echo", headers=headers).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(len(new) == 32 and new.isalnum() and new.isascii() for new in ids)


def test_requests_that_carry_one_request_id_have_ids_of_their_own_that_do_not_count_up() -> None:
    headers = [(b"x-request-id", b"of-the-mesh")]
    scope = {"method": "POST", "path": "/v1/classify", "query_string": b"", "headers": headers}
    requests = [parse_head(scope, nothing) for _ in range(1000)]
    assert {request.request_id() for request in requests} == {"of-the-mesh"}
    ids = [request.id for request in requests]
    assert len(set(ids)) == 1000
    assert len({new[:8] for new in ids}) > 990  # who knows one knows no other
    assert ids != sorted(ids)


def test_an_unknown_path_is_told_what_there_is() -> None:
    response = request("/v1/classfy")
    assert response.status == 404
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem == {
        "type": "urn:hubel:error:unknown_path",
        "title": "There is nothing at this path",
        "status": 404,
        "code": "unknown_path",
        "detail": "there is nothing at '/v1/classfy'; there is " + ", ".join(ROUTES),
        "request_id": response.headers["x-request-id"],
    }


def test_a_long_unknown_path_is_cut_off() -> None:
    assert len(request("/" + "x" * 5000).body) < 600


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [("/echo", "GET", "POST"), ("/echo", "HEAD", "POST"), ("/echo", "DELETE", "POST"), ("/page", "POST", "GET")],
)
def test_a_wrong_method_is_told_the_right_one(path: str, method: str, allowed: str) -> None:
    response = request(path, method)
    assert response.status == 405
    assert response.headers["allow"].split(", ")[0] == allowed
    assert response.json()["code"] == "wrong_method"
    assert response.json()["detail"] == f"{path} takes {allowed}, not {method}"


def test_head_is_answered_as_get() -> None:
    head, get = request("/page", "HEAD"), request("/page", "GET")
    assert head.status == get.status == 200
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("c=1", "unknown parameter 'c'; /echo takes a, b"),
        ("A=1", "unknown parameter 'A'; /echo takes a, b"),
        ("a=1&a=1", "parameter 'a' is there twice; send it once"),
        ("a=1&b=2&a=3", "parameter 'a' is there twice; send it once"),
        ("c", "unknown parameter 'c'; /echo takes a, b"),
    ],
)
def test_an_unknown_or_repeated_parameter_is_refused_by_name(query: str, detail: str) -> None:
    response = request("/echo", query=query)
    assert (response.status, response.json()["code"]) == (422, "invalid_parameter")
    assert response.json()["detail"] == detail


def test_a_path_without_parameters_says_so() -> None:
    response = request("/plain", "GET", "k=1")
    assert (response.status, response.json()["detail"]) == (422, "unknown parameter 'k'; /plain takes none")


def test_an_error_becomes_its_problem_details_and_headers() -> None:
    response = request("/refused")
    assert response.status == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "image_too_large"
    assert response.json()["detail"] == "image has 72 MP, the limit is 65 MP (HUBEL_MAX_PIXELS)"
    assert request("/overloaded").headers["retry-after"] == "3"


def test_an_unforeseen_exception_is_told_to_the_log_and_not_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "hubel"):
        response = request("/broken", headers={"x-request-id": "find-me"})
    assert response.status == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "internal_error"
    for internal in (b"RuntimeError", b"Traceback", b"secret", b".py"):
        assert internal not in response.body
    assert re.search(r"request find-me \([0-9a-f]{32}\) to /broken failed", caplog.text)
    assert SECRET in caplog.text


def test_after_an_exception_the_next_request_is_answered() -> None:
    http_app = HttpApp(Inner(), Behind)
    assert [request(path, http_app=http_app).status for path in ("/broken", "/echo")] == [500, 200]


def test_server_timing_tells_each_stage_and_of_several_images_the_slowest() -> None:
    response = request("/timed")
    stages = dict(stage.split(";dur=") for stage in response.headers["server-timing"].split(", "))
    assert list(stages) == ["read", "infer"]
    assert float(stages["read"]) >= 10
    assert stages["infer"] == "250.00"
    assert response.headers["x-more"] == "yes"
    assert response.headers["content-type"] == "text/plain"


def test_server_timing_is_there_for_a_refused_request_too() -> None:
    assert request("/refused").headers["server-timing"].startswith("decode;dur=")
    assert "server-timing" not in request("/nothing").headers


def test_nothing_is_sent_to_a_client_that_hung_up() -> None:
    before = count("hubel_requests_total", route="/abandoned", status="499")
    assert call({"type": "http", "method": "POST", "path": "/abandoned", "query_string": b"", "headers": []}) == []
    assert count("hubel_requests_total", route="/abandoned", status="499") == before + 1


def test_unknown_paths_share_one_metric_label() -> None:
    before = count("hubel_requests_total", route=OTHER, status="404")
    for path in ("/wp-login.php", "/.env", "/v1/classify/../../etc"):
        request(path)
    assert count("hubel_requests_total", route=OTHER, status="404") == before + 3
    routes = {s.labels.get("route") for family in REGISTRY.collect() for s in family.samples if family.name.startswith("hubel_")}
    assert routes.isdisjoint({"/wp-login.php", "/.env", "/v1/classify/../../etc"})


def test_requests_stages_and_rejections_are_counted() -> None:
    names = (
        ("hubel_requests_total", {"route": "/refused", "status": "413"}),
        ("hubel_request_duration_seconds_count", {"route": "/refused"}),
        ("hubel_stage_duration_seconds_count", {"stage": "decode"}),
        ("hubel_rejections_total", {"reason": "image_too_large"}),
    )
    before = [count(name, **labels) for name, labels in names]
    request("/refused")
    assert [count(name, **labels) for name, labels in names] == [value + 1 for value in before]
    assert count("hubel_requests_in_progress") == 0


def test_starting_and_stopping_is_left_to_the_inner_application() -> None:
    inner = Inner()
    assert call({"type": "lifespan"}, HttpApp(inner, Behind)) == []
    assert inner.seen == ["lifespan"]


def test_requests_do_not_reach_the_inner_application() -> None:
    inner = Inner()
    request("/echo", http_app=HttpApp(inner, Behind))
    request("/nothing", http_app=HttpApp(inner, Behind))
    assert inner.seen == []


def test_a_websocket_is_closed() -> None:
    assert call({"type": "websocket"}) == [{"type": "websocket.close", "code": 1000}]


def test_the_service_is_asked_for_its_routes_once_and_only_at_the_first_request() -> None:
    behind = Behind()
    http_app = HttpApp(Inner(), lambda: behind)
    assert behind.asked == 0
    assert [request("/echo", http_app=http_app).status for _ in range(2)] == [200, 200]
    assert behind.asked == 1


def early(
    path: str, method: str = "POST", error: Overloaded | None = None, started: bool = True, given: bytes = b"mine"
) -> bytes | None:
    http_app = HttpApp(Inner(), lambda: Behind(error))
    if started:
        request("/page", "GET", http_app=http_app)
    headers = [(b"x-request-id", given)]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    return http_app.refuse_early(scope, [(b"date", b"today"), (b"connection", b"close")])


def test_an_overloaded_service_refuses_on_the_head_with_the_same_answer_as_later() -> None:
    before = count("hubel_rejections_total", reason="overloaded"), count("hubel_requests_total", route="/echo", status="503")
    answer = early("/echo", error=Overloaded("too much", 3))
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    headers = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])
    assert headers[b"content-length"] == str(len(body)).encode()
    assert (headers[b"content-type"], headers[b"retry-after"]) == (b"application/problem+json", b"3")
    assert headers[b"x-request-id"] == b"mine"
    assert (json.loads(body)["code"], json.loads(body)["detail"]) == ("overloaded", "too much")
    after = count("hubel_rejections_total", reason="overloaded"), count("hubel_requests_total", route="/echo", status="503")
    assert after == (before[0] + 1, before[1] + 1)


def test_the_answer_is_the_same_whether_the_log_has_a_line_for_each_request_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"reason": "overloaded"}, {"route": "/echo", "status": "503"}, {"route": "/echo"}
    metrics = "hubel_rejections_total", "hubel_requests_total", "hubel_request_duration_seconds_count"

    def counts() -> list[float]:
        return [count(metric, **labels) for metric, labels in zip(metrics, names, strict=True)]

    seen: list[tuple[bytes | None, list[float]]] = []
    for level in (logging.WARNING, NEVER):
        monkeypatch.setattr(WRITER, "request_level", level)
        before = counts()
        answer = early("/echo", error=Overloaded("too much", 3))
        seen.append((answer, [after - was for after, was in zip(counts(), before, strict=True)]))
    assert seen[0] == seen[1]
    assert seen[0][1] == [1, 1, 1]


def test_an_overloaded_service_gives_back_no_request_id_that_is_not_a_safe_one() -> None:
    answer = early("/echo", error=Overloaded("too much", 3), given=b"a b\xff")
    assert answer is not None
    assert b"a b" not in answer
    assert re.search(rb"x-request-id: [0-9a-f]{32}\r\n", answer)


@pytest.mark.parametrize(("path", "method"), [("/page", "GET"), ("/nothing", "POST"), ("/echo", "GET"), ("/page", "POST")])
def test_only_requests_that_bring_work_are_refused_early(path: str, method: str) -> None:
    assert early(path, method, Overloaded("too much", 3)) is None


def test_nothing_is_refused_early_without_overload_or_before_the_start() -> None:
    assert early("/echo") is None
    assert early("/echo", error=Overloaded("too much", 3), started=False) is None


def test_while_the_service_drains_readyz_alone_says_so(caplog: pytest.LogCaptureFixture) -> None:
    http_app = HttpApp(Inner(), Behind)
    assert request("/readyz", "GET", http_app=http_app).status == 200
    http_app.draining = True
    response = request("/readyz", "GET", http_app=http_app)
    assert (response.status, response.json()["code"]) == (503, "draining")
    assert "retry-after" in response.headers
    assert request("/echo", http_app=http_app).status == 200
    assert not caplog.records


def test_what_cannot_be_read_gets_problem_details_and_the_connection_ends() -> None:
    before = count("hubel_requests_total", route=OTHER, status="431"), count("hubel_rejections_total", reason="head_too_large")
    head, _, body = (
        HttpApp(Inner(), Behind).refuse_unread(HeadTooLarge("too long"), [(b"connection", b"close")]).partition(b"\r\n\r\n")
    )
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 431 Request Header Fields Too Large"
    headers = dict(line.split(b": ") for line in lines[1:])
    assert headers[b"connection"] == b"close"
    assert headers[b"content-length"] == str(len(body)).encode()
    assert json.loads(body)["code"] == "head_too_large"
    assert json.loads(body)["request_id"].encode() == headers[b"x-request-id"]
    after = count("hubel_requests_total", route=OTHER, status="431"), count("hubel_rejections_total", reason="head_too_large")
    assert after == (before[0] + 1, before[1] + 1)


def test_an_image_s_own_error_carries_no_request_id() -> None:
    problem = describe(ImageTooLarge("too large"))
    assert json_response(problem).body == (
        b'{"type":"urn:hubel:error:image_too_large","title":"The image has too many pixels","status":413,'
        b'"code":"image_too_large","detail":"too large"}'
    )
