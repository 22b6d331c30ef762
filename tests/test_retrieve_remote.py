"""A retriever behind an address, against a real server on this machine that misbehaves."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from accord.errors import AccordError, InputError, RunError
from accord.records import Passage, Wording
from accord.retrieve.asking import ask
from accord.retrieve.stage import retrieve

PASSAGES = [Passage(id=f"p{n}", text=f"text {n}") for n in range(4)]
HITS = {"results": [{"id": "p1", "score": 2.0}, {"id": "new", "text": "own words"}]}


class Server:
    """Answers with what `reply(body)` gives: JSON, or (status, content type, bytes)."""

    def __init__(self):
        self.reply = lambda body: HITS
        self.seen = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((body, dict(self.headers)))
                said = outer.reply(body)
                status, kind, raw = (
                    said
                    if isinstance(said, tuple)
                    else (200, "application/json", json.dumps(said).encode())
                )
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/search"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def search(server, queries, k=3, **options):
    options = {"url": server.url, "tries": 1, **options}
    return list(ask("http", PASSAGES, queries, k=k, options=options))


def test_each_query_is_posted_and_its_passages_are_read(server):
    found = search(server, ["first?", 'a "quoted" one'], k=2)
    assert found == [HITS["results"]] * 2
    bodies = [body for body, _ in server.seen]
    assert sorted(bodies, key=str) == sorted(
        [{"query": "first?", "k": 2}, {"query": 'a "quoted" one', "k": 2}], key=str
    )


def test_body_path_and_headers_are_the_users(server, monkeypatch):
    monkeypatch.setenv("SEARCH_KEY", "s3cret")
    server.reply = lambda body: {"hits": {"hits": [{"_id": "p2", "_source": {"body": "own"}}]}}
    (found,) = search(
        server,
        ["why?"],
        body={"match": {"text": "{{ query }}"}, "size": "{{ k }}"},
        results="hits.hits[*].{id: _id, text: _source.body}",
        headers=("X-Search-Key: $SEARCH_KEY", "X-Lang: en"),
        api_key_env="SEARCH_KEY",
    )
    assert found == [{"id": "p2", "text": "own"}]
    ((body, headers),) = server.seen
    assert body == {"match": {"text": "why?"}, "size": 3}
    assert headers["X-Search-Key"] == "s3cret" and headers["X-Lang"] == "en"
    assert headers["Authorization"] == "Bearer s3cret"


FAULTS = {
    "html": (200, "text/html", b"<html><body>Sign in</body></html>"),
    "broken": (200, "application/json", b'{"results": ['),
    "latin": (200, "application/json", '{"results": "é"}'.encode("latin-1")),
    "server": (500, "text/plain", b"oops"),
    "busy": (429, "text/plain", b"slow down"),
    "mapping": {"results": {"id": "p1"}},
    "text": {"results": "p1"},
    "schema": {"items": []},
}


def grounded(server, queries, say, **options):
    asked = [
        Wording(id=f"q{n}", original_id=f"q{n}", type=None, query=query, split="test")
        for n, query in enumerate(queries)
    ]
    options = {"url": server.url, "tries": 1, **options}
    return retrieve(asked, PASSAGES, retriever="http", options=options, say=say)


def test_what_a_server_does_wrong_is_named_and_costs_one_query(server):
    server.reply = lambda body: FAULTS.get(body["query"], HITS)
    notes = []
    found = grounded(server, ["good", *FAULTS, "good too"], notes.append)
    assert [g.passages[0].id for g in (found[0], found[-1])] == ["p1", "p1"]
    assert all(g.passages == () and g.failed for g in found[1:-1])
    reasons = dict(zip(FAULTS, [g.failed for g in found[1:-1]], strict=True))
    assert "HTML" in reasons["html"] and "500" in reasons["server"]
    assert "rate limit" in reasons["busy"] and "results" in reasons["schema"]
    assert "dict" in reasons["mapping"] and "str" in reasons["text"]
    (note,) = notes
    assert f"{len(FAULTS)} of {len(FAULTS) + 2} queries failed" in note and "`q1`" in note


def test_an_answer_that_does_not_come_is_a_timeout(server):
    done = threading.Event()

    def reply(body):
        if body["query"] == "slow":
            done.wait(60)
        return HITS

    server.reply = reply
    first, slow, last = search(server, ["good", "slow", "good"], timeout=0.5, concurrency=1)
    done.set()
    assert first == last == HITS["results"]
    assert slow.reason == "timeout"


def test_null_is_nothing_found(server):
    server.reply = lambda body: {"results": []}
    assert search(server, ["x"]) == [[]]


def test_nobody_at_the_address_is_one_sentence():
    with pytest.raises(RunError, match=r"retrieve: http://127\.0\.0\.1:9/x: no connection"):
        list(ask("http", (), ["x"], k=1, options={"url": "http://127.0.0.1:9/x", "tries": 1}))


def test_a_path_that_is_not_in_the_first_reply_shows_what_there_is(server):
    server.reply = lambda body: {"documents": [], "took": 3}
    with pytest.raises(AccordError, match="`documents`") as caught:
        search(server, ["x"])
    assert "results" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": ""}, "retrieve.url"),
        ({"url": "ftp://x"}, "http"),
        ({"results": "hits[*"}, "JMESPath"),
        ({"body": "{{ query"}, "body"),
        ({"headers": ("X-Key $KEY",)}, "Name: $VARIABLE"),
        ({"headers": ("X-Key: $NOT_SET_ANYWHERE",)}, "$NOT_SET_ANYWHERE"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, "$NOT_SET_ANYWHERE"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(options, said):
    options = {"url": "http://127.0.0.1:9/x", **options}
    with pytest.raises(InputError) as caught:
        list(ask("http", (), ["x"], k=1, options=options))
    assert said in str(caught.value)
