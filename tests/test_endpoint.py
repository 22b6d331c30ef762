"""The door to chat endpoints, against a real local server that misbehaves by a script."""

import dataclasses
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers import tree
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import InputError, RunError
from accord.models import endpoint as module
from accord.models import posting
from accord.models.answers import AnswerCache
from accord.models.asking import backoff, retry_after
from accord.models.endpoint import Endpoint, Reply, content
from accord.models.posting import TOO_LARGE
from accord.models.spending import SPENT, Spending

SECRET = "sk-live-0123456789"


@dataclasses.dataclass
class Answer:
    """What the server does: a body and status, after `delay` seconds, or it drops the line."""

    text: str | None = None
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0
    drop: bool = False
    trickle: float = 0.0  # seconds between the bytes of the body

    def bytes(self):
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"error": {"message": self.text, "type": "x"}}).encode()
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        whole = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
        return json.dumps(whole | {"choices": [choice]}).encode()


class Server:
    """A chat endpoint on a free port: `behave(number, prompt)` gives the Answer to each request."""

    def __init__(self, behave):
        self.behave, self.requests, self.lock = behave, [], threading.Lock()
        ours = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with ours.lock:
                    ours.requests.append((self.path, self.headers, body))
                    number = len(ours.requests)
                answer = ours.behave(number, body["messages"][0]["content"])
                time.sleep(answer.delay)
                if answer.drop:
                    reset = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                    self.close_connection = True
                    return
                self.reply(answer, answer.bytes())

            def reply(self, answer, data):
                headers = {"Content-Type": "application/json", **answer.headers}
                try:
                    self.send_response(answer.status)
                    for name, value in {**headers, "Content-Length": str(len(data))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    if answer.trickle:
                        self.drip(answer, data)
                    self.wfile.write(data)
                except ConnectionError:
                    """The client did not wait."""

            def drip(self, answer, data):
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(answer.trickle)

            def log_message(self, *args):
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    @property
    def prompts(self):
        return [body["messages"][0]["content"] for _, _, body in self.requests]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def echo(number, prompt):
    return Answer(f"re: {prompt}")


def script(*answers):
    """The answers in turn, the last one for ever."""
    return lambda number, prompt: answers[min(number, len(answers)) - 1]


def ask(url, prompts, *, seed=0, accept=lambda text: True, **options):
    endpoint = Endpoint(url, "m", **{"sleep": lambda seconds: None, **options})
    return list(endpoint.ask_all(prompts, seed=seed, accept=accept))


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=20),
    st.integers(1, 9),
)
def test_replies_are_in_order_and_equal_prompts_are_asked_once(prompts, concurrency):
    slow = random.Random(0)
    with Server(lambda n, p: Answer(f"re: {p}", delay=slow.random() / 100)) as server:
        replies = ask(server.url, prompts, concurrency=concurrency)
    assert replies == [Reply(f"re: {prompt}") for prompt in prompts]
    assert sorted(server.prompts) == sorted(set(prompts))


def test_the_request_holds_model_prompt_temperature_seed_and_key(monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET + "\n")
    with Server(echo) as server:
        ask(server.url + "?api-version=2", ["hi"], seed=7, temperature=0.5, api_key_env="MY_KEY")
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions?api-version=2"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "seed": 7,
    }


HTML = Answer(body=b"<html>Bad gateway</html>", headers={"Content-Type": "text/html"})
CUT = Answer(body=Answer("half").bytes()[:-20])
CHANGED = Answer(body=b'{"output": [{"text": "hi"}]}')
SURROGATE = Answer(body=Answer("X").bytes().replace(b"X", b"\\ud83d"))
PARTS = Answer(body=Answer("X").bytes().replace(b'"X"', b'["X"]'))


