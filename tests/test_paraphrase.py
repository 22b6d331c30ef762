"""Paraphrases from an endpoint: a real local server that speaks chat completions."""

import json
import socket

import numpy as np
import pytest
from helpers import accord, tree
from hypothesis import given
from hypothesis import strategies as st
from test_endpoint import Answer, Server, echo
from test_endpoint import script as in_turn

from accord.errors import InputError, RunError
from accord.models.generator import TOO_LONG, Generator
from accord.records import Question
from accord.vary.outcome import Rejected, Rewording, Skip
from accord.vary.paraphrase import semantic
from accord.vary.replies import read_rewordings, read_verdict

SECRET = "sk-live-0123456789"
QUERY = "How do I close 2 accounts?"
WORDINGS = ["Closing 2 accounts, how?", "What are the steps to close 2 accounts?"]
GOOD = json.dumps(WORDINGS)


@pytest.fixture
def endpoint(monkeypatch):
    # The waits between tries grow; here they need not.
    monkeypatch.setattr("accord.models.asking.FIRST_WAIT", 0.001)
    with Server(echo) as server:
        yield server


def answers(*script):
    """The (status, text) of the script in turn, the last one for ever."""
    return in_turn(*(Answer(text, status) for status, text in script))


def paraphrase(endpoint, *script, queries=(QUERY,), encode=None, **options):
    if script:
        endpoint.behave = answers(*script)
    options = {"base_url": endpoint.url, "model": "m", "encoder": None} | options
    return list(semantic(asked(*queries), seed=3, encode=encode, **options))


def asked(*queries):
    return [Question(id=f"q{n}", query=query) for n, query in enumerate(queries)]


def texts(outcome, kind=Rewording):
    return [item.query for item in outcome if isinstance(item, kind)]


def reasons(outcome):
    return {item.query: item.reason for item in outcome if isinstance(item, Rejected)}


@pytest.mark.parametrize("reply", [GOOD, f"Here you are:\n```json\n{GOOD}\n```\nGood luck!"])
def test_a_json_list_is_found_alone_and_in_prose(endpoint, reply):
    (made,) = paraphrase(endpoint, (200, reply))
    assert [r.query for r in made] == WORDINGS
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
        return Answer(json.dumps([query.replace("How do I", "What are the steps to")]))

    endpoint.behave = reworded
    made = paraphrase(endpoint, queries=queries, concurrency=8)
    assert [m[0].query for m in made] == [
        f"What are the steps to close {n} accounts?" for n in range(30)
    ]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "the reply is empty"),
        (" \n", "the reply is empty"),
        ("I cannot help with that.", "no JSON list"),
        ('["Closing 2 accounts, how?", "unfin', "list is cut off"),
        ('{"a": 1}', "no JSON list"),
        ("[1, 2]", "no JSON list"),
        ("[]", "no JSON list"),
        ("[" * 100_000, "list is cut off"),
        (json.dumps({"rewordings": {"1": "x"}}), "no JSON list"),
    ],
)
def test_a_reply_without_a_list_is_skipped_and_never_guessed(endpoint, reply, reason):
    (made,) = paraphrase(endpoint, (200, reply))
    assert isinstance(made, Skip) and reason in made.reason


def test_what_is_turned_down_comes_with_its_text_and_reason(endpoint):
    bad = {
        QUERY.upper(): "repeats the query",
        "How do I close 3 accounts?": "a number is lost or added: 2, 3",
        "How do I not close 2 accounts?": "a negation is lost or added",
        "Wie kann ich 2 Konten schlie\u00dfen, und wo?": "another language: English / German",
        "closing 2 accounts. HOW": "repeats another wording",
        "": "empty, longer than a query, or with control characters",
    }
    (made,) = paraphrase(endpoint, (200, json.dumps([WORDINGS[0], *bad])), k=9)
    assert texts(made) == WORDINGS[:1] and reasons(made) == bad


def test_more_than_k_are_not_kept_and_not_hidden(endpoint):
    (made,) = paraphrase(endpoint, (200, json.dumps([QUERY, *WORDINGS, "close 2 accounts"])), k=1)
    assert texts(made) == WORDINGS[:1]
    assert [reasons(made)[text] for text in (WORDINGS[1], "close 2 accounts")] == [
        "more than k = 1"
    ] * 2


