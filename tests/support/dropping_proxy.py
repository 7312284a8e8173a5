"""Network faults as data: an HTTP proxy that loses chosen answers, or asks the client to slow down."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"


@dataclass
class DroppingProxy:
    """``drop`` lists the methods whose answers are lost next, in order, after the server has acted;
    ``slow_down`` those that get 503 next without reaching it; ``seen`` what came through."""

    endpoint_url: str = ""
    drop: list[str] = field(default_factory=list)
    slow_down: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)


@contextlib.contextmanager
def dropping_proxy(upstream: str) -> Iterator[DroppingProxy]:
    """Runs a proxy before ``upstream`` (an ``http://host:port`` URL)."""
    proxy = DroppingProxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_method(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if proxy.slow_down and proxy.slow_down[0] == self.command:
                proxy.slow_down.pop(0)
                self.answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
                return
            connection = http.client.HTTPConnection(urlsplit(upstream).netloc)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            data = answer.read()
            proxy.seen.append(self.command)
            if proxy.drop and proxy.drop[0] == self.command:
                proxy.drop.pop(0)
                self.close_connection = True
                return
            self.answer(answer.status, answer.getheaders(), data)

        def answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            self.send_response_only(status)
            names = {name.lower() for name, _ in headers}
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            if "content-length" not in names:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_one_method  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy.endpoint_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