@pytest.mark.parametrize(
    "bad",
    [
        Answer("slow down", 429),
        Answer("oh", 500),
        Answer("soon", 503),
        Answer(drop=True),
        HTML,
        CUT,
        CHANGED,
        SURROGATE,
        PARTS,
        Answer(body=b""),
        Answer(body=b"[" * 100_000),
    ],
)
def test_what_may_pass_is_asked_again(bad):
    with Server(script(bad, bad, Answer("good"))) as server:
        assert ask(server.url, ["hi"]) == [Reply("good")]
    assert len(server.requests) == 3


def test_a_reply_that_is_not_accepted_is_asked_for_again_with_another_seed():
    with Server(script(Answer(""), Answer("bad"), Answer("good"))) as server:
        assert ask(server.url, ["hi"], seed=5, accept=lambda t: t == "good") == [Reply("good")]
    assert [body["seed"] for _, _, body in server.requests] == [5, 6, 7]


@pytest.mark.parametrize(
    ("bad", "reason", "tries"),
    [
        (Answer("oh", 500), "status 500", 3),
        (Answer("busy", 429), "rate limit", 3),
        (Answer("tomorrow", 429, {"Retry-After": "86400"}), "rate limit", 1),
        (Answer("what?", 400), "status 400", 1),
        (HTML, "malformed reply", 3),
        (Answer("no"), "no acceptable reply", 3),
    ],
)
def test_what_does_not_pass_fails_that_prompt_alone_with_its_reason(bad, reason, tries):
    with Server(lambda n, prompt: bad if prompt == "x" else Answer("yes")) as server:
        found = ask(server.url, ["a", "x", "b"], tries=3, accept=lambda t: t == "yes")
    assert found == [Reply("yes"), Reply(None, reason), Reply("yes")]
    assert server.prompts.count("x") == tries


def test_random_failures_change_no_reply():
    fails = random.Random(4)

    def flaky(number, prompt):
        return Answer("oh", 500) if fails.random() < 0.3 else echo(number, prompt)

    prompts = [str(n) for n in range(60)]
    with Server(flaky) as server:
        found = ask(server.url, prompts, tries=12)
    assert [r.text for r in found] == [f"re: {p}" for p in prompts]
    assert len(server.requests) > 60


def test_retry_after_is_the_least_wait_and_the_waits_double():
    waits = []
    busy = [Answer("", 429, {"Retry-After": "7"})] + [Answer("", 500)] * 4
    with Server(script(*busy, Answer("good"))) as server:
        assert ask(server.url, ["hi"], tries=6, sleep=waits.append)[0].text == "good"
    key = Endpoint(server.url, "m").key("hi", 0)
    assert waits == [7.0] + [backoff(attempt, key) for attempt in (2, 3, 4, 5)]


@settings(deadline=None)
@given(st.integers(1, 40), st.text(max_size=4))
def test_backoff_doubles_to_a_limit_with_jitter_that_is_known(attempt, key):
    longest = min(0.5 * 2 ** (attempt - 1), 8)
    assert longest / 2 <= backoff(attempt, key) <= longest
    assert backoff(attempt, key) == backoff(attempt, key)
    assert len({backoff(attempt, f"{key}{n}") for n in range(5)}) == 5


def test_retry_after_is_read_as_seconds_or_a_date():
    assert retry_after({"retry-after": "12"}) == 12 and retry_after({"retry-after": "0.5"}) == 0.5
    in_a_minute = formatdate(time.time() + 60, usegmt=True)
    assert retry_after({"retry-after": in_a_minute}) == pytest.approx(60, abs=2)
    past = formatdate(time.time() - 60, usegmt=True)
    no_year = "Wed, 21 Oct 99999999999 07:28:00 GMT"
    for none in (past, "soon", "-3", "nan", "", "²", no_year, no_year.replace("2", "2" * 30)):
        assert retry_after({"retry-after": none}) == 0
    assert retry_after({}) == 0


