"""A stand-in for the model hub: a process that serves data sets from folders, as the hub does.

As a script: `python tests/hub.py ROOT` serves ROOT/OWNER/NAME/REVISION/... and prints its address.
A data set whose name begins with `private` or `gated` wants the token `hf_test`. Every request is a
line of ROOT/asked.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 2  # files in one page of a listing


@contextlib.contextmanager
def serving_hub(root):
    """The address of a hub of the folders in `root`."""
    command = [sys.executable, __file__, str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    late = threading.Timer(60, process.kill)
    late.start()
    try:
        line = process.stdout.readline()
        assert line.startswith("serving "), f"the hub did not begin: {line!r}"
        yield line.split()[-1]
    finally:
        late.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def files_of(folder):
    """The files of a revision by name."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def commit(folder):
    """The hash of a revision: another one where any file is another."""
    said = [(name, hashlib.sha1(data).hexdigest()) for name, data in files_of(folder).items()]
    return hashlib.sha1(json.dumps(said).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root = Path()

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        with (self.root / "asked").open("a") as log:
            log.write(f"{self.command} {unquote(url.path)}\n")
        if parts[:2] == ["api", "datasets"] and len(parts) == 6:
            self.described(parts[2:4], parts[4], parts[5], parse_qs(url.query))
        elif parts[0] == "datasets" and "resolve" in parts:
            at = parts.index("resolve")
            self.file(parts[1:at], parts[at + 1], "/".join(parts[at + 2 :]))
        else:
            self.refuse(404, "RepoNotFound")

    def found(self, repo, revision):
        """The folder of a revision, or None after the reply that says why not."""
        home = self.root.joinpath(*repo)
        allowed = self.headers.get("Authorization") == "Bearer hf_test"
        if not home.is_dir() or (repo[1].startswith("private") and not allowed):
            return self.refuse(401, "RepoNotFound")
        if repo[1].startswith("gated") and not allowed:
            return self.refuse(403, "GatedRepo")
        if repo[1].startswith("broken"):
            return self.refuse(500, "")
        for folder in home.iterdir():
            name = folder.name.replace("--", "/")
            if revision in (name, commit(folder)):
                return folder
        return self.refuse(404, "RevisionNotFound")

    def described(self, repo, what, revision, query):
        folder = self.found(repo, revision)
        if folder is None:
            return
        names = list(files_of(folder))
        if what == "revision":
            siblings = [{"rfilename": name} for name in names]
            self.answer({"id": "/".join(repo), "sha": commit(folder), "siblings": siblings})
            return
        start = int(query.get("cursor", ["0"])[0])
        page = [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in list(files_of(folder).items())[start : start + PAGE]
        ]
        more = {}
        if start + PAGE < len(names):
            here = f"http://{self.headers['Host']}{urlsplit(self.path).path}"
            more["Link"] = f'<{here}?recursive=True&cursor={start + PAGE}>; rel="next"'
        self.answer(page, more)

    def file(self, repo, revision, name):
        folder = self.found(repo, revision)
        if folder is None:
            return
        if not (folder / name).is_file():
            self.refuse(404, "EntryNotFound")
            return
        data = (folder / name).read_bytes()
        tag = f'"{hashlib.sha1(data).hexdigest()}"'
        self.reply(200, data, {"ETag": tag, "X-Repo-Commit": commit(folder)})

    def answer(self, value, headers=None):
        self.reply(200, json.dumps(value).encode(), headers or {})

    def refuse(self, status, code):
        self.reply(status, b"{}", {"X-Error-Code": code} if code else {})

    def reply(self, status, data, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args):
        """Silent."""


def main():
    Handler.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"serving a hub at http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
