"""The probe's parts: what is asked, how a target is described, what is kept, what is shown."""

import json
import re
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from accord.cli import app
from accord.errors import InputError, RunError
from accord.evaluate.stage import evaluate
from accord.probe import wordings
from accord.probe.client import Client
from accord.probe.ledger import Files, Ledger
from accord.probe.plan import held_asks, originals, own_asks
from accord.probe.summary import headline, page, where_from
from accord.probe.target import Patience, Target, read_headers
from accord.probe.wordings import LIGHT, PARSED, read_wordings
from accord.records import Answer, Passage, Question, Variation, read_records, write_records

URL = "http://localhost:9/ask"
QUESTIONS = [
    Question(id="q1", query="How do I export a report?", answer="Choose Export."),
    Question(id="q2", query="Where is the invoice?"),
]
VARIATIONS = [
    Variation(id="q1a", original_id="q1", type="how_to_do", query="How to export a report?"),
    Variation(id="q2a", original_id="q2", type="politeness", query="Please, where is the invoice?"),
    Variation(id="q1b", original_id="q1", type="case", query="how do i export a report?"),
]
PASSAGES = [
    Passage(id="p1", text="Click Export.", title="Reports"),
    Passage(id="p2", text="Bills."),
]


def client(**options):
    given = {"url": URL, "api": "json"} if options.get("api") != "chat" else {"url": URL}
    return Client(Target(**(given | options)), Patience(), PASSAGES)


def file(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# What is asked


@given(st.integers(1, 4))
def test_every_wording_is_asked_as_often_as_wanted_and_variations_with_the_passages_held(repeat):
    own = own_asks(QUESTIONS, VARIATIONS, repeat)
    assert [a.id for a in own] == ["q1", "q1a", "q1b", "q2", "q2a"] * repeat
    assert [a.repeat for a in own] == [n for n in range(repeat) for _ in range(5)]
    held = held_asks(own)
    assert {(a.id, a.repeat) for a in held} == {
        (v.id, n) for v in VARIATIONS for n in range(repeat)
    }
    keys = [a.key for a in own + held]
    assert len(set(keys)) == len(keys)


def test_an_answer_has_the_fields_of_the_interface():
    original, variation, *_ = own_asks(QUESTIONS, VARIATIONS, 1)
    said = original.answered("m", "Choose Export.", ["p2"], finish_reason=None)
    assert said.model_dump() == {
        "model": "m",
        "id": "q1",
        "original_id": None,
        "type": None,
        "query": "How do I export a report?",
        "answer": "Choose Export.",
        "passages": ("p2",),
        "contexts": "own",
        "repeat": 0,
    }
    (held, *_) = held_asks([variation])
    other = held.answered("m", "", None, finish_reason="length")
    assert (other.original_id, other.type, other.contexts) == ("q1", "how_to_do", "original")
    assert other.model_extra == {"finish_reason": "length"}
    again = said.model_copy(update={"repeat": 1, "passages": ("p9",)})
    assert originals(dict(enumerate([said, other, again]))) == {"q1": ("p2",)}


def test_variations_are_made_by_rule_and_written_where_they_are_not_given(tmp_path, monkeypatch):
    qa, out = tmp_path / "qa.jsonl", tmp_path / "s.variations.jsonl"
    write_records(qa, QUESTIONS)
    everything = read_wordings(qa, None, out)
    assert read_records(out, Variation) == list(everything.variations)
    assert {v.type for v in everything.variations} > {"question_frame", "politeness", "typo"}
    assert (tmp_path / "s.variations.skipped.jsonl").is_file()
    for package in ("spacy", "lemminflect"):
        monkeypatch.setitem(sys.modules, package, None)
    lacking = {"spacy"}
    monkeypatch.setattr(wordings, "find_spec", lambda name: None if name in lacking else "there")
    light = read_wordings(qa, None, out)
    assert {v.type for v in light.variations} <= {name for name, _ in LIGHT}
    assert len(light.variations) >= 6
    made, left = light.notes
    assert all(name in made for name, _ in LIGHT) and str(out) in made
    assert all(name in left for name, _ in PARSED) and 'pip install "accord[vary]"' in left


def test_the_limit_takes_the_first_questions_and_knows_of_the_others(tmp_path):
    qa, given_file = tmp_path / "qa.jsonl", tmp_path / "v.jsonl"
    write_records(qa, QUESTIONS)
    write_records(given_file, VARIATIONS)
    words = read_wordings(qa, given_file, tmp_path / "none.jsonl", limit=1)
    assert [q.id for q in words.questions] == ["q1"]
    assert [v.id for v in words.variations] == ["q1a", "q1b"]
    assert words.queries == {x.id: x.query for x in [*QUESTIONS, *VARIATIONS]}
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"original_id": "q9"}, "`q9`, which is not in QA"),
        ({"id": "q2"}, "has the id of a question"),
        ({"id": "q2a"}, "occurs twice"),
    ],
)
def test_variations_that_do_not_fit_are_named(tmp_path, bad, words):
    qa, given_file = tmp_path / "qa.jsonl", tmp_path / "v.jsonl"
    write_records(qa, QUESTIONS)
    first = VARIATIONS[0].model_copy(update=bad)
    write_records(given_file, [first, *VARIATIONS[1:]])
    with pytest.raises(InputError, match=words):
        read_wordings(qa, given_file, tmp_path / "x")
    write_records(given_file, [])
    with pytest.raises(InputError, match="no variation of any question"):
        read_wordings(qa, given_file, tmp_path / "x")


