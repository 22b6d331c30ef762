"""JSON by POST to any server: bodies from templates, paths into replies, failures as values."""

import base64
import itertools
import json
import threading
import time
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import Fault, Proxy

from accord.errors import InputError, RunError
from accord.models import asking, posting
from accord.models.asking import Asker, Failure, Manners, Pace, in_order
from accord.models.body import Body, read_body
from accord.models.service import FAILED_IN_A_ROW, Service, ids, text

NOWHERE = "http://127.0.0.1:9"
SECRET = "sk-live-0123456789"
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


def reply(answer="yes", **more):
    return Fault(status=200, body=json.dumps({"answer": answer, **more}).encode())


def service(url, **options):
    given = {"body": {"question": "{{ query }}"}, "paths": {"answer": "answer"}}
    given |= {"checks": {"answer": text}, "sleep": lambda seconds: None}
    return Service(url, **(given | options))


def ask(url, queries=("hi",), **options):
    return list(service(url, **options).ask_all([{"query": query} for query in queries]))


# Bodies


@settings(max_examples=200)
@given(TEXT, TEXT)
def test_a_template_that_is_json_holds_any_text_as_it_is(query, prefix):
    body = Body({"q": "{{ query }}", "deep": [{"x": "Q: {{query}}."}], "n": 3, "id": "{{ id }}"})
    filled = body.fill({"query": query, "id": prefix})
    assert filled == {"q": query, "deep": [{"x": f"Q: {query}."}], "n": 3, "id": prefix}
    assert json.loads(json.dumps(filled)) == filled


@given(TEXT)
def test_a_template_that_is_no_json_writes_strings_by_tojson(query):
    body = Body(
        '{"q": {{ query | tojson }}{% if passages %}, "p": {{ passages | tojson }}{% endif %}}'
    )
    assert body.fill({"query": query, "passages": None}) == {"q": query}
    assert body.fill({"query": query, "passages": [1]}) == {"q": query, "p": [1]}
    assert body.names == {"query", "passages"} and body.mentions_passages


def test_a_placeholder_alone_is_the_value_itself_and_none_is_left_out():
    body = Body(
        {
            "q": "{{ query }}",
            "held": {"ids": "{{ passage_ids }}"},
            "texts": "{{ passages | map(attribute='text') | list }}",
            "list": ["{{ passages }}", 1],
        }
    )
    passages = [{"id": "a", "text": 'x "y"'}, {"id": "b", "text": "z"}]
    assert body.fill({"query": "hi", "passages": passages, "passage_ids": ["a", "b"]}) == {
        "q": "hi",
        "held": {"ids": ["a", "b"]},
        "texts": ['x "y"', "z"],
        "list": [passages, 1],
    }
    assert body.fill({"query": "hi", "passages": None, "passage_ids": None}) == {
        "q": "hi",
        "held": {},
        "list": [1],
    }
    assert body.fill({"query": "hi", "passages": [], "passage_ids": []})["held"] == {"ids": []}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"q": "{{ qeury }}"}, ["body", "qeury", "there are id, query"]),
        ({"q": "Q: {{ qeury }}"}, ["qeury", "there are id, query"]),
        ({"q": "{{ query.__class__ }}"}, ["cannot be rendered"]),
        ('{"q": {{ query }}}', ["not JSON", "tojson"]),
        ('{"q": {% for %}', ["neither JSON nor jinja2"]),
        ({"q": "{{ query"}, ["body"]),
    ],
)
def test_a_template_that_cannot_be_filled_is_named(template, words):
    with pytest.raises(InputError) as error:
        Body(template).fill({"query": "hi", "id": "q1"})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_body_is_json_or_the_name_of_a_file(tmp_path):
    path = tmp_path / "body.json"
    path.write_text('\ufeff{"q": "{{ query }}"}', encoding="utf-8")
    for given_as in (str(path), ' {"q": "{{ query }}"}'):
        assert read_body(given_as, "--body").fill({"query": "hi"}) == {"q": "hi"}
    with pytest.raises(InputError, match=r"--body: `nothing\.json` is no JSON and no file"):
        read_body("nothing.json", "--body")
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="not utf-8"):
        read_body(str(path), "--body")


# Replies


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=25), st.integers(1, 9))
def test_results_come_in_order_and_the_body_is_what_was_asked(delays, concurrency):
    def script(number, body):
        n = int(body["question"])
        return Fault(
            status=200, body=json.dumps({"answer": f"re {n}"}).encode(), delay=delays[n] / 500
        )

    with Proxy(NOWHERE, script) as server:
        found = ask(server.url, [str(n) for n in range(len(delays))], concurrency=concurrency)
    assert [r.values for r in found] == [{"answer": f"re {n}"} for n in range(len(delays))]
    assert sorted(int(b["question"]) for b in server.asked) == list(range(len(delays)))