def test_similarity_is_the_encoders_and_has_two_ends(endpoint):
    angles = {QUERY: 0.0, WORDINGS[0]: 0.5, WORDINGS[1]: 1.2, "Close 2 accounts": 0.01}

    def encode(some):
        return np.array([[np.cos(angles[text]), np.sin(angles[text])] for text in some])

    reply = json.dumps(list(angles)[1:])
    (made,) = paraphrase(
        endpoint, (200, reply), encode=encode, encoder="run", k=3, threshold=0.6, identical=0.99
    )
    assert texts(made) == [WORDINGS[0]]
    assert reasons(made) == {
        WORDINGS[1]: "similarity 0.362 below 0.6",
        "Close 2 accounts": "similarity 1.000 above 0.99",
    }


def test_an_encoder_of_its_own_is_located_before_anything_is_asked(endpoint):
    with pytest.raises(InputError, match=r"semantic\.encoder: \./nowhere: no such folder"):
        paraphrase(endpoint, (200, GOOD), encoder="./nowhere")
    assert not endpoint.requests


@pytest.mark.parametrize("k", [1, 2])
def test_outside_a_run_the_embedded_encoder_is_taken(endpoint, k, monkeypatch):
    loaded = []

    def encode(self, texts):
        loaded.append(self.folder.name)
        return np.ones((len(texts), 1)) * 0.9

    monkeypatch.setattr("accord.models.encoder.Encoder.encode", encode)
    (made,) = paraphrase(endpoint, (200, GOOD), encoder="run", k=k)
    assert texts(made) == WORDINGS[:k] and loaded == ["model"]


def judging(verdicts):
    """Rewords QUERY, and judges each pair as `verdicts` says of the candidate."""

    def behave(number, prompt):
        found = [said for text, said in verdicts.items() if f"Second query: {text}" in prompt]
        return Answer(found[0] if found else json.dumps(list(verdicts)))

    return behave


def test_the_judge_has_the_last_word_and_a_reply_that_is_no_verdict_keeps_nothing(endpoint):
    verdicts = {
        WORDINGS[0]: '{"same": true}',
        WORDINGS[1]: '```json\n{"same": false}\n```',
        "Closing 2 of my accounts, how?": "yes",
    }
    endpoint.behave = judging(verdicts)
    (made, skip) = paraphrase(endpoint, queries=[QUERY, "3 reasons"], judge=True, k=3)
    assert texts(made) == WORDINGS[:1]
    assert list(reasons(made).values()) == [
        "the judge finds another meaning",
        "not judged: the reply is no verdict",
    ]
    assert not texts(skip) and len(endpoint.requests) == 2 + 3


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"same": true}', True),
        (' {"same": false, "why": "x"}\n', False),
        ('{"same": "true"}', None),
        ('{"same": 1}', None),
        ('{"same": true, "same": false}', None),
        ('I think {"same": true}', None),
        ("true", None),
        ("[" * 100_000, None),
        ("", None),
    ],
)
def test_a_verdict_is_read_strictly(reply, verdict):
    assert read_verdict(reply) is verdict


@given(st.text())
def test_no_reply_breaks_the_reading(reply):
    found = read_rewordings(reply)
    assert isinstance(found, Skip) or all(isinstance(text, str) for text in found)
    assert read_verdict(reply) in (True, False, None)


@given(
    st.lists(st.text(st.characters(codec="utf-8")), min_size=1),
    st.text(alphabet="ab \n", max_size=9),
)
def test_a_list_is_read_whole_whatever_stands_around_it(values, prose):
    assert read_rewordings(prose + json.dumps(values) + prose) == [
        " ".join(v.split()) for v in values
    ]


def test_half_a_character_does_not_reach_a_file():
    (text,) = read_rewordings('["a \\ud83d b"]')
    assert text.encode() == b"a ? b"


def test_the_budget_is_kept_what_was_paid_for_is_kept_and_the_rest_is_skipped(endpoint, tmp_path):
    queries = [f"How do I close {n} accounts?" for n in range(2, 12)]

    def reworded(number, prompt):
        query = prompt.rpartition("Question: ")[2].strip()
        return Answer(json.dumps([query.replace("How do I", "What are the steps to")]))

    endpoint.behave = reworded
    options = {"queries": queries, "cache": tmp_path / "c.jsonl", "budget": {"requests": 4}}
    first = paraphrase(endpoint, **options)
    assert len(endpoint.requests) == 4
    assert [bool(o == Skip("the budget is spent")) for o in first].count(True) == 6
    second = paraphrase(endpoint, **options)
    assert len(endpoint.requests) == 8
    assert [bool(o == Skip("the budget is spent")) for o in second].count(True) == 2