# The target


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({}, "unknown"),
        ({"passage_ids": "sources[*].id"}, "reported"),
        (
            {
                "passage_ids": "sources[*].id",
                "body": '{"q": "{{ query }}", "p": "{{ passage_ids }}"}',
            },
            "returned",
        ),
        (
            {"passage_ids": "s[*].id", "fixed": '{"q": "{{ query }}", "p": "{{ passages }}"}'},
            "returned",
        ),
        (
            {"body": '{"q": "{{ query }}", "p": "{{ passages }}"}', "passages": Path("p.jsonl")},
            "retrieved",
        ),
        ({"api": "chat", "model": "m"}, "unknown"),
        ({"api": "chat", "model": "m", "passages": Path(__file__)}, "retrieved"),
    ],
)
def test_where_passages_come_from_follows_from_what_is_given(options, how):
    found = client(**options)
    assert found.how == how
    assert found.held == (how in {"returned", "retrieved"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api": "chat"}, "--model: is missing"),
        ({"api": "chat", "model": "m", "body": "{}"}, "--body: is for --api json"),
        ({"api": "chat", "model": "m", "answer": "a"}, "--answer: is for --api json"),
        ({"api": "chat", "model": "m", "prompt": Path("p")}, "--prompt: does nothing without"),
        ({"system": "x"}, "--system: is for --api chat"),
        ({"max_tokens": 3}, "--max-tokens: is for --api chat"),
        ({"body": '{"q": "hello"}'}, "--body: has no {{ query }}"),
        ({"fixed": '{"q": "{{ query }}", "p": "{{ passages }}"}'}, "--fixed: hands over"),
        (
            {"fixed": '{"q": "{{ query }}"}', "passage_ids": "x"},
            "--fixed: has no {{ passages }}",
        ),
        ({"body": '{"q": "{{ query }}", "p": "{{ passages }}"}'}, "--body: mentions passages"),
        ({"passages": Path("p.jsonl")}, "--body has no {{ passages }}"),
        ({"passages": Path("p.jsonl"), "passage_ids": "x"}, "--passages: does nothing"),
        ({"url": "localhost"}, "probe: the URL is not an address"),
    ],
)
def test_options_that_do_not_fit_together_are_named(options, words):
    with pytest.raises(InputError) as error:
        client(**options)
    assert words in str(error.value)


def test_a_chat_is_asked_with_system_turn_prompt_and_passages():
    asked = client(
        api="chat", url="http://h/v1/", model="m", system="Be {{ brief }}.", max_tokens=9, seed=3,
        passages=Path(__file__),
    )  # fmt: skip
    assert asked.address.url == "http://h/v1/chat/completions"
    body = asked.body.fill(asked.values("q1", "How {{ so }}?", ["p1", "p2"]))
    system, user = body.pop("messages")
    assert body == {"model": "m", "temperature": 0.0, "seed": 3, "max_tokens": 9}
    assert system == {"role": "system", "content": "Be {{ brief }}."}
    assert user["role"] == "user" and "Reports: Click Export.\nBills." in user["content"]
    assert user["content"].endswith("Question: How {{ so }}?")
    bare = client(api="chat", url="http://h/v1/chat/completions", model="m")
    assert bare.address.url == "http://h/v1/chat/completions"
    filled = bare.body.fill(bare.values("q1", "How?", None))
    assert filled["messages"] == [{"role": "user", "content": "How?"}]


def test_passages_are_handed_over_by_id_and_with_their_texts_where_these_are_known():
    body = '{"q": "{{ query }}", "ids": "{{ passage_ids }}", "p": "{{ passages }}"}'
    asked = client(passage_ids="s", body=body, passages=Path("p.jsonl"))
    filled = asked.body.fill(asked.values("q1", "How?", ["p2", "other"]))
    assert filled["ids"] == ["p2", "other"]
    assert filled["p"] == [{"id": "p2", "text": "Bills.", "title": None}, {"id": "other"}]
    assert asked.body.fill(asked.values("q1", "How?", None)) == {"q": "How?"}


