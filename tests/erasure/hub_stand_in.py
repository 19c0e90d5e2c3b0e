"""A local stand-in of the hub's HTTP interface: repositories in memory, as much as uploading and fetching need."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import yaml


class Hub:
    """Repositories by name, each a list of commits: files by path. ``token`` is the one that may write."""

    def __init__(self, token: str) -> None:
        self.token, self.repos, self.private = token, dict[str, list[dict[str, bytes]]](), dict[str, bool]()
        self.fetched: list[str] = []
        self.address = ""

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes] | None:
        """Files of a commit; of the last for a branch."""
        commits = self.repos.get(repo)
        if not commits:
            return None
        named = {_sha(repo, number): files for number, files in enumerate(commits)}
        return commits[-1] if revision == "main" else named.get(revision)

    def sha(self, repo: str, revision: str = "main") -> str:
        """Name of a commit."""
        return _sha(repo, len(self.repos[repo]) - 1) if revision == "main" else revision


def _sha(repo: str, number: int) -> str:
    return hashlib.sha1(f"{repo}@{number}".encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(parts)

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._send(401, {"error": "Invalid username or password."})
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if parts == ["api", "validate-yaml"]:
            head = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            errors = [] if isinstance(head, dict) else [{"message": "no metadata"}]
            return self._send(400 if errors else 200, {"errors": errors, "warnings": []})
        repo = "/".join(parts[2:4])
        if repo not in self.hub.repos:
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if parts[4] == "preupload":
            files = json.loads(body)["files"]
            told = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
            return self._send(200, {"files": told})
        if parts[4] == "commit":
            return self._commit(repo, [json.loads(line) for line in body.splitlines()])
        return self._send(404, {"error": "no such route"})

    def _create(self, wanted: dict[str, Any]) -> None:
        repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        url = {"url": f"{self.hub.address}/{repo}"}
        if repo in self.hub.repos:
            return self._send(409, {"error": "You already created this model repo", **url})
        self.hub.repos[repo], self.hub.private[repo] = (
            [{".gitattributes": b""}],
            wanted.get("visibility") == "private" or bool(wanted.get("private")),
        )
        return self._send(200, url)

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.hub.files(repo) or {})
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.hub.repos[repo].append(files)
        sha = self.hub.sha(repo)
        url = f"{self.hub.address}/{repo}/commit/{sha}"
        self._send(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if api else parts[:2])
        revision = parts[5] if api and len(parts) > 5 else "main" if api else parts[3]
        files = self.hub.files(repo, revision)
        if files is None:
            code = "RevisionNotFound" if repo in self.hub.repos else "RepoNotFound"
            return self._send(404, {"error": code}, {"X-Error-Code": code})
        sha = self.hub.sha(repo, revision)
        if api and len(parts) > 4 and parts[4] == "tree":
            return self._send(200, [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ])  # fmt: skip
        if api:
            siblings = [{"rfilename": path} for path in files]
            return self._send(200, {"id": repo, "modelId": repo, "sha": sha, "siblings": siblings, "tags": []})
        path = "/".join(parts[4:])
        if path not in files:
            return self._send(404, {"error": "EntryNotFound"}, {"X-Error-Code": "EntryNotFound"})
        self.hub.fetched.append(path)
        data = files[path]
        return self._send(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": sha})


@contextmanager
def hub(token: str) -> Iterator[Hub]:
    """A hub that runs while the context is open."""
    found = Hub(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": found}))
    found.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
