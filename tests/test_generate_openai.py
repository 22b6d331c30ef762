import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import make_wordings
from helpers import example_config, heed_interrupts
from hypothesis import given
from hypothesis import strategies as st
from serving import Fault, Proxy, wait_until
from serving_models import model_server, running

from accord.check import check_file
from accord.config import Prompt
from accord.errors import InputError, RunError
from accord.generate import serving as serving_module
from accord.generate import transformers as local
from accord.generate.completions import _text_of_choice, _text_of_message
from accord.generate.logs import tail
from accord.generate.openai import openai, way_of
from accord.generate.preflight import preflight
from accord.generate.request import Job, request
from accord.generate.serving import fill, serving
from accord.models import asking
from accord.models.answers import AnswerCache
from accord.records import Passage

HERE = Path(__file__).parent
WORDINGS = make_wordings(4, split="test", types=("semantic", "i_we"))
REQUESTS = tuple(
    request(
        w.id,
        w.query,
        [Passage(id=f"p{i}", text=f"Step {i} of {w.id} is here. " * (i + 2)) for i in (1, 2)],
    )
    for w in WORDINGS
)
NEW = 12
SERVE = f"{sys.executable} {HERE / 'serving_models.py'} {{folder}} --port {{port}} --name {{name}}"
SECRET = "sk-never-to-be-seen-0123456789"
SILENT = (
    "import http.server, sys; s = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), "
    "http.server.BaseHTTPRequestHandler); s.serve_forever()"
)


@pytest.fixture(scope="module")
def server(tiny_llama):
    with running(model_server(tiny_llama, "B")) as found:
        yield found


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.001)


def job(folder, requests=REQUESTS, *, model="B", weights="w", repeat=0):
    return Job(model, str(folder), weights, repeat, tuple(requests))


def ask(jobs, path=None, *, prompt=None, new=NEW, **options):
    cache = AnswerCache(path)
    jobs = [jobs] if isinstance(jobs, Job) else jobs
    try:
        return {
            (r.model, r.repeat, r.id): r
            for r in openai(
                jobs, prompt=prompt or Prompt(), max_new_tokens=new, cache=cache, **options
            )
        }
    finally:
        cache.close()


def locally(jobs, monkeypatch, *, prompt=None, new=NEW):
    """The same by the backend transformers, in fp32 and in this process."""
    monkeypatch.setattr(
        local, "_in_workers", lambda todo, how, _: ((b, local._decode(b, how)) for b in todo)
    )
    local._load.cache_clear()
    jobs = [jobs] if isinstance(jobs, Job) else jobs
    given = {"prompt": prompt or Prompt(), "max_new_tokens": new, "cache": AnswerCache(None)}
    return {(r.model, r.repeat, r.id): r for r in local.transformers(jobs, **given)}


def prompts_of(bodies):
    return [json.dumps(b.get("messages") or b["prompt"]) for b in bodies]


@pytest.mark.parametrize(("chat", "api"), [(True, "auto"), (True, "completions"), (False, "auto")])
@pytest.mark.parametrize("budget", [None, 90])
def test_a_server_answers_as_transformers_does(make_model, monkeypatch, chat, api, budget):
    folder, prompt = make_model("llama", chat, tie_word_embeddings=False), Prompt(max_tokens=budget)
    wanted = locally(job(folder), monkeypatch, prompt=prompt)
    with running(model_server(folder, "B")) as found:
        got = ask(job(folder), base_url=found.url, api=api, prompt=prompt)
    assert got == {key: reply._replace(plain=False) for key, reply in wanted.items()}
    assert len({r.answer for r in got.values()}) > 6
    assert all(r.cut for r in got.values()) == (budget is not None)
    assert any(not r.ended for r in got.values())
    assert all(("messages" in body) == (chat and api == "auto") for body in found.asked)
    assert all(body["temperature"] == 0 for body in found.asked)