def test_the_settings_of_a_probe_hold_no_key(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-0123456789")
    body = '{"q": "{{ query }}", "key": "sk-literal"}'
    asked = client(
        url="http://ann:pw@h/ask?token=t0k", headers=("X-Key: Bearer $MY_KEY",), body=body
    )
    shown = json.dumps(asked.settings())
    assert '"X-Key"' in shown and "http://h/ask" in shown
    assert not any(secret in shown for secret in ("sk-0", "sk-l", "pw", "t0k"))


@pytest.mark.parametrize(
    "changed",
    [
        {"url": "http://localhost:9/other"},
        {"url": f"{URL}?collection=other"},
        {"model": "other"},
        {"body": '{"q": "{{ query }}"}'},
        {"answer": "text"},
        {"passage_ids": "ids"},
        {"passage_ids": "ids", "fixed": '{"q": "{{ query }}", "p": "{{ passages }}"}'},
        {"headers": ("X-Key: $MY_KEY",)},
    ],
)
def test_the_settings_are_all_that_an_answer_depends_on(monkeypatch, changed):
    monkeypatch.setenv("MY_KEY", "x")
    assert client().settings() == client().settings() != client(**changed).settings()


def test_headers_take_their_values_from_the_environment_only(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-0123456789")
    assert read_headers(["X-Key: $MY_KEY"], "MY_KEY") == {
        "Authorization": "Bearer $MY_KEY",
        "X-Key": "$MY_KEY",
    }
    for line, words in (
        ("X-Key: sk-0123456789", "in single quotes"),
        ("X-Key sk-0123456789", "the form is"),
        (": $MY_KEY", "the form is"),
        ("X Key: $MY_KEY", "the form is"),
        ("X-Key: $OTHER_KEY", r"\$OTHER_KEY is not set"),
    ):
        with pytest.raises(InputError, match=words) as error:
            read_headers([line], None)
        assert "sk-" not in str(error.value)


def test_every_option_of_the_command_is_in_the_docs():
    text = (Path(__file__).parents[1] / "docs" / "probing.md").read_text("utf-8")
    command = typer.main.get_command(app).commands["probe"]
    names = {max(p.opts, key=len) for p in command.params if p.param_type_name == "option"}
    assert len(names) > 25
    common = {"--json", "--quiet", "-v", "--help"}
    assert not [name for name in names - common if not re.search(rf"{name}\b", text)]


# What is kept

WANTED = {x.id: x.query for x in [*QUESTIONS, *VARIATIONS]}


def ledger(scores, settings=None, wanted=WANTED, force=False):
    return Ledger(Files(scores), settings or {"url": "u", "body": "b"}, wanted, force=force)


def test_answers_are_there_at_once_and_what_is_torn_is_cut_off(tmp_path):
    scores = tmp_path / "deep" / "s.json"
    own = own_asks(QUESTIONS, VARIATIONS, 1)
    first = ledger(scores)
    for ask in own[:3]:
        first.add(ask.answered("m", f"re {ask.id}", ["p1"]))
        kept = read_records(first.files.answers, Answer)
        assert kept[-1].id == ask.id
    first.close()
    whole = first.files.answers.read_bytes()
    for cut in (1, 5, 60):
        first.files.answers.write_bytes(whole[:-cut])
        second = ledger(scores)
        assert [ask.id for ask in second.todo(own)] == ["q1b", "q2", "q2a"]
        second.close()
    second = ledger(scores)
    second.fail(own[2], "timeout", 5)
    second.close()
    (failed,) = [json.loads(line) for line in second.files.failed.read_text().splitlines()]
    assert failed == {"id": "q1b", "contexts": "own", "repeat": 0, "reason": "timeout", "tries": 5}
    ledger(scores).close()
    assert not second.files.failed.exists()


def test_answers_to_other_settings_or_wordings_are_never_mixed_in(tmp_path):
    scores, own = tmp_path / "s.json", own_asks(QUESTIONS, VARIATIONS, 1)
    first = ledger(scores)
    first.add(own[0].answered("m", "x", []))
    first.close()
    before = first.files.answers.read_bytes()
    with pytest.raises(InputError, match=r"s\.answers\.jsonl: .* another body; --force"):
        ledger(scores, {"url": "u", "body": "other"})
    with pytest.raises(InputError, match="`q1` was asked as `How do I export a report"):
        ledger(scores, wanted=WANTED | {"q1": "How else?"})
    with pytest.raises(InputError, match="not how it stands"):
        ledger(scores, wanted={})
    assert first.files.answers.read_bytes() == before
    anew = ledger(scores, {"url": "u", "body": "other"}, force=True)
    assert anew.todo(own) == own
    anew.close()
    first.files.settings.unlink()
    first.files.answers.write_bytes(before)
    with pytest.raises(InputError, match=r"s\.probe\.json, .* cannot be read"):
        ledger(scores)


def test_an_answer_that_stands_there_twice_is_named_before_anything_is_asked(tmp_path):
    first = ledger(tmp_path / "s.json")
    (ask, *_) = own_asks(QUESTIONS, VARIATIONS, 1)
    first.add(ask.answered("m", "x", []))
    first.close()
    path = first.files.answers
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(InputError, match=r"s\.answers\.jsonl: `q1` .* twice; delete one"):
        ledger(tmp_path / "s.json")


def test_a_full_disk_is_named_with_the_file(tmp_path):
    kept = ledger(tmp_path / "s.json")
    own = own_asks(QUESTIONS, VARIATIONS, 1)
    kept.lines.file.close()
    kept.lines.file = open("/dev/full", "wb")  # noqa: SIM115, PTH123
    with pytest.raises(RunError, match=r"s\.answers\.jsonl: .* cannot be written: No space left"):
        kept.add(own[0].answered("m", "x", []))
    kept.close()  # what is not written yet cannot be written now either
    assert kept.todo(own) == own


def test_variations_that_are_given_may_lie_where_those_made_here_would(tmp_path):
    files = Files(tmp_path / "s.json")
    write_records(files.variations, VARIATIONS)
    files.require_room([files.variations], made=False)
    with pytest.raises(InputError, match=r"s\.variations\.jsonl: is read by this command"):
        files.require_room([files.variations], made=True)
    with pytest.raises(InputError, match="is a folder"):
        Files(Path())


def test_two_probes_do_not_write_one_file_and_a_file_of_another_kind_is_left_alone(tmp_path):
    first = ledger(tmp_path / "s.json")
    with pytest.raises(InputError, match="another process is writing it"):
        ledger(tmp_path / "s.json", force=True)
    first.close()
    notes = file(tmp_path / "s.answers.jsonl", "my notes")
    with pytest.raises(InputError):
        ledger(tmp_path / "s.json")
    assert notes.read_text() == "my notes"


# What is shown


def scored(answers, **probe):
    counts = {"url": URL, "asked": 5, "answered": 5, "missing": 0, "failed": {}, "empty": 0}
    scores = evaluate(answers, {"q1": "Choose Export.", "q2": None}, resamples=100)
    return scores | {"probe": counts | {"truncated": 0, "passages": "reported"} | probe}


def answers(texts, passages=("p1",)):
    own = own_asks(QUESTIONS, VARIATIONS, 1)
    return [a.answered("m", text, passages) for a, text in zip(own, texts, strict=True)]


def test_the_page_says_how_inconsistent_and_shows_answers_side_by_side():
    scores = scored(
        answers(["Choose Export.", "Choose Export.", "No idea.", "Here.", "There it is"])
    )
    text = page(scores, "m")
    said = " ".join(headline(scores, "m"))
    assert "2 questions asked in 3 other wordings" in said
    assert "33 % [" in said and "the very same answer" in said
    assert where_from(scores["models"]["m"]) in text.replace("\\", "")
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<td>Please, where is the invoice?</td>\n<td>There it is</td>" in html
    assert "<td>How do I export a report?<br>How to export a report?</td>" in html
    assert html.count("<table>") == 3


def test_where_no_rewording_kept_its_passages_nothing_stands_in_for_them():
    own = own_asks(QUESTIONS, VARIATIONS, 1)
    scores = scored([a.answered("m", "yes", [f"p{n}"]) for n, a in enumerate(own)])
    said = where_from(scores["models"]["m"])
    assert "no rewording kept its passages" in said and "stand in" not in said
    assert said in page(scores, "m")


def test_what_is_missing_cut_off_or_empty_is_on_the_page():
    scores = scored(
        answers(["a", "", "", "b", "c"]),
        answered=3, missing=2, failed={"timeout": 2}, empty=2, truncated=1,
    )  # fmt: skip
    text = page(scores, "m")
    for line in ("3 of 5 answers", "Missing: 2 x timeout", "Empty: 2", "length limit: 1"):
        assert line in text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("ab |\\`*_[]<>#&\n\r\t!-+1.") | st.characters(codec="utf-8")),
        min_size=5,
        max_size=5,
    )
)
def test_no_answer_breaks_the_page_or_is_taken_for_its_markup(texts):
    html = MarkdownIt("commonmark").enable("table").render(page(scored(answers(texts)), "m"))
    assert html.count("<table>") == 3
    inside = html.replace("<br>", "")
    for tag in ("<em>", "<a ", "<img", "<b>", "<script", "<code>", "<h4>"):
        assert tag not in inside
