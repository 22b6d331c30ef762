"""A stand-in for the model hub that takes commits: as a script it serves and stores in ROOT.

`python tests/hub_upload.py ROOT` prints its address. The token is `hf_test`. Weights go the way of
large files: a batch request, an upload, then the commit.
"""

import base64
import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root = Path()
    large: ClassVar[dict] = {}

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer hf_test":
            return self.reply(401, {"error": "Invalid credentials"})
        if self.path == "/api/validate-yaml":  # of the card
            return self.reply(200, {"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            (self.root / name).mkdir(parents=True, exist_ok=True)
            (self.root / name / ".private").write_text(str(asked.get("visibility")))
            return self.reply(200, {"url": f"{self.address}/{name}", "id": name, "name": name})
        if "/preupload/" in self.path:
            files = json.loads(content)["files"]
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for f in files
            ]
            return self.reply(200, {"files": modes})
        if self.path.endswith("/info/lfs/objects/batch"):
            base = f"{self.address}/store/"
            objects = [
                o | {"actions": {"upload": {"href": base + o["oid"], "header": {}}}}
                for o in json.loads(content)["objects"]
            ]
            return self.reply(200, {"transfer": "basic", "objects": objects})
        if "/commit/" in self.path:
            repo = self.root.joinpath(*self.path.split("/")[3:5])
            for line in content.decode().splitlines():
                self.take(repo, json.loads(line))
            return self.reply(
                200,
                {
                    "commitUrl": f"{self.address}/{repo.parent.name}/{repo.name}",
                    "commitOid": "0" * 40,
                },
            )
        return self.reply(404, {"error": self.path})

    def take(self, repo, line):
        value = line["value"]
        if line["key"] == "file":
            (repo / value["path"]).write_bytes(base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            (repo / value["path"]).write_bytes(self.large[value["oid"]])

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rsplit("/", 1)[-1]
        assert hashlib.sha256(content).hexdigest() == oid
        self.large[oid] = content
        self.reply(200, {})

    def do_GET(self):
        self.reply(404, {"error": self.path})

    def reply(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        with (self.root / ".asked").open("a") as log:
            log.write(f"{self.command} {self.path}\n")


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"serving http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
