"""A model folder served by name, as vLLM would: `serving_models.py FOLDER --port P --name NAME`.

benchmarks/serve.py with a list of models, for tests of the backend that asks servers.
"""

import argparse
import contextlib
import json
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent


def model_server(folder, name, port=0, window=None):
    """A server of a model that has not begun. `asked` holds the bodies that came in."""
    sys.path[:0] = [str(HERE.parent / "benchmarks")]
    from serve import App, serve

    app = App(Path(folder), [], max_tokens=12)
    server, asked, ours = serve(app, port), [], app.reply

    def reply(path, body):
        asked.append(body)
        return ours(path, body)

    class Handler(server.RequestHandlerClass):
        def do_GET(self):  # noqa: N802
            if self.path != "/v1/models":
                super().do_GET()
                return
            entry = {"id": name} | ({"max_model_len": window} if window else {})
            data = json.dumps({"object": "list", "data": [entry]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    app.reply, server.RequestHandlerClass = reply, Handler
    server.asked, server.url = asked, f"http://127.0.0.1:{server.server_port}/v1"
    return server


@contextlib.contextmanager
def running(server):
    """The server, answering from a thread."""
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    print(f"serving {args.name}", flush=True)
    model_server(args.folder, args.name, args.port).serve_forever()


if __name__ == "__main__":
    main()
