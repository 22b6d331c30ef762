"""`accord probe` against a model that is served for real, with a proxy between that misbehaves."""

import json
import os
import random
import signal
import subprocess
import sys
import urllib.request

import pytest
from conftest import HELPDESK
from helpers import ENVIRONMENT, PROGRAM, accord, heed_interrupts, refusal, tree
from serving import Fault, Proxy, served, wait_until

from accord.errors import InputError, RunError
from accord.measure.sources import Measures
from accord.probe.plan import held_asks, own_asks
from accord.probe.stage import Asking, probe
from accord.probe.target import Patience, Target
from accord.records import Answer, Passage, Question, Variation, read_records, write_records
from accord.retrieve.bm25 import bm25

SECRET = "sk-live-0123456789"
COUNT = 5  # questions
BODY = '{"question": "{{ query }}", "passages": "{{ passage_ids }}"}'
IDS = "sources[*].id"


@pytest.fixture(scope="module")
def model():
    with served() as url:
        yield url


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the questions and frozen paraphrases of five questions of the example."""
    folder = tmp_path_factory.mktemp("data")
    questions = read_records(HELPDESK / "qa.jsonl", Question)[:COUNT]
    write_records(folder / "qa.jsonl", questions)
    ids = {q.id for q in questions}
    every = read_records(HELPDESK / "paraphrases.jsonl", Variation)
    write_records(folder / "v.jsonl", [v for v in every if v.original_id in ids])
    return folder


def planned(data, repeat=1):
    questions = read_records(data / "qa.jsonl", Question)
    return own_asks(questions, read_records(data / "v.jsonl", Variation), repeat)


def run(url, data, out, *, repeat=1, gate=None, force=False, patience=None, said=None, **target):
    target = {"api": "json", "model": "m"} | target
    return probe(
        Target(url, **target),
        Asking(data / "qa.jsonl", data / "v.jsonl", repeat),
        out,
        Measures(resamples=200, encoder="none"),
        patience=Patience(tries=3, sleep=lambda s: None, **(patience or {})),
        gate=gate,
        force=force,
        say=(said if said is not None else []).append,
    )


def answers(out):
    return read_records(out.with_name("s.answers.jsonl"), Answer)


def post(url, value):
    data = json.dumps(value).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=200) as reply:
        return json.loads(reply.read())


# What is asked, by what the endpoint lets us do


def test_passages_that_are_handed_back_are_held_fixed(model, data, tmp_path):
    out, said = tmp_path / "s.json", []
    found = run(f"{model}/ask", data, out, passage_ids=IDS, body=BODY, said=said)
    kept = {(a.id, a.contexts): a for a in answers(out)}
    own = planned(data)
    assert set(kept) == {(a.id, a.contexts) for a in own + held_asks(own)}
    for ask in own:
        told = post(f"{model}/ask", {"question": ask.query})
        said_own = kept[ask.id, "own"]
        assert said_own.answer == told["answer"]
        assert said_own.passages == tuple(s["id"] for s in told["sources"])
    for ask in held_asks(own):
        passages = kept[ask.question, "own"].passages
        told = post(f"{model}/ask", {"question": ask.query, "passages": passages})
        assert kept[ask.id, "original"].answer == told["answer"]
        assert kept[ask.id, "original"].passages == passages
    row = found.scores["models"]["m"]
    assert row["attribution"]["how"] == "fixed" and row["questions"] == COUNT
    assert found.scores == json.loads(out.read_text("utf-8"))
    assert row["attribution"]["sentence"] in found.page.read_text("utf-8").replace("\\", "")
    assert "asked again with the passages that its original got" in said[-1]


def test_a_second_template_hands_them_over_as_well(model, data, tmp_path):
    run(f"{model}/ask", data, tmp_path / "one" / "s.json", passage_ids=IDS, body=BODY)
    fixed = '{"question": {{ query | tojson }}, "passages": {{ passage_ids | tojson }}}'
    run(f"{model}/ask", data, tmp_path / "two" / "s.json", passage_ids=IDS, fixed=fixed)
    one, two = (sorted(answers(tmp_path / n / "s.json"), key=repr) for n in ("one", "two"))
    assert one == two


def test_passages_that_are_only_reported_are_observed(model, data, tmp_path):
    out = tmp_path / "s.json"
    found = run(f"{model}/ask", data, out, passage_ids=IDS, repeat=2)
    assert {(a.id, a.repeat) for a in answers(out)} == {(a.id, a.repeat) for a in planned(data, 2)}
    row = found.scores["models"]["m"]
    assert row["attribution"]["how"] == "observed"
    assert row["noise_floor"]["em"] == 1.0  # greedy decoding


def test_a_bare_model_gets_passages_that_are_retrieved_here(model, data, tmp_path):
    out = tmp_path / "s.json"
    chat = {"api": "chat", "max_tokens": 6, "passages": HELPDESK / "passages.jsonl", "k": 2}
    with Proxy(model) as proxy:
        found = run(f"{proxy.url}/v1", data, out, **chat)
    passages = read_records(HELPDESK / "passages.jsonl", Passage)
    own = planned(data)
    wanted = {
        ask.id: tuple(r.id for r in ranked)
        for ask, ranked in zip(own, bm25(passages, [a.query for a in own], k=2), strict=True)
    }
    kept = {(a.id, a.contexts): a for a in answers(out)}
    assert all(kept[a.id, "own"].passages == wanted[a.id] for a in own)
    assert all(kept[a.id, "original"].passages == wanted[a.question] for a in held_asks(own))
    texts = {p.id: p.text for p in passages}
    prompts = [body["messages"][0]["content"] for body in proxy.asked]
    for ask in own:
        asked = [p for p in prompts if p.endswith(f"Question: {ask.query}")]
        assert any(all(texts[id_] in prompt for id_ in wanted[ask.id]) for prompt in asked)
    assert all(b["temperature"] == 0 and b["max_tokens"] == 6 for b in proxy.asked)
    assert found.scores["models"]["m"]["attribution"]["how"] == "fixed"
    assert found.scores["probe"]["truncated"] == sum(
        a.model_extra["finish_reason"] == "length" for a in answers(out)
    )


def test_without_passages_only_the_end_to_end_is_known(model, data, tmp_path):
    found = run(f"{model}/v1", data, tmp_path / "s.json", api="chat", max_tokens=4)
    assert found.scores["models"]["m"]["attribution"]["how"] == "none"
    assert "only the consistency end to end is known" in found.page.read_text("utf-8")


def test_an_endpoint_that_ignores_the_passages_is_found_out(model, data, tmp_path):
    other = '{"question": "{{ query }}", "contexts": "{{ passage_ids }}"}'
    with pytest.raises(InputError, match="other passages came back than were handed over"):
        run(f"{model}/ask", data, tmp_path / "s.json", passage_ids=IDS, fixed=other)
    # Nothing stands in the way of the right options.
    assert not run(f"{model}/ask", data, tmp_path / "s.json", passage_ids=IDS, fixed=BODY).missing


# The first request


NOBODY = "http://127.0.0.1:9/ask"


@pytest.mark.parametrize(
    ("fault", "options", "code", "words"),
    [
        (None, {"answer": "data.text"}, 2, ["no answer at `data.text`", "`answer`, `sources`"]),
        (None, {"passage_ids": "docs[*].id"}, 2, ["no passage ids at", "--passage-ids"]),
        (Fault(status=200, body=b"<html>Sign in</html>"), {}, 1, ["HTML instead of JSON", "Sign"]),
        (Fault(status=401), {}, 2, ["key refused", "--api-key-env"]),
        (Fault(status=500, body=b"boom"), {}, 1, ["status 500", "boom", "tried 2 times"]),
        (Fault(status=422, body=b"no `query`"), {}, 2, ["status 422", "no `query`"]),
    ],
)
def test_what_does_not_work_at_once_is_one_sentence_before_anything_else_is_asked(
    model, data, tmp_path, fault, options, code, words
):
    with (
        Proxy(model, lambda number, body: fault) as proxy,
        pytest.raises((InputError, RunError)) as error,
    ):
        run(f"{proxy.url}/ask", data, tmp_path / "s.json", **options)
    assert error.value.exit_code == code
    assert all(word in str(error.value) for word in words), str(error.value)
    assert len(proxy.asked) <= 6
    assert not (tmp_path / "s.json").exists() and not answers(tmp_path / "s.json")


def test_a_first_question_that_is_refused_does_not_end_it(model, data, tmp_path):
    first = planned(data)[0].query

    def script(number, body):
        return Fault(status=400) if body["question"] == first else None

    with Proxy(model, script) as proxy:
        found = run(f"{proxy.url}/ask", data, tmp_path / "s.json", passage_ids=IDS, body=BODY)
    variations = sum(a.question == "q001" for a in planned(data)) - 1
    assert found.failed == {"status 400": 1, "its original has no answer": variations}


# What misbehaves on the way


def untidy(number, body):
    """About one request in three goes wrong, in one of many ways."""
    drawn = random.Random(number).random()
    faults = [
        Fault(status=500),
        Fault(status=429),
        Fault(status=429, headers={"Retry-After": "1"}),
        Fault(status=502, body=b"<html>Bad gateway</html>", headers={"Content-Type": "text/html"}),
        Fault(status=200, body=b"<html>Please wait</html>"),
        Fault(status=200, body=b'data: {"answer": "x"}\n\n'),
        Fault(status=200, body=b'{"answer": "\xff"}'),
        Fault(status=200, body=b'{"result": "moved"}'),
        Fault(status=200, body=b'{"answer": ["a"], "sources": []}'),
        Fault(drop=True),
        Fault(cut=5),
    ]
    return faults[int(drawn * 33)] if drawn < 1 / 3 else None


def test_random_faults_change_no_answer(model, data, tmp_path):
    clean, rough = tmp_path / "clean" / "s.json", tmp_path / "rough" / "s.json"
    options = {"passage_ids": IDS, "body": BODY}
    run(f"{model}/ask", data, clean, **options)
    with Proxy(model, untidy) as proxy:
        for _ in range(9):
            found = run(f"{proxy.url}/ask", data, rough, patience={"concurrency": 2}, **options)
            if not found.missing:
                break
    assert not found.missing and len(proxy.asked) > len(answers(clean))
    assert sorted(answers(clean), key=repr) == sorted(answers(rough), key=repr)
    scores = [json.loads(path.read_text("utf-8"))["models"]["m"] for path in (clean, rough)]
    assert scores[0] == scores[1]


def test_what_fails_for_good_is_counted_named_and_asked_again(model, data, tmp_path):
    own = planned(data)
    bad = {own[1].query: Fault(status=400), own[2].query: Fault(status=200, body=b"<html>")}
    broken = [True]
    out = tmp_path / "s.json"

    def script(number, body):
        return bad.get(body["question"]) if broken[0] else None

    with Proxy(model, script) as proxy:
        found = run(f"{proxy.url}/ask", data, out)
        assert found.failed == {"status 400": 1, "HTML instead of JSON": 1}
        assert found.scores["probe"]["answered"] == len(own) - 2
        failed = [json.loads(x) for x in out.with_name("s.failed.jsonl").read_text().splitlines()]
        assert {(f["id"], f["reason"], f["tries"]) for f in failed} == {
            (own[1].id, "status 400", 1),
            (own[2].id, "HTML instead of JSON", 3),
        }
        broken[0], before = False, len(proxy.asked)
        again = run(f"{proxy.url}/ask", data, out)
        assert [b["question"] for b in proxy.asked[before:]] == [own[1].query, own[2].query]
    assert not again.missing and not out.with_name("s.failed.jsonl").exists()
    assert len(answers(out)) == len(own)


def test_an_endpoint_that_dies_midway_loses_nothing(model, data, tmp_path):
    out, own, dead = tmp_path / "s.json", planned(data), [False]

    def script(number, body):
        return Fault(drop=True) if dead[0] or number > 7 else None

    with Proxy(model, script) as proxy:
        found = run(f"{proxy.url}/ask", data, out, patience={"concurrency": 2})
        assert len(answers(out)) == 7 and found.missing == len(own) - 7
        assert set(found.failed) <= {"connection lost", "not asked"}
        assert len(proxy.asked) < 7 + 3 * 8
    assert found.scores["probe"]["missing"] == found.missing
    assert found.scores["models"]["m"]["pairs"] == sum(a.type is not None for a in answers(out))
    with Proxy(model) as proxy, pytest.raises(InputError, match="another url"):
        run(f"{proxy.url}/ask", data, out)


def test_empty_and_truncated_answers_are_answers_and_counted(model, data, tmp_path):
    def script(number, body):
        empty = Fault(status=200, body=b'{"answer": "", "sources": []}')
        return empty if number % 2 else None

    with Proxy(model, script) as proxy:
        found = run(f"{proxy.url}/ask", data, tmp_path / "s.json", patience={"concurrency": 1})
    kept = answers(tmp_path / "s.json")
    assert found.scores["probe"]["empty"] == sum(a.answer == "" for a in kept) > len(kept) / 3
    assert "two empty answers count as the same" in found.page.read_text("utf-8")


def test_a_reply_with_half_a_surrogate_pair_fails_alone_or_is_kept_without_it(data, tmp_path):
    """No file can hold it: in an id it is no id, and how an answer ended is told without it."""
    odd = planned(data)[1].query
    said = {"answer": "yes", "sources": [{"id": "p1"}]}

    def script(number, body):
        told = said | ({"sources": [{"id": "\ud83d"}]} if body["question"] == odd else {})
        return Fault(status=200, body=json.dumps(told).encode())

    with Proxy(NOBODY, script) as proxy:
        found = run(f"{proxy.url}/ask", data, tmp_path / "s.json", passage_ids=IDS)
    reason = f"passage ids at `{IDS}`: not a text that UTF-8 can hold"
    assert found.failed == {reason: 1}
    choice = {"message": {"content": "yes"}, "finish_reason": "\ud83d"}
    body = json.dumps({"choices": [choice]}).encode()
    with Proxy(NOBODY, lambda number, body_: Fault(status=200, body=body)) as proxy:
        found = run(f"{proxy.url}/v1", data, tmp_path / "chat" / "s.json", api="chat")
    assert not found.missing


# Resuming


def test_answers_of_another_probe_are_not_mixed_in(model, data, tmp_path):
    out = tmp_path / "s.json"
    run(f"{model}/ask", data, out)
    before = tree(tmp_path)
    for options, what in (
        ({"body": '{"question": "{{ query }} "}'}, "body"),
        ({"model": "other"}, "model"),
        ({"passage_ids": IDS}, "paths and another passages"),
    ):
        with pytest.raises(InputError, match=f"another {what}; --force starts anew"):
            run(f"{model}/ask", data, out, **options)
    assert tree(tmp_path) == before
    assert run(f"{model}/ask", data, out, model="other", force=True).missing == 0
    assert {a.model for a in answers(out)} == {"other"}


def test_more_questions_and_more_repeats_ask_only_what_is_new(model, data, tmp_path):
    out = tmp_path / "s.json"
    with Proxy(model) as proxy:
        run(f"{proxy.url}/ask", data, out)
        assert len(proxy.asked) == len(planned(data))
        run(f"{proxy.url}/ask", data, out, repeat=3)
    assert len(proxy.asked) == len(answers(out)) == len(planned(data, 3))


def command(data, out, url, *more):
    return [
        "probe", url, "--qa", data / "qa.jsonl", "--variations", data / "v.jsonl", "-o", out,
        "--api", "json", "--model", "m", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_and_an_interruption_keep_every_answer_that_came(model, data, tmp_path, end):
    out, stopped, stuck_from = tmp_path / "s.json", [False], 8

    def script(number, body):
        return Fault(delay=0 if stopped[0] or number < stuck_from else 240)

    with Proxy(model, script) as proxy:
        args = command(data, out, f"{proxy.url}/ask", "--concurrency", "2", "--quiet")
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, args)],
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            preexec_fn=heed_interrupts,
        )
        path = out.with_name("s.answers.jsonl")
        wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") == stuck_from - 1)
        process.send_signal(end)
        _, stderr = process.communicate(timeout=200)
        assert process.returncode == (130 if end == signal.SIGINT else -signal.SIGKILL)
        if end == signal.SIGINT:
            assert "interrupted; the same command resumes the work" in stderr
            assert "Traceback" not in stderr
        kept = [a.query for a in answers(out)]
        assert len(kept) == stuck_from - 1
        stopped[0] = True
        done = accord(*args)
    assert done.returncode == 0, done.stderr
    every = [ask.query for ask in planned(data)]
    assert sorted(a.query for a in answers(out)) == sorted(every)
    again = [b["question"] for b in proxy.asked[stuck_from - 1 :]]
    assert not set(kept) & set(again)


# The command


def test_the_command_says_how_inconsistent_and_ends_with_the_right_code(model, data, tmp_path):
    out = tmp_path / "s.json"
    args = command(data, out, f"{model}/ask", "--passage-ids", IDS, "--body", BODY)
    done = accord(*args)
    assert done.returncode == 0, done.stderr
    assert "5 questions asked in" in done.stdout and "s.md to hand on" in done.stdout
    assert "with the original's passages held fixed" in done.stdout
    as_json = accord(*args, "--json", "--quiet")
    assert json.loads(as_json.stdout) == json.loads(out.read_text("utf-8"))
    assert as_json.stderr == ""
    failed = accord(*args, "--gate", "rs>=.99")
    assert failed.returncode == 3 and "gate on m: failed" in failed.stderr
    assert (tmp_path / "s.gate.md").is_file() and (tmp_path / "s.md").read_text("utf-8")[
        :5
    ] == "# How"


def test_missing_answers_are_exit_code_1_unless_they_are_allowed(model, data, tmp_path):
    bad = planned(data)[1].query

    def script(number, body):
        return Fault(status=400) if body["question"] == bad else None

    with Proxy(model, script) as proxy:
        args = command(data, tmp_path / "s.json", f"{proxy.url}/ask")
        done = accord(*args)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("accord: 1 failed: 1 status 400; ")
        assert last.endswith("the same command asks only for the others")
        allowed = accord(*args, "--allow-missing", ".2")
        assert allowed.returncode == 0 and "1 failed: 1 status 400" in allowed.stderr
        gated = accord(*args, "--gate", "rs>=.99")
        assert gated.returncode == 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--gate", "rs >= nice"], "--gate"),
        (["--encoder", "nowhere/at/all"], "--encoder"),
        (["--header", f"X-Key: {SECRET}"], "--header X-Key"),
        (["--header", "X-Key: $NO_SUCH_KEY"], "$NO_SUCH_KEY is not set"),
        (["--k", "5"], "do nothing without --passages"),
        (["--temperature", "1"], "--temperature: is for --api chat"),
        (["--body", "nowhere.json"], "--body: `nowhere.json`"),
        (["--variations", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_is_asked(data, tmp_path, more, words):
    line = refusal(accord(*command(data, tmp_path / "s.json", NOBODY), *more))
    assert words in line and SECRET not in line
    assert not tree(tmp_path)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (".", "is a folder; a file is wanted"),
        ("qa.jsonl", "qa.jsonl: is read by this command and would be overwritten"),
        ("v.jsonl", "v.jsonl: is read by this command and would be overwritten"),
        ("pipe", "is there and no ordinary file"),
        ("page.json", "page.md: is a folder; a file is wanted"),
    ],
)
def test_a_place_that_cannot_take_the_scores_is_named_and_left_alone(data, tmp_path, place, words):
    """Also what is no file: a rename would put one in the place of a device."""
    for name in ("qa.jsonl", "v.jsonl"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    (tmp_path / "page.md").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    line = refusal(accord(*command(tmp_path, tmp_path / place, NOBODY)))
    assert line.startswith("-o: ") and words in line
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_nobody_there_is_one_sentence_and_exit_code_1(data, tmp_path):
    line = refusal(accord(*command(data, tmp_path / "s.json", NOBODY, "--quiet")), 1)
    assert "no connection" in line and line.endswith("is it running?")


@pytest.mark.parametrize("more", [["--api", "json"], ["--api", "chat", "--max-tokens", "3"]])
def test_neither_torch_nor_spacy_is_needed(data, tmp_path, more):
    heavy = ("torch", "transformers", "sentence_transformers", "spacy", "lemminflect")
    shim = f"import sys; sys.modules.update(dict.fromkeys({heavy}))"
    qa = ["--qa", data / "qa.jsonl", "-o", tmp_path / "s.json", "--model", "m", *more]
    done = accord("probe", NOBODY, *qa, shim=shim)
    assert "no connection" in refusal(done, 1)
    assert "not made: singular_plural, article, typo" in done.stderr


def test_no_key_is_in_any_file_or_message(model, data, tmp_path):
    refused = Fault(status=401, body=f"bad key {SECRET}".encode())
    shim = "import logging; logging.basicConfig(level=0)"

    def script(number, body):
        return refused if number > 5 else None

    with Proxy(model, script) as proxy:
        url = proxy.url.replace("//", "//ann:pa%40ss-word@") + "/ask?token=t0ken"
        args = command(data, tmp_path / "s.json", url, "--header", "X-Key: $MY_KEY")
        done = accord(*args, env={"MY_KEY": SECRET}, shim=shim)
    assert done.returncode == 1 and "key refused" in done.stderr
    assert {heads["X-Key"] for _, heads in proxy.heads} == {SECRET}
    shown = [done.stdout.encode(), done.stderr.encode(), *filter(None, tree(tmp_path).values())]
    for data_shown in shown:
        for secret in (SECRET, "pa%40ss-word", "pa@ss-word"):
            assert secret.encode() not in data_shown
    files = b"".join(filter(None, tree(tmp_path).values()))
    assert b"t0ken" not in files
