"""A web server and its client on loopback: ``web.py serve PORTFILE REQUESTS`` and ``web.py ask PORTFILE REQUESTS``.

The server answers that many requests, a connection each, and ends.  The client writes how long it took, in ns.
"""

from __future__ import annotations

import http.client
import sys
import time
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

_PATIENCE_S = 60.0


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a terminal's speed is not the question."""


def serve(port_file: Path, requests: int) -> None:
    """Serve files of the folder that this is in."""
    with HTTPServer(("127.0.0.1", 0), _Quiet) as server:
        port_file.write_text(f"{server.server_port}\n")
        for _ in range(requests):
            server.handle_request()


def ask(port_file: Path, requests: int) -> None:
    """Wait for the server, ask, say how long it took."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (port_file.exists() and port_file.read_text().endswith("\n")):
        if time.monotonic() > deadline:
            sys.exit("no server")
        time.sleep(0.01)
    port = int(port_file.read_text())
    start = time.perf_counter_ns()
    for _ in range(requests):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/load.c")
        if connection.getresponse().read()[:2] != b"/*":
            sys.exit("a wrong answer")
        connection.close()
    sys.stdout.write(f"{time.perf_counter_ns() - start}\n")


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
