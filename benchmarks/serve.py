"""Serve a small model: OpenAI-compatible completions, and a RAG system over a folder's passages.

    python benchmarks/serve.py package:smollm2-135m-instruct examples/helpdesk --port 8077

POST /v1/chat/completions, /v1/completions   as OpenAI's; greedy, one request at a time
GET  /v1/models                              the one model that there is
POST /ask {"question": "..."}                -> {"answer": "...", "sources": [{"id": "..."}]}
     with "passages": ["id", ...]            the answer from these, nothing is retrieved
"""

import argparse
import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from accord.models.base import load_model, load_tokenizer
from accord.models.locate import locate
from accord.models.prompt import Prompter
from accord.records import Passage, read_records
from accord.retrieve.bm25 import bm25


class Model:
    """A causal language model that writes greedily; a lock keeps to one request at a time."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer, self.model = load_tokenizer(folder), load_model(folder).eval()
        self.prompter = Prompter(self.tokenizer)
        self.name, self.lock = Path(folder).name, threading.Lock()

    def write(self, ids: list[int], max_tokens: int) -> tuple[str, str, int]:
        """The text after `ids`, why it ended, and how many tokens it has."""
        ends = {self.prompter.end, self.tokenizer.eos_token_id} - {None}
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=sorted(ends),
            pad_token_id=min(ends),
        )
        prompt = torch.tensor([ids])
        with self.lock, torch.inference_mode():
            found = self.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=config,
            )[0, len(ids) :].tolist()
        reason = "stop" if found and found[-1] in ends else "length"
        return self.tokenizer.decode(found, skip_special_tokens=True), reason, len(found)

    def chat_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """The prompt of a conversation, by the model's chat template."""
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


class App:
    """What is served: a model, and the passages that `/ask` answers from."""

    def __init__(
        self, folder: Path, passages: Sequence[Passage], *, k: int = 3, max_tokens: int = 48
    ) -> None:
        self.model, self.passages, self.k, self.max_tokens = Model(folder), passages, k, max_tokens

    def reply(self, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        """(status, JSON) for one request."""
        routes = {
            "/v1/chat/completions": self.chat,
            "/v1/completions": self.complete,
            "/ask": self.ask,
        }
        if path not in routes:
            return 404, {"error": {"message": f"no {path} here", "type": "not_found"}}
        try:
            return 200, routes[path](body)
        except (KeyError, TypeError) as error:
            return 400, {"error": {"message": f"bad request: {error}", "type": "bad_request"}}

    def chat(self, body: Any) -> dict[str, Any]:
        """One turn of a conversation."""
        ids = self.model.chat_ids(body["messages"])
        text, reason, count = self.model.write(ids, body.get("max_tokens") or self.max_tokens)
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
        return self._completion("chat.completion", [choice], len(ids), count)

    def complete(self, body: Any) -> dict[str, Any]:
        """Texts continued: `prompt` is a text, or a list of texts or of token ids."""
        prompts = body["prompt"]
        prompts = [prompts] if isinstance(prompts, str) else prompts
        choices, asked, written = [], 0, 0
        for prompt in prompts:
            ids = self.model.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
            text, reason, count = self.model.write(ids, body.get("max_tokens") or self.max_tokens)
            choices.append({"text": text, "finish_reason": reason})
            asked, written = asked + len(ids), written + count
        return self._completion("text_completion", choices, asked, written)

    def ask(self, body: Any) -> dict[str, Any]:
        """Passages by BM25, unless they are given, and an answer from them."""
        question, fixed = body["question"], body.get("passages")
        if fixed is None:
            found = [r.id for r in next(iter(bm25(self.passages, [question], k=self.k)))]
        else:
            found = fixed
        known = {p.id: p for p in self.passages}
        chosen = [known[id_] for id_ in found]
        prompt = self.model.prompter.build("question", question, chosen, budget=900)
        text, _, _ = self.model.write(list(prompt.ids), self.max_tokens)
        sources = [{"id": p.id, "title": p.title} for p in chosen]
        return {"answer": text.strip(), "sources": sources}

    def _completion(
        self, kind: str, choices: list[dict[str, Any]], asked: int, written: int
    ) -> dict[str, Any]:
        usage = {
            "prompt_tokens": asked,
            "completion_tokens": written,
            "total_tokens": asked + written,
        }
        for index, choice in enumerate(choices):
            choice["index"] = index
        return {
            "id": "served",
            "object": kind,
            "created": 0,
            "model": self.model.name,
            "choices": choices,
            "usage": usage,
        }


def serve(app: App, port: int = 0) -> ThreadingHTTPServer:
    """A server on `port` (0: any free one) that has not begun; `serve_forever()` begins."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # The head and the body of a reply go out together.
        wbufsize = -1

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                status, value = app.reply(self.path.split("?")[0], json.loads(raw))
            except ValueError:
                status, value = 400, {"error": {"message": "not JSON", "type": "bad_request"}}
            self.send(status, value)

        def send(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            listed = [{"id": app.model.name, "object": "model"}]
            self.send(200, {"object": "list", "data": listed})

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a model folder or package:NAME")
    parser.add_argument("data", type=Path, help="a folder with passages.jsonl")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--k", type=int, default=3, help="passages that /ask retrieves")
    parser.add_argument("--max-tokens", type=int, default=48, help="where a request names none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    passages = read_records(args.data / "passages.jsonl", Passage)
    app = App(locate(args.model, "model"), passages, k=args.k, max_tokens=args.max_tokens)
    server = serve(app, args.port)
    print(f"serving {args.model} at http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
