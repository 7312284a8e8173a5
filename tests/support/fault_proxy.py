"""Network faults as data: an HTTP proxy before an S3 server that works through a list of faults."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["slow_down", "error", "denied", "reset", "lost", "truncated", "damaged", "slow", "stale"]

_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>injected</Message></Error>"


_REFUSALS = {
    "slow_down": (503, b"SlowDown"),
    "error": (500, b"InternalError"),
    "denied": (403, b"AccessDenied"),
}


@dataclass
class Fault:
    """What happens to the next ``times`` requests of ``method`` whose target contains ``target``.

    slow_down: 503, not forwarded. error: 500, denied: 403, not forwarded. reset: TCP reset, not forwarded.
    lost: forwarded, then the connection is reset instead of an answer. truncated: half of the body,
    under the full length. damaged: one bit of the body is flipped. slow: answered after a second.
    stale: the answer that the same request got before, if there was one.
    """

    method: str
    kind: Kind
    times: int = 1
    target: str = ""

    def takes(self, method: str, target: str) -> bool:
        return self.times > 0 and method == self.method and self.target in target


@dataclass
class FaultProxy:
    """``faults`` still to come, ``seen`` the requests (method, target) that reached the server."""

    endpoint_url: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[str, tuple[int, list[tuple[str, str]], bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, method: str, target: str) -> Kind | None:
        with self._lock:
            for fault in self.faults:
                if fault.takes(method, target):
                    fault.times -= 1
                    return fault.kind
        return None

    def count(self, method: str) -> int:
        """Requests of this method that reached the server."""
        return sum(seen == method for seen, _ in self.seen)

    @property
    def exhausted(self) -> bool:
        """Whether every fault has happened."""
        return all(fault.times == 0 for fault in self.faults)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy
    upstream: str

    def handle_one_method(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.proxy.next_fault(self.command, self.path)
        if kind == "reset":
            self.hang_up()
        elif kind in _REFUSALS:
            status, code = _REFUSALS[kind]
            self.answer(status, [("Content-Type", "application/xml")], _ERROR % code)
        elif kind == "stale" and self.path in self.proxy.answers:
            self.answer(*self.proxy.answers[self.path])
        else:
            self.forward(body, kind)

    def forward(self, body: bytes, kind: Kind | None) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        data, headers = answer.read(), answer.getheaders()
        self.proxy.seen.append((self.command, self.path))
        if kind == "lost":
            self.hang_up()
            return
        if kind == "slow":
            time.sleep(1.0)
        if kind == "truncated":
            self.answer(answer.status, headers, data, cut=len(data) // 2)
            self.hang_up()
            return
        if kind == "damaged":
            data = bytes([data[0] ^ 1]) + data[1:]
        if self.command == "GET":
            self.proxy.answers[self.path] = (answer.status, headers, data)
        self.answer(answer.status, headers, data)

    def answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, cut: int | None = None
    ) -> None:
        self.send_response_only(status)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if "content-length" not in names:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:cut])

    def hang_up(self) -> None:
        """Close with a reset, as a crashed peer or a firewall does."""
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_one_method  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def fault_proxy(upstream: str, *faults: Fault) -> Iterator[FaultProxy]:
    """Runs a proxy before ``upstream`` (an ``http://host:port`` URL)."""
    proxy = FaultProxy(faults=list(faults))
    handler = type("Handler", (_Handler,), {"proxy": proxy, "upstream": upstream})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    proxy.endpoint_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
