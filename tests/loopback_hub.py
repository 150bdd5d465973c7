"""A Hugging Face hub on the loopback interface: repositories in memory, every request noted.

It speaks what huggingface_hub's client needs to describe, list and download models: model info (with LFS hashes when
asked for), refs, tree, paths-info, and resolve with HEAD and GET, ETag, X-Repo-Commit, X-Linked-Etag, X-Linked-Size,
the redirect of LFS files and Range requests. Use it as a context manager:

    with LoopbackHub() as hub:
        hub.add("org/model", {"main": {"config.json": b"{}", "model.safetensors": weights}})
        subprocess.run([...], env=os.environ | hub.env(cache_folder))
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

LFS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".h5", ".msgpack", ".onnx", ".gguf")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blob_id(content: bytes) -> str:
    """Git's hash of a file, the ETag of what is not in LFS."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of a folder, as one revision of `LoopbackHub.add`."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None


@dataclass
class Repo:
    revisions: dict[str, dict[str, bytes]]
    gated: bool = False
    commits: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, files in self.revisions.items():
            content = name + "".join(f"{path}:{blob_id(data)}" for path, data in sorted(files.items()))
            self.commits[name] = hashlib.sha1(content.encode()).hexdigest()

    def find(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        for name, commit in self.commits.items():
            if revision in {name, commit}:
                return commit, self.revisions[name]
        return None


class LoopbackHub:
    """The server; `requests` is what it was asked, in order."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self._cuts: dict[str, int] = {}
        self._lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def storage(self) -> str:
        """Where LFS files are: another host name, as the client follows redirects on the hub's own by itself."""
        return f"http://localhost:{self.server.server_address[1]}"

    def add(self, repo: str, revisions: dict[str, dict[str, bytes]], *, gated: bool = False) -> Repo:
        """Publish a repository: revision -> path -> content."""
        self.repos[repo] = Repo(revisions, gated)
        return self.repos[repo]

    def cut_once(self, content: bytes, after: int) -> None:
        """Close the connection after this many bytes, the first time that this LFS file's content is sent."""
        self._cuts[sha256(content)] = after

    def env(self, cache: Path, **more: str) -> dict[str, str]:
        """Environment variables for a subprocess that shall take this server for the hub and keep its cache here."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(cache),
            "HF_HUB_CACHE": str(cache / "hub"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "DISABLE_SAFETENSORS_CONVERSION": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "OVERTRAIN_CACHE": str(cache / "overtrain"),
        } | more

    def gets(self, content: bytes) -> list[Request]:
        """The GET requests for an LFS file's content."""
        return [r for r in self.requests if r.method == "GET" and r.path.endswith(sha256(content))]

    def note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def take_cut(self, digest: str) -> int | None:
        with self._lock:
            return self._cuts.pop(digest, None)

    def stored(self, digest: str) -> bytes | None:
        every = (data for repo in self.repos.values() for files in repo.revisions.values() for data in files.values())
        return next((data for data in every if sha256(data) == digest), None)


def _sibling(path: str, data: bytes, *, blobs: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": path}
    if blobs:
        entry |= {"size": len(data), "blobId": blob_id(data)}
        if path.endswith(LFS_SUFFIXES):
            entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
    return entry


def _tree_entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
    if path.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    return entry


def _handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.note(Request(self.command, unquote(self.path), self.headers.get("Range")))
            if found := re.fullmatch(r"/lfs/([0-9a-f]{64})", url.path):
                self.content(hub.stored(found[1]) or b"", found[1])
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/([a-z-]+)(?:/([^/]+))?(?:/(.*))?)?", url.path):
                self.api(found[1], found[2] or "revision", unquote(found[3] or "main"), parse_qs(url.query), body)
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", url.path):
                self.resolve(found[1], unquote(found[2]), unquote(found[3]))
            else:
                self.fail(404, "", "not served here")

        def api(self, name: str, verb: str, revision: str, query: dict[str, list[str]], body: bytes) -> None:
            repo = self.readable(name)
            if repo is None:
                return
            if verb == "refs":
                branches = [
                    {"name": n, "ref": f"refs/heads/{n}", "targetCommit": commit} for n, commit in repo.commits.items()
                ]
                self.reply(200, json.dumps({"branches": branches, "converts": [], "tags": []}).encode())
                return
            found = repo.find(revision)
            if found is None:
                self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                return
            commit, files = found
            if verb == "revision":
                siblings = [_sibling(path, data, blobs="blobs" in query) for path, data in sorted(files.items())]
                answer: Any = {"id": name, "modelId": name, "sha": commit, "private": False, "siblings": siblings}
            elif verb == "tree":
                answer = [_tree_entry(path, data) for path, data in sorted(files.items())]
            elif verb == "paths-info":
                wanted = parse_qs(body.decode()).get("paths", [])
                answer = [_tree_entry(path, data) for path, data in sorted(files.items()) if path in wanted]
            else:
                self.fail(404, "", f"{verb} is not served here")
                return
            self.reply(200, json.dumps(answer).encode())

        def resolve(self, name: str, revision: str, path: str) -> None:
            repo = self.readable(name)
            if repo is None:
                return
            found = repo.find(revision)
            if found is None:
                self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                return
            commit, files = found
            if path not in files:
                self.fail(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
                return
            data = files[path]
            if path.endswith(LFS_SUFFIXES):
                headers = {
                    "Location": f"{hub.storage}/lfs/{quote(sha256(data))}",
                    "X-Repo-Commit": commit,
                    "X-Linked-Etag": f'"{sha256(data)}"',
                    "X-Linked-Size": str(len(data)),
                }
                self.reply(302, b"", headers)
                return
            self.reply(200, data, {"X-Repo-Commit": commit, "ETag": f'"{blob_id(data)}"'})

        def content(self, data: bytes, digest: str) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(asked[1]) if asked else 0
            cut = hub.take_cut(digest) if self.command == "GET" else None
            self.send_response(206 if asked else 200)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(data) - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[start:] if cut is None else data[start : start + cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True

        def readable(self, name: str) -> Repo | None:
            repo = hub.repos.get(name)
            if repo is None:  # the hub does not tell strangers what is private and what is not there
                self.fail(401, "", "Invalid username or password.")
            elif repo.gated:
                self.fail(401, "GatedRepo", f"Access to model {name} is restricted.")
                return None
            return repo

        def fail(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
            known = {"X-Error-Code": code} if code else {}
            self.reply(
                status, json.dumps({"error": message}).encode(), known | {"X-Error-Message": message} | (headers or {})
            )

        def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
