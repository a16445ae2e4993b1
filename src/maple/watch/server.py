"""Serves the live page on the loopback address alone: two paths, GET and HEAD, nothing written.

The standard library's server is enough for one reader on one machine. What it must withstand is a
web page open in the same browser. Such a page cannot read an answer of another origin, unless a
name of its own is made to point at 127.0.0.1 (DNS rebinding): so a request whose ``Host`` is not
the loopback address with this port is refused, and no answer carries a CORS header.
"""

from __future__ import annotations

import json
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

from maple.errors import UsageError
from maple.report.embed import content_security_policy
from maple.watch.state import Watcher

HOST = "127.0.0.1"
LOOK_SHARE = 20
"""Seconds between looks, per second that a look takes."""
SECONDS_PER_REQUEST = 30
"""A connection that says nothing for so long is closed."""


class WatchServer(ThreadingHTTPServer):
    """The server of one store; ``url`` is what to open."""

    daemon_threads = True

    def __init__(self, directory: Path, port: int) -> None:
        self.watcher = Watcher(directory)
        self.looking = threading.Lock()
        self.seen = b""
        self.look_again_at = 0.0
        style, script = _resource("watch.css"), _resource("watch.js")
        page = _resource("watch.html")
        self.page = page.replace("/*style*/", style).replace("/*script*/", script).encode()
        policy = content_security_policy([script])
        self.policy = f"{policy}; connect-src 'self'; frame-ancestors 'none'"
        super().__init__((HOST, port), _Handler)

    @property
    def port(self) -> int:
        """The port that it listens on, also where 0 was asked for."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address to open in a browser of this machine."""
        return f"http://{HOST}:{self.port}/"

    def state(self) -> bytes:
        """Returns the store's state as JSON: one look at a time, however many tabs ask.

        A look is good for twenty times as long as it took, so that watching a store of thousands
        of evaluations takes at most a twentieth of one core from the runs that fill it.
        """
        with self.looking:
            begin = time.monotonic()
            if begin >= self.look_again_at:
                self.seen = json.dumps(self.watcher.look(), ensure_ascii=False).encode()
                end = time.monotonic()
                self.look_again_at = end + LOOK_SHARE * (end - begin)
            return self.seen


def open_server(directory: Path, port: int = 0) -> WatchServer:
    """Returns a server that listens, to be run with ``serve_forever``.

    Args:
        directory: the store; it may be empty but for ``study.json``.
        port: 0 takes a free one.

    Raises:
        StoreError: the directory is no store.
        UsageError: the port cannot be had.
    """
    try:
        return WatchServer(directory, port)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"port {port} of {HOST} cannot be listened on: {reason}. "
            "Name another with --port, or leave it out and a free one is taken."
        ) from error


class _Handler(BaseHTTPRequestHandler):
    server: WatchServer
    server_version = "maple"
    sys_version = ""
    timeout = SECONDS_PER_REQUEST

    def do_GET(self) -> None:
        """Answers ``/`` and ``/state``."""
        if not self._is_local():
            self._answer(HTTPStatus.FORBIDDEN, b"not a local address\n", "text/plain")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, self.server.page, "text/html")
        elif self.path == "/state":
            self._answer(HTTPStatus.OK, self.server.state(), "application/json")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"nothing here\n", "text/plain")

    def do_HEAD(self) -> None:
        """Answers as ``do_GET``, without the content."""
        self.do_GET()

    def _is_local(self) -> bool:
        hosts = self.headers.get_all("Host") or []
        names = (f"{HOST}:{self.server.port}", f"localhost:{self.server.port}")
        return len(hosts) == 1 and hosts[0] in names

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if kind == "text/html":
            self.send_header("Content-Security-Policy", self.server.policy)
        self.end_headers()
        if self.command != "HEAD":
            self._write(content)

    def _write(self, content: bytes) -> None:
        try:
            self.wfile.write(content)
        except (TimeoutError, ConnectionError):
            # The tab was closed: nobody is left to tell.
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a page that asks every two seconds would fill the terminal."""


def _resource(name: str) -> str:
    folder = resources.files("maple.watch") / "templates"
    return (folder / name).read_text(encoding="utf-8")
