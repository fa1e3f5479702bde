"""A server is found by its answer, seen with its children, and gone when it was stopped."""

import sys
import time
from pathlib import Path

import pytest

from benchmarks import proc, processes
from benchmarks.bodies import Bodies
from benchmarks.measure import label_in

SENT = Bodies("/x", "image/jpeg", [b"abc"])
SERVER = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"results": [{"label": "a cat"}]}')

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
FAILING = "import sys; print('starting'); raise ValueError('no such model.')"


def launch(source: str, folder: Path) -> processes.Server:
    port = processes.free_port()
    return processes.start([sys.executable, "-c", source, str(port)], {}, port, folder / "log")


def test_a_server_is_awaited_seen_whole_and_stopped(tmp_path: Path) -> None:
    server = launch(SERVER, tmp_path)
    try:
        text = processes.wait_for_answer(server, SENT, time.monotonic())
        tree = server.tree()
        assert len(tree) == 2
        assert 0 < server.start_seconds < 1000  # no speed: seconds, not milliseconds
        assert server.cpu_seconds() > 0
        assert 5 < server.memory_mb() < 500
    finally:
        left = server.stop(patience=1)
    assert label_in(text) == "a cat"
    assert not any(proc.runs(pid) for pid in tree)
    assert left == tree[1:]  # the child, which nobody told to end


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    server = launch(FAILING, tmp_path)
    with pytest.raises(processes.StartError, match=r"ended with 1: ValueError: no such model$"):
        processes.wait_for_answer(server, SENT, time.monotonic())
    assert server.stop() == []
