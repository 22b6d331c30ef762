"""A model served for real, in a process of its own, and a proxy that misbehaves by a script.

As a script: `python tests/serving.py` serves a tiny random model over examples/helpdesk as
benchmarks/serve.py serves any model, and prints its address. In tests: `served()` starts that
process, `Proxy` stands between it and a client.
"""

import contextlib
import dataclasses
import http.client
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
STARTS = 240.0  # seconds a loaded machine may take to import torch and begin


@contextlib.contextmanager
def served():
    """The address of a tiny model that a process of its own serves, as `http://127.0.0.1:PORT`."""
    command = [sys.executable, str(HERE / "serving.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent)
    late = threading.Timer(STARTS, process.kill)
    late.start()
    try:
        line = process.stdout.readline()
        assert line.startswith("serving "), f"the server did not begin: {line!r}"
        yield line.split()[-1]
    finally:
        late.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


@dataclasses.dataclass
class Fault:
    """What happens to one request instead of, or on the way to, the real reply.

    `delay` seconds come first. `drop`: the line is cut before a reply; `cut`: so many bytes are
    missing at the end of a reply that promised them; `change`: bytes of the real body -> other
    bytes; `endless`: the body never ends. With `status`, `body` and `headers` a reply is made up.
    """

    status: int | None = None
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False
    cut: int = 0
    change: object = None
    endless: bool = False
    headless: bool = False


class Proxy:
    """Hands requests on to `target`; `script(number, body)` names a Fault, or None, for each.

    `number` counts from 1 in the order of arrival. `asked` holds the bodies, `heads` the headers.
    """

    def __init__(self, target, script=lambda number, body: None):
        self.target, self.script = urlsplit(target), script
        self.asked, self.heads, self.lock = [], [], threading.Lock()
        self.closing = threading.Event()
        ours = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                with ours.lock:
                    ours.asked.append(json.loads(raw))
                    ours.heads.append((self.path, dict(self.headers)))
                    number = len(ours.asked)
                fault = ours.script(number, json.loads(raw)) or Fault()
                ours.closing.wait(fault.delay)
                with contextlib.suppress(ConnectionError):  # the client did not wait
                    self.misbehave(raw, fault)

            def misbehave(self, raw, fault):
                if fault.drop:
                    reset = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                    self.close_connection = True
                    return
                if fault.headless:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Padding:")
                    self.drip()
                if fault.status is not None:
                    reply = fault.status, fault.headers, fault.body
                else:
                    reply = ours.forward(self.path, raw)
                status, headers, data = reply
                data = fault.change(data) if fault.change else data
                self.send_response(status)
                headers = {"Content-Type": "application/json"} | headers
                for name, value in (headers | {"Content-Length": str(len(data))}).items():
                    if not (fault.endless and name == "Content-Length"):
                        self.send_header(name, value)
                self.end_headers()
                if fault.endless:
                    self.drip()
                self.wfile.write(data[: len(data) - fault.cut])
                self.close_connection = self.close_connection or bool(fault.cut)

            def drip(self):
                self.close_connection = True
                while not ours.closing.wait(0.02):
                    self.wfile.write(b" ")
                    self.wfile.flush()

            def log_message(self, *args):
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def forward(self, path, raw):
        connection = http.client.HTTPConnection(self.target.netloc, timeout=STARTS)
        try:
            connection.request("POST", path, raw, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, {}, reply.read()
        finally:
            connection.close()

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


def wait_until(condition, seconds=200.0):
    """Wait until `condition()` holds; fails after so long that it never will."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def main():
    """Serve a tiny random model: the same weights and texts at every start."""
    sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]
    from conftest import HELPDESK, make_tokenizer, tiny_model
    from serve import App, serve

    from accord.records import Passage, read_records

    with tempfile.TemporaryDirectory() as folder:
        tiny_model("llama").save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        passages = read_records(HELPDESK / "passages.jsonl", Passage)
        app = App(Path(folder), passages, max_tokens=12)
    server = serve(app)
    print(f"serving a tiny model at http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
