"""A Hub on loopback: the endpoints and headers of huggingface.co that ``huggingface_hub`` uses.

    with HubServer() as server:
        commit = server.commit("datasets", "org/name", {"data/sw.jsonl": b"..."})
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)

Commits are real ones: each keeps its files for good, and a branch points at the latest.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

import pytest


@dataclass
class Repository:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    is_gated: bool = False


class HubServer:
    """Serves repositories held in memory; ``requests`` lists every (method, path) it was asked."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.tokens: list[str | None] = []
        self.accepted_tokens = {"hf_accepted"}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def commit(
        self,
        kind: str,
        name: str,
        files: Mapping[str, bytes],
        *,
        ref: str = "main",
        is_gated: bool = False,
    ) -> str:
        """Makes a commit of these files (and no others) and points ``ref`` at it."""
        repository = self.repositories.setdefault((kind, name), Repository())
        repository.is_gated = is_gated
        content = json.dumps(
            [len(repository.commits), {n: _sha1(b) for n, b in sorted(files.items())}]
        )
        commit = _sha1(f"{kind} {name} {content}".encode())
        repository.commits[commit] = dict(files)
        repository.refs[ref] = commit
        return commit

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self, with_body=True)

            def do_HEAD(self) -> None:
                server._answer(self, with_body=False)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        self.requests.append((request.command, request.path))
        authorization = request.headers.get("authorization")
        token = authorization.removeprefix("Bearer ") if authorization else None
        self.tokens.append(token)
        status, headers, body = self._route(urlsplit(request.path).path, token)
        start, code = 0, status
        if status == 200 and (span := request.headers.get("Range")):
            start, code = int(span.removeprefix("bytes=").split("-")[0]), 206
            headers = {**headers, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        request.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body) - start)}.items():
            request.send_header(name, value)
        request.end_headers()
        if with_body:
            request.wfile.write(body[start:])

    def _route(self, path: str, token: str | None) -> tuple[int, dict[str, str], bytes]:
        found = self._find(path)
        if found is None:
            return _error(404 if token else 401, "RepoNotFound", "Repository not found")
        kind, name, repository, rest = found
        action, _, arguments = rest.partition("/")
        if path.startswith("/api/"):
            if action in ("", "revision"):
                return self._info(kind, name, repository, unquote(arguments or "main"))
            if action == "tree":
                return self._tree(repository, unquote(arguments.split("/")[0]))
        if action == "resolve":
            revision, _, filename = arguments.partition("/")
            is_open = not repository.is_gated or token in self.accepted_tokens
            if not is_open:
                return _error(403 if token else 401, "GatedRepo", f"Access to {name} is restricted")
            return self._file(repository, unquote(revision), unquote(filename))
        return _error(404, "EntryNotFound", f"no such endpoint: {path}")

    def _find(self, path: str) -> tuple[str, str, Repository, str] | None:
        plain = path.removeprefix("/api").strip("/")
        for (kind, name), repository in self.repositories.items():
            prefix = f"{kind}/{name}" if kind == "datasets" or path.startswith("/api") else name
            if plain == prefix or plain.startswith(prefix + "/"):
                return kind, name, repository, plain[len(prefix) :].strip("/")
        return None

    def _info(
        self, kind: str, name: str, repository: Repository, revision: str
    ) -> tuple[int, dict[str, str], bytes]:
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        siblings = [{"rfilename": n} for n in sorted(repository.commits[commit])]
        info = {
            "_id": "0",
            "id": name,
            "sha": commit,
            "private": False,
            "gated": repository.is_gated,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
        }
        return _json(info)

    def _tree(self, repository: Repository, revision: str) -> tuple[int, dict[str, str], bytes]:
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repository.commits[commit]
        folders = {str(f) for n in files for f in Path(n).parents if str(f) != "."}
        entries: list[dict[str, object]] = [
            {"type": "directory", "oid": _sha1(f.encode()), "size": 0, "path": f}
            for f in sorted(folders)
        ]
        entries += [
            {"type": "file", "oid": _sha1(files[n]), "size": len(files[n]), "path": n}
            for n in sorted(files)
        ]
        return _json(entries)

    def _file(
        self, repository: Repository, revision: str, filename: str
    ) -> tuple[int, dict[str, str], bytes]:
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        content = repository.commits[commit].get(filename)
        if content is None:
            return _error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        headers = {
            "X-Repo-Commit": commit,
            "ETag": f'"{_sha1(content)}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        return 200, headers, content


@contextmanager
def hub_environment(endpoint: str, home: Path, *, offline: bool = False) -> Iterator[None]:
    """Points the Hub's variables at a server and an empty home, whatever was set before.

    ``huggingface_hub`` keeps its offline switch in a constant read at import, so that is set too.
    """
    import huggingface_hub.constants

    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_ENDPOINT", endpoint)
        patch.setenv("HF_HUB_OFFLINE", "1" if offline else "0")
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        patch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(home / "token"))
        yield


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _json(content: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"error": message}).encode()
    return status, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}, body