def test_one_slow_prompt_fails_alone_where_others_are_answered():
    with Server(lambda n, p: Answer("yes", delay=1.0 if p == "slow" else 0)) as server:
        found = ask(server.url, ["a", "slow", "b"], timeout=0.25, tries=2, concurrency=1)
    assert found == [Reply("yes"), Reply(None, "timeout"), Reply("yes")]
    assert server.prompts.count("slow") == 2


def test_an_endpoint_that_never_answers_in_time_ends_the_run():
    with (
        Server(lambda n, p: Answer("late", delay=1.0)) as server,
        pytest.raises(RunError, match=r"after 2 tries; is it running\?"),
    ):
        ask(server.url, ["a", "b"], timeout=0.1, tries=2)


def test_a_reply_that_trickles_without_end_is_late_all_the_same():
    endless = Answer(body=b"x" * 100, trickle=0.05)
    with Server(lambda n, p: endless if p == "slow" else Answer("yes")) as server:
        began = time.monotonic()
        found = ask(server.url, ["a", "slow"], timeout=0.3, tries=1, concurrency=1)
    assert found == [Reply("yes"), Reply(None, "timeout")]
    assert time.monotonic() - began < 3


def test_a_reply_larger_than_any_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(posting, "LONGEST_REPLY", 10_000)
    with Server(lambda n, p: Answer("x" * (20_000 if p == "b" else 2))) as server:
        found = ask(server.url, ["a", "b"], tries=1, concurrency=1)
    assert found == [Reply("xx"), Reply(None, TOO_LARGE)]


def test_an_unknown_model_or_address_ends_the_run_at_once():
    missing = Answer("no such model", 404)
    with (
        Server(lambda n, p: missing) as server,
        pytest.raises(InputError, match=r"/v1 has no model `m`, or is not the address") as error,
    ):
        ask(server.url, [str(n) for n in range(50)], concurrency=2)
    assert len(server.requests) < 10 and "no such model" not in str(error.value)


# The budget


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 12),
    st.integers(0, 8),
    st.integers(1, 6),
    st.floats(0, 0.6),
    st.integers(0, 100),
)
def test_no_more_requests_are_sent_than_the_budget_has(cap, count, concurrency, failing, seed):
    fails = random.Random(seed)

    def flaky(number, prompt):
        return Answer("oh", 500) if fails.random() < failing else echo(number, prompt)

    prompts = [str(n) for n in range(count)]
    with Server(flaky) as server:
        found = ask(
            server.url, prompts, tries=3, concurrency=concurrency, spending=Spending(requests=cap)
        )
        sent = len(server.requests)
    assert sent <= cap
    assert {r.reason for r in found if r.text is None} <= {SPENT, "status 500"}
    if SPENT in {r.reason for r in found}:
        assert sent == cap
    if failing == 0:
        assert sum(r.text is not None for r in found) == min(cap, count)


def usage(text, tokens):
    body = json.loads(Answer(text).bytes()) | {"usage": {"total_tokens": tokens}}
    return Answer(body=json.dumps(body).encode())


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_endpoints_own_count_of_tokens_is_what_is_spent(concurrency):
    spending = Spending(tokens=1000)
    with Server(lambda n, p: usage("x", 100)) as server:
        found = ask(
            server.url, [str(n) for n in range(30)], max_tokens=183, spending=spending,
            concurrency=concurrency,
        )  # fmt: skip
    # A request may take 1 + 16 + 183 = 200: with 900 spent the next one might be too much.
    assert [r.text for r in found].count("x") == len(server.requests) == 9
    assert spending.tokens == 900 and spending.requests == 9
    assert {r.reason for r in found if r.text is None} == {SPENT}


def test_without_a_count_tokens_are_estimated_on_the_high_side():
    spending = Spending(tokens=10_000)
    with Server(lambda n, p: Answer("word " * 100)) as server:
        ask(server.url, ["hello " * 50], spending=spending)
    assert 150 + 100 <= spending.tokens <= 10_000


