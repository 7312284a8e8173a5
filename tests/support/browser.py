"""A real browser for tests: headless Chromium, spoken to through a pair of pipes (Chrome DevTools protocol).

REELWEAVE_BROWSER names the program; else one of the usual names is looked for. Nothing but Python is needed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-zygote",
    "--no-first-run",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
_PATIENCE = 60.0


def find_browser() -> str | None:
    """Path of a Chromium that can be started, or None."""
    named = os.environ.get("REELWEAVE_BROWSER")
    if named:
        return shutil.which(named)
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Tab:
    """One page. ``problems`` are errors that it told on its console, or that the browser told of it."""

    def __init__(self, program: str, profile: Path) -> None:
        self.problems: list[str] = []
        self._number, self._session, self._buffer = 0, "", b""
        self._events: list[dict[str, Any]] = []
        self._pid, self._to, self._from = _start(program, profile)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the protocol and its answer. Raises RuntimeError when it is refused."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                found: dict[str, Any] = answer["result"]
                return found

    def open(self, path: Path, *, width: int, height: int = 900) -> None:
        """Show a local page in a window of this size, in CSS pixels; returns when it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self._events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at ``start``, move it to ``end`` and let go; CSS pixels of the window."""
        steps = [("mouseMoved", start), ("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)]
        for kind, (x, y) in steps:
            held = {} if (kind, x) == ("mouseMoved", start[0]) else {"button": "left", "buttons": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, clickCount=1, **held)

    def picture(self) -> np.ndarray:
        """What is seen of the whole page, uint8 BGR [h, w, 3]."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return cv2.imdecode(np.frombuffer(base64.b64decode(shot), np.uint8), cv2.IMREAD_COLOR)

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._to)
        os.close(self._from)

    def _receive(self) -> dict[str, Any]:
        limit = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], max(0.0, limit - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            piece = os.read(self._from, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message)
            self.problems += _problem(message["method"], message["params"])
        return message


@contextlib.contextmanager
def browser_tab(profile: Path) -> Iterator[Tab]:
    """A page in a browser of its own. Raises RuntimeError where none is found."""
    program = find_browser()
    if program is None:
        raise RuntimeError("no browser; set REELWEAVE_BROWSER to a Chromium")
    tab = Tab(program, profile)
    try:
        yield tab
    finally:
        tab.close()


def _start(program: str, profile: Path) -> tuple[int, int, int]:
    """Process id, and the ends of the pipes that we write to and read from: it has the others as 3 and 4."""
    its_in, to = os.pipe()
    from_, its_out = os.pipe()
    # Out of the way of 3 and 4.
    high_in, high_out = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (its_in, its_out))
    with open(profile.with_suffix(".log"), "wb") as log:
        pid = os.posix_spawn(
            program,
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            dict(os.environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, high_in, 3),
                (os.POSIX_SPAWN_DUP2, high_out, 4),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
            ],
        )
    for end in (its_in, its_out, high_in, high_out):
        os.close(end)
    return pid, to, from_


def _problem(method: str, told: dict[str, Any]) -> list[str]:
    if method == "Runtime.exceptionThrown":
        return [json.dumps(told["exceptionDetails"])]
    if method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
        return [json.dumps(told["args"])]
    if method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
        return [f"{told['entry']['source']}: {told['entry']['text']}"]
    return []
