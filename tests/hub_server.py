"""A stand-in for the Hugging Face Hub on this machine: what huggingface_hub uses of its HTTP API, and faults."""

import base64
import gzip
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_secretOfTheTests"


@dataclass
class Repo:
    """A repository: its commits, each with all files."""

    private: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=list)
    gated: bool = False

    @property
    def ids(self) -> list[str]:
        return [hashlib.sha1(f"{number}{sorted(files)}".encode()).hexdigest()
                for number, files in enumerate(self.commits)]

    def find(self, revision: str) -> int | None:
        """The number of a commit."""
        if revision == "main":
            return len(self.commits) - 1
        return next((number for number, sha in enumerate(self.ids) if sha.startswith(revision)), None)


@dataclass
class Fault:
    """What goes wrong with the next requests whose "METHOD /path" matches.

    Attributes:
        status: of the response; 0: the connection is closed without one, or within the body of a download.
        message: of the header X-Error-Message.
        times: how often.
    """

    pattern: str
    status: int
    message: str = ""
    times: int = 99


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        """"METHOD /path" of each."""
        self.messages: list[str] = []
        """Summaries of the commits that were uploaded."""
        self.tokens: list[tuple[str, str | None]] = []
        """Host and Authorization of each request."""
        self.ranges: list[str | None] = []
        self.stated: dict[str, object] = {}
        """What is said about a repository in place of the truth: the size of a file, or a value of its info."""
        self.excess = 0
        """Bytes that are sent of a .safetensors file beyond its own; `sent` counts those that went out."""
        self.sent = 0
        self.elsewhere = ""
        """Beginning of the URL where downloads are redirected to; empty: they are sent at once."""
        self.compresses = False
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: dict[str, bytes] | Path, **facts: bool) -> Repo:
        """A repository with these files, or those of a folder, in one commit."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        self.repos[name] = Repo(commits=[files], **facts)
        return self.repos[name]


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        self.path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = f"{self.command} {self.path}"
        self.server.requests.append(request)
        self.server.ranges.append(self.headers.get("Range"))
        self.server.tokens.append((self.headers["Host"], self.headers.get("Authorization")))
        self.cut = False
        for fault in self.server.faults:
            if fault.times and re.search(fault.pattern, request):
                fault.times -= 1
                self.cut = not fault.status
                if fault.status:
                    return self.fail(fault.status, message=fault.message)
        said = self.headers.get("Authorization")
        if said not in (None, f"Bearer {TOKEN}") and not self.path.startswith("/lfs/"):
            return self.fail(401, message="Invalid credentials in Authorization header")
        if self.cut and self.command != "GET":
            return self.hang_up()
        for pattern, method in self.ROUTES:
            if found := re.fullmatch(pattern, request):
                return method(self, *found.groups(), body=body)
        return self.fail(404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def fail(self, status: int, code: str = "", message: str = "") -> None:
        self.reply(b"{}", status, {"X-Error-Code": code, "X-Error-Message": message})

    def reply(self, content: bytes | dict, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(content).encode() if isinstance(content, dict) else content
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:len(content) // 2] if self.cut else content)
        if self.cut:
            self.hang_up()

    def log_message(self, *message: object) -> None:
        pass

    # --- Reading ------------------------------------------------------------------------------------------------------

    def find(self, name: str, revision: str) -> tuple[Repo, int] | None:
        """The repository and the number of the commit; None if the failure was answered."""
        repo, has_token = self.server.repos.get(name), "Authorization" in self.headers
        if not repo or (repo.private and not has_token):
            return self.fail(404 if has_token else 401, "RepoNotFound")
        if repo.gated:
            return self.fail(403, "GatedRepo")
        number = repo.find(revision)
        return self.fail(404, "RevisionNotFound") if number is None else (repo, number)

    def info(self, name: str, revision: str | None, body: bytes) -> None:
        if found := self.find(name, revision or "main"):
            repo, number = found
            self.reply({"id": name, "modelId": name, "sha": repo.ids[number], "private": repo.private, "tags": [],
                        "siblings": [{"rfilename": file, "size": self.server.stated.get(file, len(data))}
                                     for file, data in repo.commits[number].items()], **self.server.stated})

    def resolve(self, name: str, revision: str, file: str, body: bytes) -> None:
        if found := self.find(name, revision):
            repo, number = found
            if file not in repo.commits[number]:
                self.fail(404, "EntryNotFound")
                return
            data = repo.commits[number][file]
            headers = {"X-Repo-Commit": repo.ids[number], "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
            begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if self.server.elsewhere and self.headers["Host"] in self.server.url:
                self.reply(b"", 302, {"Location": f"{self.server.elsewhere}{self.path}"})
            elif self.server.compresses:
                self.reply(gzip.compress(bytes(10_000_000)), 200, {"Content-Encoding": "gzip", **headers})
            elif self.server.excess and file.endswith(".safetensors"):
                self.send_too_much(data)
            elif begin and self.command == "GET":
                self.reply(data[int(begin[1]):], 206, {
                    "Content-Range": f"bytes {begin[1]}-{len(data) - 1}/{len(data)}", **headers})
            else:
                self.reply(data, 200, headers)

    def send_too_much(self, data: bytes) -> None:
        """Send `excess` bytes more, without a Content-Length."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):  # the client has closed the connection
            self.wfile.write(data)
            while self.server.sent < self.server.excess:
                self.wfile.write(bytes(100_000))
                self.server.sent += 100_000

    # --- Writing ------------------------------------------------------------------------------------------------------

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repos:
            self.fail(409, message="You already created this model repo")
            return
        private = asked.get("private") or asked.get("visibility") == "private"
        self.server.add(name, {".gitattributes": b"*.safetensors filter=lfs"}, private=bool(private))
        self.reply({"url": f"{self.server.url}/{name}"})

    def validate_yaml(self, body: bytes) -> None:
        self.reply({"errors": [], "warnings": []})

    def preupload(self, name: str, body: bytes) -> None:
        if found := self.find(name, "main"):
            files = found[0].commits[-1]
            self.reply({"files": [self.upload_mode(file["path"], files.get(file["path"]))
                                  for file in json.loads(body)["files"]]})

    def upload_mode(self, path: str, data: bytes | None) -> dict:
        """How a file is to be uploaded, and the id of the one that is there: SHA-256, or git's."""
        is_large = path.endswith(".safetensors")
        mode = {"path": path, "shouldIgnore": False, "uploadMode": "lfs" if is_large else "regular"}
        if data is None:
            return mode
        return mode | {"oid": hashlib.sha256(data).hexdigest() if is_large else
                       hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}

    def lfs_batch(self, name: str, body: bytes) -> None:
        self.reply({"transfer": "basic", "objects": [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}
            for one in json.loads(body)["objects"]]})

    def put(self, oid: str, body: bytes) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.blobs[oid] = body
        self.reply(b"")

    def commit(self, name: str, body: bytes) -> None:
        repo = self.server.repos[name]
        head, *operations = [json.loads(line) for line in body.splitlines()]
        if head["value"].get("parentCommit", repo.ids[-1]) != repo.ids[-1]:
            self.fail(412, message="A commit has happened since")
            return
        files = dict(repo.commits[-1])
        for operation in operations:
            value = operation["value"]
            files[value["path"]] = (base64.b64decode(value["content"]) if operation["key"] == "file" else
                                    self.server.blobs[value["oid"]])
        repo.commits.append(files)
        self.server.messages.append(head["value"]["summary"])
        self.reply({"commitUrl": f"{self.server.url}/{name}/commit/{repo.ids[-1]}", "commitOid": repo.ids[-1]})

    NAME = r"([\w.-]+/[\w.-]+)"
    ROUTES = (
        (rf"GET /api/models/{NAME}(?:/revision/(.+))?", info),
        (rf"(?:GET|HEAD) /{NAME}/resolve/(.+)/([\w.]+)", resolve),
        ("POST /api/repos/create", create),
        ("POST /api/validate-yaml", validate_yaml),
        (rf"POST /api/models/{NAME}/preupload/main", preupload),
        (rf"POST /{NAME}\.git/info/lfs/objects/batch", lfs_batch),
        (r"PUT /lfs/(\w+)", put),
        (rf"POST /api/models/{NAME}/commit/main", commit),
    )


def environment(server: HubServer, cache: Path) -> dict[str, str]:
    """The variables with which another process uses the server, with a token."""
    return {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(cache), "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}


@contextmanager
def hub_server(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[HubServer]:
    """A running server that huggingface_hub uses in this process, with a token, an empty cache and no pauses."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _http, disable_progress_bars

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with HubServer() as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        for name, value in {"ENDPOINT": server.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_CACHE": str(cache),
                            "HF_HUB_DISABLE_XET": True, "HF_TOKEN_PATH": str(cache / "no token"),
                            "HF_HUB_OFFLINE": False}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
        disable_progress_bars()
        huggingface_hub.close_session()  # of another server, or with a proxy
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            huggingface_hub.close_session()
            server.shutdown()
            thread.join()