def test_what_timed_out_counts_and_what_was_refused_does_not():
    spending = Spending(tokens=10_000)
    with Server(script(Answer("busy", 429), Answer("late", delay=0.5), usage("x", 7))) as server:
        ask(server.url, ["a"], timeout=0.2, tries=5, max_tokens=100, spending=spending)
    assert spending.requests == 3 and spending.tokens == 7 + 1 + 16 + 100


def test_what_is_in_the_cache_costs_nothing_and_what_was_paid_for_stays(tmp_path):
    cache, prompts = tmp_path / "cache.jsonl", [str(n) for n in range(9)]
    with Server(echo) as server:
        for done in (4, 8, 9, 9):
            found = ask(server.url, prompts, cache=cache, spending=Spending(requests=4))
            assert sum(r.text is not None for r in found) == done
    assert len(server.requests) == 9


def test_a_budget_is_shared_by_all_that_is_asked_under_it():
    spending = Spending(requests=3)
    with Server(echo) as server:
        first = ask(server.url, ["a", "b"], spending=spending)
        second = ask(server.url, ["c", "d"], spending=spending)
    assert [r.reason for r in first + second] == ["", "", "", SPENT]


def test_a_refused_connection_ends_the_run_after_the_tries():
    waits = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        with pytest.raises(RunError, match=r"^judge: no answer from http://127.* after 4 tries"):
            ask(url, ["a"], tries=4, where="judge", sleep=waits.append)
    assert len(waits) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_run_at_once_and_names_the_variable(status, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    refusal = Answer(f"Incorrect API key: {SECRET}", status)
    with (
        Server(lambda n, p: refusal if n == 2 else Answer("x", delay=0.05)) as server,
        pytest.raises(InputError, match=r"refused the key; set \$MY_KEY$"),
    ):
        ask(server.url, [str(n) for n in range(200)], api_key_env="MY_KEY", concurrency=2)
    assert len(server.requests) < 10


def test_a_long_wait_ends_with_an_error_elsewhere():
    """The real wait: a thread that waits for a busy endpoint does not hold up the end."""
    busy = Answer("", 429, {"Retry-After": "60"})
    with (
        Server(lambda n, p: busy if p == "a" else Answer("", 401, delay=0.1)) as server,
        pytest.raises(InputError, match="refused the key"),
    ):
        ask(server.url, ["a", "b"], sleep=None)


@pytest.mark.parametrize("secret", ["sk-\nx", "sk-ключ"])
def test_a_key_that_no_header_can_hold_is_named_and_not_shown(secret, monkeypatch):
    monkeypatch.setenv("MY_KEY", secret)
    with pytest.raises(InputError, match=r"\$MY_KEY") as error:
        ask("http://localhost", ["a"], api_key_env="MY_KEY")
    assert "sk-" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "u:secret@h/v1",
        "ftp://h",
        "http://",
        "http://[",
        "http://h:x",
        "http://h\n",
        "http://a..b",
    ],
)
def test_what_is_no_address_is_an_error_that_does_not_show_it(url):
    with pytest.raises(InputError, match="base_url is not an address") as error:
        Endpoint(url, "m")
    assert "secret" not in str(error.value)


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(InputError, match=r"verdicts from an .* `pip install \"accord\[endpoints\]"):
        ask("http://localhost", ["a"], purpose="verdicts")


# The cache


