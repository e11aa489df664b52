"""A stand-in for the Hugging Face Hub on 127.0.0.1, which serves folders as repositories and records all requests."""

import hashlib
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serve {"owner/name": folder} until closed; use as a context.

    Attributes
    ----------
    url : the value for HF_ENDPOINT.
    asked : "METHOD path" of every request so far.
    """

    def __init__(self, repositories):
        self.repositories = {name: Path(folder) for name, folder in repositories.items()}
        self.asked = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def files(self, name):
        """Path in the repository -> path on disk."""
        folder = self.repositories[name]
        return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}

    def answer(self, path):
        """Status, headers and body for a path; None is "not found"."""
        api, _, rest = path.partition("/api/models/")
        name = "/".join((rest if rest else path.lstrip("/")).split("/")[:2])
        if name not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        rest = (rest if rest else path.lstrip("/"))[len(name) + 1:]
        files = self.files(name)
        if "/api/models/" in path and rest.startswith("tree/"):
            entries = [{"type": "file", "path": key, "size": file.stat().st_size, "oid": _oid(file)} for key, file in files.items()]
            return 200, {}, json.dumps(entries).encode()
        if "/api/models/" in path:
            info = {"id": name, "modelId": name, "sha": COMMIT, "private": False, "tags": [],
                    "siblings": [{"rfilename": key} for key in files]}
            return 200, {}, json.dumps(info).encode()
        wanted = rest.split("/", 2)[2]  # resolve/REVISION/FILE
        if wanted not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        return 200, {"ETag": f'"{_oid(files[wanted])}"', "X-Repo-Commit": COMMIT}, files[wanted].read_bytes()

    def _handler(hub):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
                hub.asked.append(f"{self.command} {path}")
                status, headers, body = hub.answer(path)
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *parts):
                pass

        return Handler


def _oid(file):
    return hashlib.sha1(file.read_bytes()).hexdigest()