GOOD = json.dumps({"answer": "yes"}).encode()
HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
FAULTS = {
    "timeout": Fault(delay=30.0, status=200, body=GOOD),
    "connection lost": Fault(drop=True),
    "rate limit": Fault(status=429),
    "status 500": Fault(status=500),
    "status 503": Fault(status=503, headers={"Retry-After": "1"}),
    "HTML instead of JSON": Fault(status=200, body=HTML, headers={"Content-Type": "text/html"}),
    "body cut short": Fault(status=200, body=GOOD, cut=4),
    "not JSON": Fault(status=200, body=b"yes"),
    "not UTF-8": Fault(status=200, body=b'{"answer": "caf\xe9"}'),
    "event stream instead of JSON": Fault(
        status=200, body=b'data: {"x": 1}\n\n', headers={"Content-Type": "text/event-stream"}
    ),
    "no answer at `answer`": Fault(status=200, body=b'{"result": "yes"}'),
    "answer at `answer`: a list instead of a text": Fault(status=200, body=b'{"answer": ["y"]}'),
    "answer at `answer`: not a text that UTF-8 can hold": Fault(
        status=200, body=b'{"answer": "\\ud83d"}'
    ),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_what_may_pass_is_tried_again_and_else_has_a_name(reason):
    """The first question is answered, so the paths are right; `once` fails once, `ever` always."""
    seen = []

    def script(number, body):
        query = body["question"]
        seen.append(query)
        fails = query == "ever" or (query == "once" and seen.count("once") == 1)
        return FAULTS[reason] if fails else reply()

    with Proxy(NOWHERE, script) as server:
        asked = service(server.url, tries=2, concurrency=1, timeout=0.4 if "time" in reason else 60)
        found = list(asked.ask_all([{"query": q} for q in ("first", "once", "ever", "last")]))
    assert [r.values and r.values["answer"] for r in found] == ["yes", "yes", None, "yes"]
    assert [r.tries for r in found] == [1, 2, 2, 1]
    assert found[2].reason == reason


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        (Fault(status=400, body=b'{"detail": "no field"}'), "status 400", ["no field", "mend"]),
        (Fault(status=401, body=SECRET.encode()), "key refused", ["give the header"]),
        (Fault(status=404, body=b"nope"), "no such address or model", ["nope", "right one"]),
        (
            Fault(status=307, headers={"Location": "http://u:pw@h/ask/?key=x"}),
            "redirect",
            ["status 307 to `http://h/ask/`", "give that address"],
        ),
        (FAULTS["no answer at `answer`"], "no answer at `answer`", ["the reply has `result`"]),
        (Fault(status=200, body=b"[]"), "no answer at `answer`", ["the reply is a list"]),
    ],
)
def test_what_will_not_pass_is_asked_once_and_says_the_way_out(fault, reason, words):
    with Proxy(NOWHERE, lambda number, body: fault) as server:
        asked = service(server.url)
        (found,) = asked.ask_all([{"query": "hi"}])
        error = asked.error(found)
    assert (found.values, found.reason, len(server.asked)) == (None, reason, 1)
    assert isinstance(error, InputError)
    assert all(word in str(error) for word in [server.url, *words]), str(error)
    assert SECRET not in str(error) and "pw" not in str(error) and "key=x" not in str(error)


def test_json_is_read_whatever_the_content_type_says():
    with Proxy(NOWHERE, lambda n, b: Fault(200, GOOD, {"Content-Type": "text/plain"})) as server:
        assert ask(server.url)[0].values == {"answer": "yes"}


def test_a_reply_without_end_and_one_too_large_are_given_up(monkeypatch):
    monkeypatch.setattr(posting, "LONGEST_REPLY", 1000)
    huge = reply("x" * 2000)
    endless = Fault(status=200, body=b"", endless=True)
    faults = {"first": reply(), "huge": huge, "endless": endless}
    faults["headless"] = Fault(headless=True)
    with Proxy(NOWHERE, lambda n, body: faults[body["question"]]) as server:
        found = ask(server.url, list(faults), tries=1, timeout=0.5, concurrency=1)
    assert [r.reason for r in found] == ["", "body of more than 4 MB", "timeout", "timeout"]


def test_no_cookie_ties_one_question_to_another():
    """A session would let a question be answered with the one before in mind."""
    cookie = {"Set-Cookie": "session=1; Path=/"}
    with Proxy(NOWHERE, lambda n, body: Fault(200, GOOD, cookie)) as server:
        ask(server.url, "abc", concurrency=1)
    assert len(server.heads) == 3 and not any("Cookie" in sent for _, sent in server.heads)