def test_what_is_in_the_cache_is_not_asked(tmp_path):
    cache, prompts = tmp_path / "deep" / "cache.jsonl", ["a", "b\nc", "é\u2028"]
    with Server(echo) as server:
        first = ask(server.url, prompts, cache=cache)
        again = ask(server.url, prompts, cache=cache)
    assert [r.text for r in again] == [r.text for r in first]
    assert all(r.cached for r in again) and not any(r.cached for r in first)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "other"},
        {"temperature": 0.5},
        {"base_url": "http://elsewhere/v1"},
        {"seed": 1},
        {"prompt": "b"},
        {"max_tokens": 9},
    ],
)
def test_the_key_of_an_answer_is_all_that_it_depends_on(changed):
    def key(base_url="http://h/v1", model="m", prompt="a", seed=0, **options):
        return Endpoint(base_url, model, **options).key(prompt, seed)

    assert key() != key(**changed)
    assert key() == key(base_url="http://user:pw@h/v1?key=x")  # who asks does not matter


def test_failures_are_not_kept_and_are_asked_again(tmp_path):
    cache = tmp_path / "cache.jsonl"
    with Server(script(Answer("oh", 500), Answer("good"))) as server:
        assert ask(server.url, ["a"], tries=1, cache=cache) == [Reply(None, "status 500")]
        assert ask(server.url, ["a"], tries=1, cache=cache) == [Reply("good")]


def test_an_answer_kept_is_asked_again_where_it_is_no_longer_accepted(tmp_path):
    cache = tmp_path / "cache.jsonl"
    with Server(script(Answer("old"), Answer("new"))) as server:
        ask(server.url, ["a"], cache=cache)
        assert ask(server.url, ["a"], cache=cache, accept="new".__eq__) == [Reply("new")]
        assert ask(server.url, ["a"], cache=cache, accept="new".__eq__) == [Reply("new", "", True)]


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, 90))
def test_a_torn_last_line_is_cut_off_and_asked_again(tmp_path_factory, cut):
    cache = tmp_path_factory.mktemp("cut") / "cache.jsonl"
    with Server(echo) as server:
        ask(server.url, ["a", "b"], cache=cache, concurrency=1)
        whole = cache.read_bytes()
        cache.write_bytes(whole[:-cut])
        found = ask(server.url, ["a", "b"], cache=cache, concurrency=1)
    assert [r.text for r in found] == ["re: a", "re: b"]
    assert [r.cached for r in found] == [True, False]
    assert cache.read_bytes() == whole


@pytest.mark.parametrize("bad", [b"{", b"[]", b'{"key": "x"}', b'"x"', b"\xff", b""])
def test_a_damaged_line_is_named_and_nothing_is_lost(tmp_path, bad):
    cache = tmp_path / "cache.jsonl"
    good = b'{"key": "k", "text": "t"}\n'
    cache.write_bytes(good + bad + b"\n" + good)
    with pytest.raises(InputError, match=r"cache\.jsonl line 2: not an answer of the cache"):
        ask("http://localhost", ["a"], cache=cache)
    assert cache.read_bytes() == good + bad + b"\n" + good


def test_a_file_that_is_no_cache_is_left_as_it_is(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("my notes, with no end of line")
    with pytest.raises(InputError, match=r"notes\.txt line 1"):
        ask("http://localhost", ["a"], cache=notes)
    assert notes.read_text() == "my notes, with no end of line"
    with pytest.raises(InputError, match="the cache cannot be opened: Is a directory"):
        ask("http://localhost", ["a"], cache=tmp_path)


class FullDisk(AnswerCache):
    """A cache whose file takes nothing."""

    def __init__(self, path):
        super().__init__(path)
        self.lines.file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115, PTH123


def test_a_cache_that_cannot_be_written_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "AnswerCache", FullDisk)
    with (
        Server(echo) as server,
        pytest.raises(RunError, match="the cache cannot be written: No space left"),
    ):
        ask(server.url, [str(n) for n in range(9)], cache=tmp_path / "cache.jsonl")


PROGRAM = """
import sys
from pathlib import Path
from accord.models.endpoint import Endpoint

endpoint = Endpoint(sys.argv[1], "m", "MY_KEY", cache=Path(sys.argv[2]), concurrency=3)
prompts = [f"prompt {n}" for n in range(40)]
print([reply.text for reply in endpoint.ask_all(prompts, seed=0)])
"""