def test_the_budget_counts_the_judge_too(endpoint):
    endpoint.behave = judging(dict.fromkeys(WORDINGS, '{"same": true}'))
    (made,) = paraphrase(endpoint, judge=True, budget={"requests": 2}, concurrency=1)
    assert texts(made) == WORDINGS[:1]
    assert reasons(made) == {WORDINGS[1]: "not judged: the budget is spent"}
    assert len(endpoint.requests) == 2


def test_a_length_is_asked_for_and_an_unknown_model_is_one_error(endpoint):
    paraphrase(endpoint, (200, GOOD), max_tokens=77)
    assert endpoint.requests[0][2]["max_tokens"] == 77
    with pytest.raises(InputError, match="has no model `m`"):
        paraphrase(endpoint, (404, "no such model"))
    assert len(endpoint.requests) == 2


def test_a_busy_endpoint_is_asked_again(endpoint):
    (made,) = paraphrase(endpoint, (429, "slow down"), (503, "soon"), (200, GOOD))
    assert len(made) == 2 and len(endpoint.requests) == 3


def test_an_endpoint_that_always_fails_is_a_skip_for_that_question(endpoint):
    (made,) = paraphrase(endpoint, (500, "broken"))
    assert isinstance(made, Skip) and "status 500" in made.reason
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
    outcomes = list(semantic(asked("x", "y"), seed=0, encode=None))
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


def test_a_folder_and_an_address_or_half_an_address_are_refused(endpoint, tiny_llama):
    for options, wanted in (
        ({"local": str(tiny_llama)}, "both `local` and `base_url`"),
        ({"model": None}, "base_url without `model`"),
        ({"base_url": None, "local": str(tiny_llama), "budget": {"tokens": 1}}, "`budget` with"),
        ({"base_url": None, "local": "./nowhere"}, "no such folder"),
    ):
        with pytest.raises(InputError, match=wanted):
            paraphrase(endpoint, (200, GOOD), **options)
    assert not endpoint.requests


def local(folder, prompts, seed=0, **options):
    return list(Generator(folder, **options).ask_all(prompts, seed=seed))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_local_models_reply_depends_on_the_prompt_and_the_seed_alone(make_model, family):
    folder = make_model(family, chat=family == "llama")
    hot = {"temperature": 2.0, "max_tokens": 12}
    one, two = local(folder, ["How?", "Why?"], **hot)
    assert local(folder, ["Why?", "How?"], **hot) == [two, one]
    assert local(folder, ["How?"], seed=1, **hot) != [one]
    greedy = local(folder, ["How?"], max_tokens=12)
    assert greedy == local(folder, ["How?"], seed=1, max_tokens=12) != [one]


def test_a_local_models_replies_are_cached_and_a_long_prompt_is_no_reply(tiny_llama, tmp_path):
    options = {"cache": tmp_path / "c.jsonl", "max_tokens": 4}
    first, long = local(tiny_llama, ["How?", "word " * 2000], **options)
    again, _ = local(tiny_llama, ["How?", "word " * 2000], **options)
    assert long.text is None and long.reason == TOO_LONG
    assert again == first._replace(cached=True) and not first.cached


def test_a_local_model_writes_the_paraphrases(tiny_llama, monkeypatch):
    monkeypatch.setattr(Generator, "_generate", lambda self, prompt, seed: GOOD)
    made, same = semantic(
        asked(QUERY, QUERY), seed=0, encode=None, local=str(tiny_llama), encoder=None
    )
    assert texts(made) == texts(same) == WORDINGS


def test_the_key_is_sent_and_never_written(endpoint, tmp_path):
    endpoint.behave = answers((200, '["What are the steps to close an account?"]'))
    (tmp_path / "qa.jsonl").write_text('{"id": "q", "query": "How do I close an account?"}\n')
    done = accord(
        "vary", "qa.jsonl", "-o", "v.jsonl", "--types", "semantic", "--base-url", endpoint.url,
        "--model", "m", "--api-key-env", "MY_KEY", cwd=tmp_path, env={"MY_KEY": SECRET},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert endpoint.requests[0][1]["Authorization"] == f"Bearer {SECRET}"
    assert "What are the steps" in (tmp_path / "v.jsonl").read_text()
    for data in [done.stdout.encode(), done.stderr.encode(), *tree(tmp_path).values()]:
        assert SECRET.encode() not in data