def test_nobody_there_ends_it_and_the_rest_is_not_asked():
    found = ask(NOWHERE, [str(n) for n in range(100)], tries=2, concurrency=4)
    counts = {r: [f.reason for f in found].count(r) for r in ("no connection", "not asked")}
    assert sum(counts.values()) == 100 and 5 <= counts["no connection"] <= 9
    error = service(NOWHERE).error(found[0])
    assert isinstance(error, RunError) and "is it running?" in str(error)


def test_a_server_that_always_fails_is_not_asked_for_ever_and_one_bad_question_ends_nothing():
    with Proxy(NOWHERE, lambda n, body: Fault(status=500)) as server:
        found = ask(server.url, [str(n) for n in range(200)], tries=2, concurrency=2)
    assert len(server.asked) <= 2 * (FAILED_IN_A_ROW + 2)
    assert found[-1].reason == "not asked"
    moved = Fault(status=200, body=b'{"result": "yes"}')
    with Proxy(NOWHERE, lambda n, body: moved if n > 3 else reply()) as server:
        found = ask(server.url, [str(n) for n in range(200)], tries=2, concurrency=2)
    assert len(server.asked) <= 3 + 2 * (FAILED_IN_A_ROW + 2)
    assert [bool(r.values) for r in found].count(True) == 3
    assert {r.reason for r in found} == {"", "no answer at `answer`", "not asked"}
    with Proxy(NOWHERE, lambda n, body: Fault(status=400)) as server:
        found = ask(server.url, [str(n) for n in range(60)], concurrency=2)
    assert [r.reason for r in found] == ["status 400"] * 60


# Headers and addresses


def test_headers_are_filled_from_the_environment_and_nothing_secret_is_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    headers = {"X-Key": "$MY_KEY", "Authorization": "Bearer ${MY_KEY}"}
    basic = base64.b64encode(b"ann:pw-secret").decode()
    quoting = Fault(status=422, body=f"bad key {SECRET} and ann:pw-secret, {basic}".encode())
    with Proxy(NOWHERE, lambda n, b: quoting) as server:
        url = server.url.replace("//", "//ann:pw-secret@") + "/ask?token=t0ken"
        asked = service(url, headers=headers)
        (found,) = asked.ask_all([{"query": "hi"}])
    (path, sent) = server.heads[0]
    assert path == "/ask?token=t0ken"
    assert sent["X-Key"] == SECRET and sent["Authorization"].startswith("Basic ")
    assert asked.url == server.url + "/ask"
    assert SECRET not in found.detail and "t0ken" not in str(asked.error(found))
    assert "pw-secret" not in found.detail and basic not in found.detail


def test_what_follows_the_question_mark_is_sent_as_it_is(monkeypatch):
    """Names without a value and names that occur twice, and a value that is a space."""
    query = "tag=a&tag=b&flag=&empty=&s=%20"
    with Proxy(NOWHERE, lambda n, b: Fault(status=422, body=b"no tag")) as server:
        (found,) = ask(f"{server.url}/ask?{query.replace('flag=', 'flag')}")
    assert found.reason == "status 422"
    ((path, _),) = server.heads
    assert parse_qsl(urlsplit(path).query, True) == parse_qsl(query, True)


@pytest.mark.parametrize("host", ["256.256.256.256", "xn--", "999.1.1.1:80"])
def test_a_host_that_the_client_does_not_take_is_named(host):
    with pytest.raises(InputError, match=rf"`http://{host}/ask` is no address that can be asked"):
        ask(f"http://{host}/ask")


@pytest.mark.parametrize(("value", "why"), [(None, "not set"), ("", "not set"), ("ключ", "holds")])
def test_a_header_that_cannot_be_filled_is_named(monkeypatch, value, why):
    if value is None:
        monkeypatch.delenv("MY_KEY", raising=False)
    else:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(InputError, match=rf"header X-Key: \$MY_KEY .*{why}|{why}") as error:
        service(NOWHERE, headers={"X-Key": "$MY_KEY"})
    assert "ключ" not in str(error.value)


@pytest.mark.parametrize("path", ["answer[", "", "a b", "sources[*.id"])
def test_what_is_no_path_is_named_at_once(path):
    with pytest.raises(InputError, match="is no path to the answer"):
        service(NOWHERE, paths={"answer": path})


@pytest.mark.parametrize("path", ["$.a.b[0].c", "a.b[0].c", "$a.b[0].c", "a.b | [0].c"])
def test_a_path_may_begin_as_a_jsonpath(path):
    with Proxy(NOWHERE, lambda n, b: Fault(200, b'{"a": {"b": [{"c": "deep"}]}}')) as server:
        assert ask(server.url, paths={"answer": path})[0].values == {"answer": "deep"}