def answered(cache):
    """The answers in the whole lines of a cache."""
    lines = cache.read_bytes().split(b"\n")[:-1] if cache.exists() else []
    return [json.loads(line)["text"] for line in lines]


def test_a_kill_loses_nothing_and_nothing_is_asked_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    cache, killed = tmp_path / "cache.jsonl", threading.Event()

    def stuck(number, prompt):
        """After 12 requests it hangs until the kill."""
        if number > 12 and not killed.is_set():
            killed.wait(240)
            return Answer(drop=True)
        return echo(number, prompt)

    with Server(stuck) as server:
        command = [sys.executable, "-c", PROGRAM, server.url, str(cache)]
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 200
        while len(answered(cache)) < 12:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed.set()
        kept = answered(cache)
        monkeypatch.setenv("MY_KEY", "sk-second")  # tells the second run's requests apart
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout == f"{[f're: prompt {n}' for n in range(40)]}\n"
    # Whichever requests came first: what the cache held at the kill is not asked again.
    again = [
        f"re: {body['messages'][0]['content']}"
        for _, headers, body in server.requests
        if headers["Authorization"] == "Bearer sk-second"
    ]
    assert not set(kept) & set(again)
    assert sorted(kept + again) == sorted(f"re: prompt {n}" for n in range(40))
    assert len(answered(cache)) == 40


def test_no_key_and_no_password_is_in_any_file_message_or_log(tmp_path, monkeypatch):
    """With every logger of the libraries at its loudest."""
    monkeypatch.setenv("MY_KEY", SECRET)
    program = "import logging; logging.basicConfig(level=0)\n" + PROGRAM
    with Server(lambda n, p: Answer("oh", 500) if n == 1 else echo(n, p)) as server:
        url = server.url.replace("//", "//ann:pa%40ss-word@")
        command = [sys.executable, "-c", program, url, str(tmp_path / "cache.jsonl")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        server.behave = lambda n, p: Answer(f"no key {SECRET}", 401)
        command[-1] = str(tmp_path / "other.jsonl")
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    basic = "YW5uOnBhQHNzLXdvcmQ="
    assert {headers["Authorization"] for _, headers, _ in server.requests} == {f"Basic {basic}"}
    assert "HTTP" in done.stderr and "refused the key" in refused.stderr
    shown = [text.encode() for run in (done, refused) for text in (run.stdout, run.stderr)]
    for data in [*shown, *filter(None, tree(tmp_path).values())]:
        for secret in (SECRET, "pa%40ss-word", "pa@ss-word", basic):
            assert secret.encode() not in data


def test_leaving_early_asks_no_more():
    with Server(echo) as server:
        replies = Endpoint(server.url, "m", concurrency=2).ask_all(
            [str(n) for n in range(500)], seed=0
        )
        assert next(replies).text == "re: 0"
        replies.close()
        asked = len(server.requests)
        time.sleep(0.1)
        assert len(server.requests) == asked < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def test_leaving_early_waits_for_no_retry():
    busy = Answer("", 429, {"Retry-After": "60"})
    with Server(lambda n, p: busy if p == "b" else Answer("x", delay=0.1)) as server:
        replies = Endpoint(server.url, "m").ask_all(["a", "b"], seed=0)
        next(replies)
        began = time.monotonic()
        replies.close()
        assert time.monotonic() - began < 10


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_only_a_string_or_null_is_the_content_of_a_reply(value):
    body = {"choices": [{"message": {"content": value}}]}
    wanted = "" if value is None else value if isinstance(value, str) else None
    assert content(json.dumps(body)) == wanted
    for place in (
        value,
        {"choices": value},
        {"choices": [value]},
        {"choices": [{"message": value}]},
    ):
        assert content(json.dumps(place)) is None


def test_a_null_content_is_an_empty_text():
    assert content(Answer(None).bytes()) == ""
