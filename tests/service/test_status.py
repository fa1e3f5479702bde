"""service/status.py: what is said where a service does not tell how it is, and why."""

import socket
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service import status
from service.status import StatusError, ask

READY = (200, '{"status":"ready"}')
MODELS = (200, '{"models": [], "candidate": null, "refused": null}')
WANTS_A_KEY = (401, '{"detail": "a key is needed; send it in one header"}')


@contextmanager
def answering(answers: Mapping[str, tuple[int, str]]) -> Generator[int]:
    """The port of a server that knows these paths and has nothing at others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, text = answers.get(self.path, (404, "<html>nothing here</html>"))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode("latin-1"))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def refusal(port: int, key: str = "") -> str:
    with pytest.raises(StatusError) as caught:
        ask("127.0.0.1", port, key)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "reason"),
    [("", "it wants an API key, and HUBEL_API_KEY is not set"), ("wrong", "the key in HUBEL_API_KEY is none of its")],
    ids=["no key", "a wrong key"],
)
@pytest.mark.parametrize("path", ["/metrics", "/v1/models"])
def test_a_service_that_wants_a_key_is_told_apart_from_one_that_is_not_well(key: str, reason: str, path: str) -> None:
    with answering({"/readyz": READY, "/metrics": (200, ""), "/v1/models": MODELS} | {path: WANTS_A_KEY}) as port:
        said = refusal(port, key)
    assert said.startswith(f"127.0.0.1:{port} (ready) tells no more (401): {reason}; set HUBEL_API_KEY to a key")
    assert "Authorization" not in said


def test_another_refusal_is_told_as_it_came() -> None:
    limited = (429, '{"detail": "the limit of the key ops is 1/minute"}')
    with answering({"/readyz": READY, "/metrics": limited}) as port:
        assert refusal(port) == f"127.0.0.1:{port} answers 429 for /metrics: the limit of the key ops is 1/minute"


@pytest.mark.parametrize(
    "answers",
    [
        {"/metrics": (200, "<html>a page</html>")},
        {"/metrics": (200, ""), "/v1/models": (200, "<html>a page</html>")},
        {"/metrics": (200, ""), "/v1/models": (200, "[]")},
        {"/readyz": (200, "\xff")},
        {"/readyz": (401, "<html>who are you?</html>")},
    ],
    ids=["a page", "a page for models", "another JSON", "no text", "a door before it"],
)
def test_what_is_another_program_is_called_that(answers: dict[str, tuple[int, str]]) -> None:
    with answering(answers) as port:
        said = refusal(port)
    assert said.startswith(f"what answers at 127.0.0.1:{port} is no Hubel")
    assert "HUBEL_HOST and HUBEL_PORT say where to look" in said


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b""], ids=["no HTTP", "closed at once"])
def test_what_does_not_speak_http_is_not_called_silent(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        said = refusal(listener.getsockname()[1])
        thread.join()
    assert "is no Hubel, or ended meanwhile: " in said


def test_one_that_takes_too_long_is_not_called_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert refusal(port).startswith(f"127.0.0.1:{port} does not answer /readyz within 0.1 s: it hangs or has too much to do")


def test_where_nobody_listens_that_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert refusal(port).startswith(f"nothing answers at 127.0.0.1:{port}: Connection refused; ")