@pytest.mark.parametrize(
    "path", ["sort_by(x, &y)[*].id", "join(',', x)", "x[?contains(id, `5`)]", "floor(inf)"]
)
def test_a_function_that_cannot_take_a_reply_is_one_reason_whatever_the_reply_holds(path):
    """JMESPath's own errors quote the value, which may be long and differs from reply to reply."""

    def script(number, body):
        text = body["question"] * 2000
        x = [{"id": text}] if "contains" in path else text
        return Fault(status=200, body=json.dumps({"x": x, "inf": float("inf")}).encode())

    with Proxy(NOWHERE, script) as server:
        found = ask(server.url, ["a", "b"], paths={"ids": path}, checks={"ids": ids})
    assert [r.reason for r in found] == [f"no ids at `{path}`: the reply is not what it takes"] * 2
    assert all("the reply has `x`" in r.detail and len(r.detail) < 300 for r in found)


def test_a_path_that_is_optional_may_be_missing():
    with Proxy(NOWHERE, lambda n, b: reply()) as server:
        (found,) = ask(server.url, paths={"answer": "answer", "ids": "x[*].id"}, optional=["ids"])
    assert found.values == {"answer": "yes", "ids": None}
    with Proxy(NOWHERE, lambda n, b: reply()) as server:
        (found,) = ask(server.url, paths={"ids": "x[*].id || `[]`"}, checks={"ids": ids})
    assert found.values == {"ids": ()}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (["a", 7], ("a", "7")),
        ([], ()),
        ("a", "a text instead of a list"),
        ([{"id": 1}], "an object in the list"),
        ([True], "true or false in the list"),
        ([None], "null in the list"),
        ([""], "a text in the list"),
        (["a", "\ud83d"], "not a text that UTF-8 can hold"),
    ],
)
def test_ids_are_texts_or_numbers(value, wanted):
    if isinstance(wanted, tuple):
        assert ids(value) == wanted
    else:
        with pytest.raises(ValueError, match=wanted):
            ids(value)


# Pace, order, interruptions


@settings(max_examples=50)
@given(st.floats(0.1, 1000), st.lists(st.floats(0, 3), min_size=1, max_size=30))
def test_turns_are_never_closer_than_the_rate_and_never_later_than_they_must(rate, gaps):
    now = [100.0]
    clock, asking.time.monotonic = asking.time.monotonic, lambda: now[0]
    try:
        pace, turns = Pace(rate), []
        for gap in gaps:
            now[0] += gap
            turns.append((now[0], now[0] + pace.delay()))
    finally:
        asking.time.monotonic = clock
    for (_, before), (ready, turn) in itertools.pairwise(turns):
        assert turn == pytest.approx(max(ready, before + 1 / rate))


def test_a_rate_is_kept_by_all_threads_together():
    with Proxy(NOWHERE, lambda n, b: reply()) as server:
        began = time.monotonic()
        found = ask(server.url, [str(n) for n in range(11)], rate=50, concurrency=8, sleep=None)
    assert all(r.values for r in found) and time.monotonic() - began >= 10 / 50


@given(st.permutations(range(8)))
def test_in_order_gives_each_as_soon_as_it_can(order):
    seen = []

    def arrivals():
        for n in order:
            seen.append(n)
            yield n, n

    for wanted, got in enumerate(in_order(arrivals())):
        assert got == wanted
        assert set(range(wanted + 1)) <= set(seen)
    assert len(seen) == 8


def test_what_is_under_way_when_nobody_waits_any_more_is_kept():
    """Interrupted in the middle: what the workers were at still ends in `keep`."""
    kept, closed, begun = {}, [], threading.Event()

    def once(item, failures):
        begun.set()
        time.sleep(0.05 if item else 0)
        return item

    asker = Asker(
        once, Manners(concurrency=3), keep=kept.__setitem__, close=lambda: closed.append(1)
    )
    arrivals = asker.arrivals(list(range(100)))
    next(arrivals)
    begun.wait()
    arrivals.close()
    assert closed == [1] and 1 <= len(kept) < 100
    assert all(kept[n] == n for n in kept)


def test_an_error_of_our_own_ends_the_work_and_nobody_waits_for_ever():
    threading.excepthook, usual = (lambda args: None), threading.excepthook
    try:
        with pytest.raises(RunError, match="an error of our own"):
            list(Asker(lambda item, failures: 1 / 0, Manners()).arrivals([1, 2, 3]))
    finally:
        threading.excepthook = usual


def test_a_long_wait_is_not_waited_for():
    asker = Asker(lambda i, failures: Failure("busy", wait=10_000), Manners(tries=9))
    ((_, found),) = asker.arrivals(["x"])
    assert found.tries == 1