def test_whatever_a_server_does_in_between_no_answer_is_lost(server, tiny_llama, tmp_path):
    wanted = ask(job(tiny_llama), base_url=server.url)
    faults = [
        Fault(500, b"oh"),
        Fault(429, b"{}", {"Retry-After": "0"}),
        Fault(200, b"<html>a page</html>", {"Content-Type": "text/html"}),
        Fault(cut=20),
        Fault(drop=True),
        Fault(delay=60),
        Fault(endless=True),
        Fault(503),
        Fault(change=lambda data: data.replace(b'"choices"', b'"chosen"')),
    ]

    def script(number, body):  # every second request, so that each is tried again with success
        return faults[number // 2] if number % 2 and number // 2 < len(faults) else None

    with Proxy(server.url[:-3], script) as proxy:
        path = tmp_path / "cache.jsonl"
        got = ask(job(tiny_llama), path, base_url=proxy.url + "/v1", concurrency=1, timeout=5)
        sent = len(proxy.asked)
        assert got == wanted
        assert sent == len(REQUESTS) + len(faults)
        assert ask(job(tiny_llama), path, base_url=proxy.url + "/v1") == wanted
        assert len(proxy.asked) == sent


def test_a_question_that_always_fails_is_named_and_asked_again_later(server, tiny_llama, tmp_path):
    path, victim = tmp_path / "cache.jsonl", REQUESTS[3]

    def script(number, body):
        return Fault(500, b"no memory") if victim.query in str(body) and script.on else None

    script.on = True
    with Proxy(server.url[:-3], script) as proxy:
        got = ask(job(tiny_llama), path, base_url=proxy.url + "/v1", tries=2)
        (failed,) = [r for r in got.values() if r.failed]
        assert (failed.id, failed.answer) == (victim.id, "")
        assert failed.failed == "status 500: no memory"
        script.on, sent = False, len(proxy.asked)
        again = ask(job(tiny_llama), path, base_url=proxy.url + "/v1")
        assert [b for b in proxy.asked[sent:] if victim.query not in str(b)] == []
    assert again == ask(job(tiny_llama), base_url=server.url)


def test_a_server_that_goes_away_ends_the_work_and_nothing_is_asked_twice(
    server, tiny_llama, tmp_path
):
    path = tmp_path / "cache.jsonl"

    def script(number, body):
        return Fault(drop=True) if number > 4 and script.down else None

    script.down = True
    with Proxy(server.url[:-3], script) as proxy:
        options = {"base_url": proxy.url + "/v1", "concurrency": 1, "tries": 2}
        with pytest.raises(RunError, match=r"`B`: 4 of 12 answers came and are kept.*run again"):
            ask(job(tiny_llama), path, **options)
        assert len(path.read_text().splitlines()) == 4
        script.down, answered = False, set(prompts_of(proxy.asked[:4]))
        sent = len(proxy.asked)
        got = ask(job(tiny_llama), path, **options)
        rest = prompts_of(proxy.asked[sent:])
    assert len(rest) == len(set(rest)) == len(REQUESTS) - 4 and not answered & set(rest)
    assert got == ask(job(tiny_llama), base_url=server.url)


def test_a_kill_and_a_resume_ask_nothing_twice_and_change_no_answer(server, tiny_llama, tmp_path):
    path = tmp_path / "cache.jsonl"
    program = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(HERE)!r})
        import pathlib
        from test_generate_openai import ask, job
        ask(job({str(tiny_llama)!r}), pathlib.Path({str(path)!r}), base_url=sys.argv[1],
            concurrency=1, timeout=600)
    """)
    script = lambda number, body: Fault(delay=600) if number == 6 else None  # noqa: E731
    with Proxy(server.url[:-3], script) as proxy:
        url = proxy.url + "/v1"
        child = subprocess.Popen([sys.executable, "-c", program, url])
        wait_until(lambda: len(proxy.asked) == 6 or child.poll() is not None)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        got = ask(job(tiny_llama), path, base_url=url)
        counts = Counter(prompts_of(proxy.asked))
        (hung,) = prompts_of(proxy.asked[5:6])
    assert counts == dict.fromkeys(counts, 1) | {hung: 2} and len(counts) == len(REQUESTS)
    assert got == ask(job(tiny_llama), base_url=server.url)


def test_all_that_an_answer_depends_on_is_asked_anew_and_nothing_else(server, tiny_llama, tmp_path):
    path = tmp_path / "cache.jsonl"
    one = job(tiny_llama, REQUESTS[:1])

    def asked(given=one, **options):
        before = len(server.asked)
        ask(given, path, **({"base_url": server.url} | options))
        return len(server.asked) - before

    assert asked() == 1
    assert asked(base_url=server.url.replace("127.0.0.1", "localhost")) == 1
    assert asked(one._replace(weights="other")) == 1
    assert asked(one._replace(repeat=1)) == 1
    assert asked(new=NEW + 1) == 1
    assert asked(seed=1) == 1
    assert asked(api="completions") == 1
    assert asked(body={"repetition_penalty": 1.1}) == 1
    assert asked(one._replace(requests=REQUESTS[1:2])) == 1
    assert asked(prompt=Prompt(max_tokens=90)) == 1
    unchanged = {"concurrency": 3, "timeout": 9.0, "tries": 1, "rate": 99.0, "start_timeout": 1.0}
    assert asked(**unchanged) == asked(one._replace(model="B")) == 0


def test_fields_of_the_body_can_be_added_and_taken_out(server, tiny_llama):
    own = {"chat_template_kwargs": {"enable_thinking": False}, "repetition_penalty": None}
    ask(job(tiny_llama, REQUESTS[:1]), base_url=server.url, body=own)
    body = server.asked[-1]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "repetition_penalty" not in body and body["max_tokens"] == NEW


def test_a_key_is_sent_and_never_written(server, tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    path = tmp_path / "cache.jsonl"

    def script(number, body):
        quoted = f"no such key: {SECRET}".encode()
        return Fault(401, quoted) if number > 2 else None

    with Proxy(server.url[:-3], script) as proxy:
        options = {"base_url": proxy.url + "/v1", "api_key_env": "MY_KEY", "concurrency": 1}
        with pytest.raises(InputError) as error:
            ask(job(tiny_llama), path, **options)
        assert proxy.heads[0][1]["Authorization"] == f"Bearer {SECRET}"
        assert "$MY_KEY" in str(error.value)
    assert SECRET not in path.read_text() + str(error.value)
    assert len(path.read_text().splitlines()) == 2


def test_a_model_that_is_not_served_is_found_before_anything_is_asked(server, tiny_llama):
    before = len(server.asked)
    with pytest.raises(InputError, match="no model `SFT` for the row `SFT`; it has `B`: name"):
        ask(job(tiny_llama, model="SFT"), base_url=server.url)
    with pytest.raises(InputError, match="no model `other` for the row `B`"):
        ask(job(tiny_llama), base_url=server.url, models={"B": "other"})
    assert len(server.asked) == before
    assert ask(job(tiny_llama, REQUESTS[:1], model="SFT"), base_url=server.url, models={"SFT": "B"})


def test_a_window_that_is_too_small_is_found_before_anything_is_asked(tiny_llama):
    with running(model_server(tiny_llama, "B", window=64)) as found:
        with pytest.raises(InputError, match=r"takes 64 tokens for `B`.*prompt.max_tokens"):
            ask(job(tiny_llama), base_url=found.url)
        assert found.asked == []


def test_nobody_there_is_one_sentence(tiny_llama):
    url = f"http://127.0.0.1:{serving_module._free_port()}/v1"
    with pytest.raises(RunError, match=r"no connection; is it running\?$"):
        ask(job(tiny_llama), base_url=url)


def test_an_address_without_v1_is_named(server, tiny_llama):
    refused = pytest.raises(InputError, match="no such address")
    with Proxy(server.url[:-3]) as proxy, refused as error:  # the proxy lists no models
        ask(job(tiny_llama), base_url=proxy.url + "/v2")
    assert "/v2/chat/completions" in str(error.value)


def test_a_chat_is_not_forced_on_a_model_that_learned_plain_prompts(make_model):
    with pytest.raises(InputError, match=r"generate\.api: the model of `B` has no chat template"):
        ask(job(make_model("llama", False)), base_url="http://127.0.0.1:1/v1", api="chat")


def test_each_row_has_its_server_in_turn(make_model, tmp_path, monkeypatch):
    folders = {"B": make_model("llama"), "SFT+TL": make_model("llama", seed=5)}
    jobs = [
        job(folder, REQUESTS[:4], model=name, weights=name, repeat=n)
        for name, folder in folders.items()
        for n in range(2)
    ]
    path = tmp_path / "cache.jsonl"
    begun = []
    start = serving_module._start
    monkeypatch.setattr(
        serving_module, "_start", lambda *given: begun.append(start(*given)) or begun[-1]
    )
    got = ask(jobs, path, serve=SERVE)
    wanted = locally(jobs, monkeypatch)
    assert {k: r.answer for k, r in got.items()} == {k: r.answer for k, r in wanted.items()}
    assert len(begun) == 2 and all(process.poll() is not None for process in begun)
    logs = {log.name: log.read_text() for log in (tmp_path / "logs").iterdir()}
    assert logs["B.server.log"] == "serving B\n" and "serving SFT+TL" in logs["SFT+TL.server.log"]
    assert ask(jobs, path, serve=SERVE) == got
    assert len(begun) == 2  # who has nothing to ask needs no server


def test_a_server_that_does_not_come_up_is_told_with_its_last_words(tiny_llama, tmp_path):
    program = "import sys; print(sys.argv[1:]); sys.exit('CUDA out of memory')"
    command = f"{sys.executable} -c {shlex.quote(program)} {{folder}} {{port}} {{name}}"
    with pytest.raises(RunError, match=r"server of `B` ended with exit code 1.*CUDA out of memory"):
        ask(job(tiny_llama), tmp_path / "cache.jsonl", serve=command)


def test_a_server_that_is_never_ready_is_given_up_and_ended(tiny_llama, tmp_path):
    program = "import time; print('still loading', flush=True); time.sleep(600)"
    command = f"{sys.executable} -c {shlex.quote(program)} {{folder}} {{port}} {{name}}"
    with pytest.raises(RunError, match=r"`B` is not ready after 1 seconds.*start_timeout"):
        ask(job(tiny_llama), tmp_path / "cache.jsonl", serve=command, start_timeout=1)


def test_a_server_that_dies_under_the_questions_is_told_with_its_last_words(
    tiny_llama, tmp_path, monkeypatch
):
    """It answers two questions, then ends as a process without memory does."""
    program = textwrap.dedent(f"""
        import os, sys; sys.path.insert(0, {str(HERE)!r})
        from serving_models import model_server
        server = model_server(sys.argv[1], sys.argv[3], int(sys.argv[2]))
        inner = server.RequestHandlerClass.do_POST
        def outer(self):
            if len(server.asked) == 2:
                print("Killed: no memory", flush=True); os._exit(9)
            inner(self)
        server.RequestHandlerClass.do_POST = outer
        server.serve_forever()
    """)
    command = f"{sys.executable} -c {shlex.quote(program)} {{folder}} {{port}} {{name}}"
    path = tmp_path / "cache.jsonl"
    with pytest.raises(RunError, match=r"2 of 12 answers.*exit code 9.*Killed: no memory"):
        ask(job(tiny_llama), path, serve=command, concurrency=1, tries=2)
    assert len(path.read_text().splitlines()) == 2


def alive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_never_outlives_the_run(tmp_path, number):
    """Nor does what it started, though it ignores that it is asked to end."""
    pids = tmp_path / "pids"
    stubborn = f"""
        import os, signal, subprocess, sys
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{other.pid}}\\n")
        exec({SILENT!r})
    """
    (tmp_path / "stubborn.py").write_text(textwrap.dedent(stubborn))
    command = f"{sys.executable} {tmp_path / 'stubborn.py'} {{port}} {{folder}} {{name}}"
    program = textwrap.dedent(f"""
        import pathlib, time
        from accord.generate import serving
        serving.GRACE = 0.5
        given = dict(folder="f", name="B", log=pathlib.Path({str(tmp_path / "log")!r}),
                     api_key_env=None, start_timeout=600)
        with serving.serving({command!r}, **given):
            time.sleep(600)
    """)
    quick = f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
    child = subprocess.Popen(
        [sys.executable, "-c", quick + program],
        stderr=subprocess.DEVNULL,
        preexec_fn=heed_interrupts,
    )
    try:
        wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        server, other = map(int, pids.read_text().split())
        assert alive(server) and alive(other)
    finally:
        child.send_signal(number)
    wait_until(lambda: not alive(server) and not alive(other))
    child.wait(60)


def test_the_server_ends_where_the_work_fails(tmp_path):
    command = f"{sys.executable} -c {shlex.quote(SILENT)} {{port}} {{folder}} {{name}}"
    given = {"folder": "f", "name": "B", "log": tmp_path / "log", "api_key_env": None}
    failing, open_ = pytest.raises(KeyError), serving(command, **given, start_timeout=120)
    with failing, open_ as (door, trouble):
        assert door.models() == {} and trouble() == ""
        raise KeyError
    assert door.models() == "no connection" and "ended with exit code" in trouble()


@given(
    folder=st.text(st.characters(blacklist_categories=["Cs"]), min_size=1),
    port=st.integers(1, 65535).map(str),
)
def test_a_folder_reaches_the_command_as_one_word(folder, port):
    command = "sh -c 'echo {\"a\": {}}' {folder} --port={port} --name {name}"
    words = fill(command, {"port": port, "name": "SFT+TL", "folder": folder})
    assert words == ["sh", "-c", 'echo {"a": {}}', folder, f"--port={port}", "--name", "SFT+TL"]


COMMANDS = {
    "has no {port}; write": "vllm serve {folder} --served-model-name {name}",
    "has no {folder} and no {name}": "vllm serve --port {port}",
    "cannot be split": "vllm serve '{folder} {port} {name}",
    "no program `no-such-program-here`": "no-such-program-here {folder} {port} {name}",
    "--api-key puts a key": "sh {folder} {port} {name} --api-key abc",
    "--api-key puts": "sh {folder} {port} {name} --api-key=abc",
}


@pytest.mark.parametrize("complaint", COMMANDS)
def test_a_command_that_cannot_work_is_found_before_the_work(complaint):
    with pytest.raises(InputError) as error:
        list(preflight("openai", {"serve": COMMANDS[complaint]}, ["B"]))
    assert complaint in str(error.value) and "abc" not in str(error.value)


OPTIONS = {
    "neither is given of base_url": {},
    "both are given of base_url": {"base_url": "http://h/v1", "serve": "sh {folder}{port}{name}"},
    "no row `SFTT`; did you mean `SFT`?": {"base_url": "http://h/v1", "models": {"SFTT": "x"}},
    "`B` and `SFT` are both `x`": {"base_url": "http://h/v1", "models": {"B": "x", "SFT": "x"}},
    "body: `temperature` is the same": {"base_url": "http://h", "body": {"temperature": 1}},
    "base_url: the address is not an address": {"base_url": "localhost:8000"},
}  # fmt: skip


@pytest.mark.parametrize("complaint", OPTIONS)
def test_options_that_cannot_work_are_found_before_the_work(complaint):
    with pytest.raises(InputError) as error:
        list(preflight("openai", OPTIONS[complaint], ["B", "SFT", "Merged"]))
    assert complaint in str(error.value)


def test_accord_check_and_a_run_refuse_such_options(tmp_path, tiny_llama):
    path = example_config(tmp_path, tiny_llama, generate={"backend": "openai"})
    tree = yaml.safe_load(path.read_text())
    del tree["generate"]["workers"]
    path.write_text(yaml.safe_dump(tree))
    found = check_file(path, [], seed=None, limit=None, run_folder=tmp_path / "run")
    (error,) = [f for f in found if f.level == "error"]
    assert error.about == "generate" and "neither is given of base_url" in error.text
    with pytest.raises(InputError, match="neither is given of base_url"):
        ask(job(tiny_llama))


def test_the_check_says_what_a_server_has(server, monkeypatch):
    def look(**options):
        return list(preflight("openai", options, ["B", "SFT"]))

    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    ((level, text),) = look(base_url=server.url)
    assert level == "note" and "has `B`; it must have `B`" not in text and "`SFT` when" in text
    ((level, text),) = list(preflight("openai", {"base_url": server.url}, ["B"]))
    assert (level, text) == ("ok", f"{server.url} has `B`")
    unset, _ = look(base_url=server.url, api_key_env="NOT_SET_HERE")
    assert unset == ("note", "$NOT_SET_HERE is not set: the server is asked without a key")
    gone = f"http://127.0.0.1:{serving_module._free_port()}/v1"
    ((level, text),) = look(base_url=gone)
    assert level == "note" and text.startswith(f"{gone}: no connection")
    ((level, text),) = look(serve="sh {folder} {port} {name}")
    assert (level, text) == ("ok", "one server after the other, by `sh`")
    assert list(preflight("transformers", {}, ["B"])) == []


def test_the_check_does_not_wait_for_a_server_that_says_nothing(monkeypatch):
    import socket

    monkeypatch.setattr("accord.generate.preflight._ASIDE", 0.2)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        ((level, text),) = list(preflight("openai", {"base_url": url}, ["B"]))
    assert level == "note" and "timeout" in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["text", "content"]), inner),
)


@given(JSON)
def test_a_reply_has_a_text_or_is_refused(value):
    for read, field in ((_text_of_choice, "text"), (_text_of_message, "content")):
        try:
            found = read(value)
        except ValueError:
            continue
        assert found == (value[field] or "") and isinstance(found, str)


@pytest.mark.parametrize(
    "address", ["http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/completions"]
)
def test_a_base_url_may_be_written_in_several_ways(address):
    assert way_of(base_url=address).door().url == "http://h:1/v1"


def test_a_log_is_shown_on_one_line(tmp_path):
    log = tmp_path / "log"
    assert tail(log) == f"{log} is empty"
    log.write_bytes(b"\x1b[31mred\xff\n" * 5000 + b"Error: the end\n")
    assert tail(log).endswith("Error: the end") and len(tail(log)) < 500
    assert tail(log).isprintable()


def test_several_questions_are_under_way_at_once(server, tiny_llama):
    meeting = threading.Barrier(3)

    def script(number, body):
        meeting.wait(60)

    with Proxy(server.url[:-3], script) as proxy:
        got = ask(job(tiny_llama), base_url=proxy.url + "/v1", concurrency=3)
    assert len(got) == len(REQUESTS) and not meeting.broken
