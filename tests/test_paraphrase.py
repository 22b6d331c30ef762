"""Paraphrases from an endpoint: a real local server that speaks chat completions."""

import json
import socket

import pytest
from helpers import accord, tree
from test_endpoint import Answer, Server, echo
from test_endpoint import script as in_turn

from accord.errors import InputError, RunError
from accord.records import Question
from accord.vary.outcome import Skip
from accord.vary.paraphrase import numbers, parse_reply, semantic

SECRET = "sk-live-0123456789"
QUERY = "How do I close 2 accounts?"
GOOD = '["Closing 2 accounts, how?", "2 accounts to close"]'


@pytest.fixture
def endpoint(monkeypatch):
    # The waits between tries grow; here they need not.
    monkeypatch.setattr("accord.models.endpoint.FIRST_WAIT", 0.001)
    with Server(echo) as server:
        yield server


def answers(*script):
    """The (status, text) of the script in turn, the last one for ever."""
    return in_turn(*(Answer(text, status) for status, text in script))


def paraphrase(endpoint, *script, queries=(QUERY,), **options):
    endpoint.behave = answers(*script)
    questions = [Question(id=f"q{n}", query=query) for n, query in enumerate(queries)]
    return list(semantic(questions, seed=3, base_url=endpoint.url, model="m", **options))


@pytest.mark.parametrize("reply", [GOOD, f"Here you are:\n```json\n{GOOD}\n```\nGood luck!"])
def test_a_json_list_is_found_alone_and_in_prose(endpoint, reply):
    (made,) = paraphrase(endpoint, (200, reply))
    assert [r.query for r in made] == json.loads(GOOD)
    assert {r.operator for r in made} == {"semantic"}


def test_the_endpoint_is_asked_with_query_seed_model_and_key(endpoint, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET)
    paraphrase(endpoint, (200, GOOD), k=5, temperature=0.25, api_key_env="MY_KEY")
    ((path, headers, body),) = endpoint.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert (body["model"], body["seed"], body["temperature"]) == ("m", 3, 0.25)
    assert (
        QUERY in body["messages"][0]["content"] and "5 rewordings" in body["messages"][0]["content"]
    )


def test_outcomes_are_in_the_order_of_the_questions(endpoint):
    queries = [f"How do I close {n} accounts?" for n in range(30)]

    def reworded(number, prompt):
        query = prompt.rpartition("Question: ")[2].strip()
        return Answer(json.dumps([query.replace("How do I", "Steps to")]))

    endpoint.behave = reworded
    made = list(semantic([Question(id=q, query=q) for q in queries], seed=0,
                         base_url=endpoint.url, model="m", concurrency=8))  # fmt: skip
    assert [m[0].query for m in made] == [f"Steps to close {n} accounts?" for n in range(30)]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "no JSON list"),
        ("I cannot help with that.", "no JSON list"),
        ('["unfinished', "no JSON list"),
        ('{"a": 1}', "no JSON list"),
        ("[1, 2]", "no JSON list"),
        ("[]", "every paraphrase"),
        (json.dumps([QUERY, QUERY.upper(), " "]), "every paraphrase"),
        ('["How do I close 3 accounts?", "How do I close accounts?"]', "numbers"),
    ],
)
def test_what_is_no_paraphrase_is_skipped_and_never_guessed(endpoint, reply, reason):
    (made,) = paraphrase(endpoint, (200, reply))
    assert isinstance(made, Skip) and reason in made.reason


def test_a_busy_endpoint_is_asked_again(endpoint):
    (made,) = paraphrase(endpoint, (429, "slow down"), (503, "soon"), (200, GOOD))
    assert len(made) == 2 and len(endpoint.requests) == 3


def test_an_endpoint_that_always_fails_is_a_skip_for_that_question(endpoint):
    (made,) = paraphrase(endpoint, (500, "broken"))
    assert isinstance(made, Skip) and "InternalServerError" in made.reason
    assert len(endpoint.requests) == 5


def test_a_refused_key_is_one_error_that_names_the_variable(endpoint):
    with pytest.raises(InputError, match=r"refused the key; set \$MY_KEY"):
        paraphrase(endpoint, (401, "who are you"), api_key_env="MY_KEY")


def test_nobody_there_is_an_error_and_not_a_skip(endpoint, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint.url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        with pytest.raises(RunError, match="is it running"):
            paraphrase(endpoint, (200, GOOD))


def test_without_an_endpoint_every_question_is_a_skip():
    outcomes = list(semantic([Question(id="q", query="x")] * 2, seed=0))
    assert len(outcomes) == 2 and all(isinstance(o, Skip) for o in outcomes)


def test_a_prompt_of_the_users_is_used_and_a_bad_one_named(endpoint, tmp_path):
    prompt = tmp_path / "ask.jinja"
    prompt.write_text("Reword {{ query }} in {{ k }} ways")
    paraphrase(endpoint, (200, GOOD), prompt=prompt)
    assert endpoint.requests[0][2]["messages"][0]["content"] == f"Reword {QUERY} in 2 ways"
    prompt.write_text("{% if %}")
    for path in (prompt, tmp_path / "none.jinja"):
        with pytest.raises(InputError, match=path.name):
            paraphrase(endpoint, (200, GOOD), prompt=path)


def test_a_template_cannot_reach_the_system(endpoint, tmp_path):
    prompt = tmp_path / "ask.jinja"
    prompt.write_text("{{ query.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(InputError, match=r"ask\.jinja"):
        paraphrase(endpoint, (200, GOOD), prompt=prompt)


@pytest.mark.parametrize(
    ("text", "found"),
    [("none", []), ("2 of 1,000 and 3.5%", ["1,000", "2", "3.5"]), ("v2 or 2nd", ["2", "2"])],
)
def test_numbers(text, found):
    assert numbers(text) == found


def test_at_most_k_different_paraphrases_are_kept():
    made = parse_reply('["A b", "a  b", "c", "d"]', "x", 2)
    assert [r.query for r in made] == ["A b", "c"]


def test_the_key_is_sent_and_never_written(endpoint, tmp_path):
    endpoint.behave = answers((200, '["In what way is it closed?"]'))
    (tmp_path / "qa.jsonl").write_text('{"id": "q", "query": "How do I close it?"}\n')
    done = accord(
        "vary", "qa.jsonl", "-o", "v.jsonl", "--types", "semantic", "--base-url", endpoint.url,
        "--model", "m", "--api-key-env", "MY_KEY", cwd=tmp_path, env={"MY_KEY": SECRET},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert endpoint.requests[0][1]["Authorization"] == f"Bearer {SECRET}"
    assert "In what way" in (tmp_path / "v.jsonl").read_text()
    for data in [done.stdout.encode(), done.stderr.encode(), *tree(tmp_path).values()]:
        assert SECRET.encode() not in data
