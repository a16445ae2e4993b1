"""A server of JSON on loopback, in threads of this process: what stands in for a model's API."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers and content."""


class JsonServer(ABC):
    """Answers what is posted to it as ``answer`` says, from when it is made until ``close``."""

    def __init__(self) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server._post(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @abstractmethod
    def answer(self, path: str, key: str | None, body: dict[str, Any]) -> Reply:
        """What a request is answered, whose header ``authorization`` is ``key``."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        status, headers, content = self.answer(
            handler.path, handler.headers.get("authorization"), body
        )
        sized = {"content-length": str(len(content)), "content-type": "application/json"}
        try:
            handler.send_response(status)
            for name, value in {**sized, **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)
            if headers.get("content-length"):  # more was promised than is sent
                handler.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client gave up, as it may
