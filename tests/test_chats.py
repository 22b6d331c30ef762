"""Chats as questions: `messages`, `prompt` and `completion`, from the file to the prompt."""

import hashlib
import json

import pytest
import torch
from conftest import CHATML, make_tokenizer
from helpers import accord, example_config, refusal
from hypothesis import given
from hypothesis import strategies as st
from serving_models import model_server, running

from accord.check import check_file, require_ready
from accord.config import Data, Prompt
from accord.configfile import load_config
from accord.data import keep_apart, load_dataset, wordings
from accord.errors import InputError
from accord.files.chats import as_question
from accord.generate import transformers as local
from accord.generate.openai import openai
from accord.generate.prompting import Prompts
from accord.generate.request import Job, request
from accord.generate.rows import Ask, asks, gold_contexts, request_of
from accord.models.answers import AnswerCache
from accord.models.base import load_model, load_tokenizer
from accord.models.prompt import Prompter
from accord.records import Grounded, Passage, Question, Turn, Variation, read_records, write_records
from accord.train.examples import tokenize

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hello. What is it?"},
    {"role": "user", "content": "How do I close an account?"},
    {"role": "assistant", "content": "Open the menu and choose it."},
]
LIST = [{"role": "user", "content": "How?"}]
PASSAGES = [Passage(id="p", text="The menu has it.")]
WINDOW = 1024
NEW = 12


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder, *rows):
    return read_records(jsonl(folder / "chats.jsonl", rows), Question)


# From rows to questions


def test_the_last_user_turn_is_the_query_and_what_follows_the_answer(tmp_path):
    (one,) = read(tmp_path, {"messages": TALK, "split": "dev", "source": "log"})
    assert one.query == "How do I close an account?"
    assert one.answer == "Open the menu and choose it."
    assert [(t.role, t.content) for t in one.turns] == [(t["role"], t["content"]) for t in TALK[:3]]
    assert (one.as_is, one.split, one.model_extra) == ("chat", "dev", {"source": "log"})
    (silent,) = read(tmp_path, {"messages": TALK[:-1]})
    assert silent.answer is None and silent.id == one.id
    (given_,) = read(tmp_path, {"messages": TALK[:-1], "answer": "So.", "id": 7})
    assert given_.answer == "So." and given_.id == "7"


CONTENT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
HISTORY = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), CONTENT), max_size=5)


@given(HISTORY, CONTENT.filter(str.strip), st.none() | CONTENT)
def test_nothing_of_a_chat_is_lost_and_nothing_added(history, query, answer):
    said = [*history, ("user", query), *([] if answer is None else [("assistant", answer)])]
    row = {"messages": [{"role": role, "content": content} for role, content in said]}
    one = Question.model_validate(as_question(row))
    again = [*((t.role, t.content) for t in one.turns), ("user", one.query)]
    assert again + ([] if one.answer is None else [("assistant", one.answer)]) == said


@given(HISTORY, CONTENT.filter(str.strip), HISTORY, CONTENT.filter(str.strip))
def test_ids_differ_where_what_is_asked_does(first, query, second, other):
    def id_of(history, asked):
        turns = [{"role": role, "content": content} for role, content in history]
        return as_question({"messages": [*turns, {"role": "user", "content": asked}]})["id"]

    assert (id_of(first, query) == id_of(second, other)) == ((first, query) == (second, other))


def test_a_made_id_is_the_same_for_good():
    said = '["How?", [["system", "Be brief."]]]'
    chat = {"messages": [TALK[0], *LIST]}
    assert as_question(chat)["id"] == "m-" + hashlib.sha256(said.encode()).hexdigest()[:12]


def test_prompt_and_completion_are_a_text_to_be_completed_or_lists_of_messages(tmp_path):
    text, bare, chat, ended = read(
        tmp_path,
        {"prompt": "The capital of France is", "completion": " Paris."},
        {"prompt": "Once upon", "completion": None},
        {"prompt": TALK[:4], "completion": TALK[4:]},
        {"prompt": LIST},
    )
    assert (text.query, text.answer) == ("The capital of France is", " Paris.")
    assert (text.as_is, text.turns) == ("text", ())
    assert bare.answer is None and bare.as_is == "text"
    (same,) = read(tmp_path, {"messages": TALK})
    assert chat == same
    assert (ended.query, ended.answer, ended.as_is) == ("How?", None, "chat")


def test_a_row_with_a_query_is_a_question_whatever_else_it_has(tmp_path):
    row = {"id": "q", "query": "How?", "prompt": "What I sent", "completion": "x", "messages": None}
    (one,) = read(tmp_path, row)
    assert one.as_is is None and one.model_extra == {
        "prompt": "What I sent",
        "completion": "x",
        "messages": None,
    }


def test_what_is_written_of_a_chat_is_read_back(tmp_path):
    found = read(tmp_path, {"messages": TALK}, {"prompt": "Once upon", "completion": " a time"})
    write_records(tmp_path / "again.jsonl", found)
    assert read_records(tmp_path / "again.jsonl", Question) == found


def turn(**changes):
    return {"messages": [*TALK[:3], TALK[3] | changes, TALK[4]]}


MALFORMED = [
    ({"messages": []}, "field `messages`: found []; a list of turns"),
    ({"messages": "How?"}, 'field `messages`: found "How?"; a list of turns'),
    ({"messages": ["How?"]}, 'field `messages.0`: found "How?"; a turn with'),
    (turn(role="tool"), 'field `messages.3.role`: found "tool"; system, user or assistant'),
    (turn(role=None), "field `messages.3.role`: found null; system, user or assistant"),
    (turn(content=[{"type": "text"}]), "field `messages.3.content`: found [{"),
    (turn(content=None), "field `messages.3.content`: found null; a text"),
    (turn(content=" "), "field `messages`: the last thing asked is empty"),
    ({"messages": TALK, "query": "How?"}, "field `messages`: `query` is there too"),
    ({"messages": TALK, "prompt": "How?"}, "field `messages`: `prompt` is there too"),
    ({"messages": TALK, "answer": "So."}, "field `answer`: `messages` has an answer too"),
    ({"messages": TALK[:1]}, 'field `messages`: found ["system"]; a user\'s turn'),
    ({"messages": [*TALK, TALK[4]]}, 'field `messages`: found ["assistant", "assistant"]; one'),
    ({"messages": [*TALK, TALK[0]]}, 'field `messages`: found ["assistant", "system"]; one'),
    ({"completion": "So."}, "field `prompt` is missing"),
    ({"prompt": 3}, "field `prompt`: found 3; a list of turns"),
    ({"prompt": ""}, "field `prompt`: the last thing asked is empty"),
    ({"prompt": "How?", "completion": LIST}, "field `completion`: found [{"),
    ({"prompt": "How?", "completion": "x", "answer": "y"}, "field `answer`: `prompt` has an"),
    ({"prompt": LIST, "completion": "So."}, 'field `completion`: found "So."; a list of turns'),
    ({"prompt": TALK, "completion": LIST}, 'field `prompt`: found "assistant"; a user\'s turn'),
    ({"prompt": LIST, "completion": TALK[:1]}, 'field `completion`: found ["system"]; one'),
    ({"messages": TALK, "split": "eval"}, "field `split`: found"),
    ({"messages": TALK, "id": ""}, "field `id` is empty"),
]


@pytest.mark.parametrize(("row", "said"), MALFORMED)
def test_a_malformed_chat_is_one_sentence_with_file_line_and_field(tmp_path, row, said):
    with pytest.raises(InputError) as caught:
        read(tmp_path, {"messages": TALK}, row)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'chats.jsonl'} line 2: {said}") and "\n" not in message


def test_exact_repeats_are_taken_once_with_a_note_and_others_refused(tmp_path):
    chat = {"messages": TALK}
    data = Data(qa=[jsonl(tmp_path / "a.jsonl", [chat, chat, {"messages": LIST}, chat])])
    loaded = load_dataset(data, 0)
    assert [q.query for q in loaded.questions] == ["How do I close an account?", "How?"]
    (note,) = loaded.notes
    assert "2 rows are exact repeats" in note and "How do I close" in note
    other = {"messages": [*TALK[:4], {"role": "assistant", "content": "Ask us."}]}
    for more in (other, chat | {"split": "dev"}):
        two = Data(qa=[*data.qa, jsonl(tmp_path / "b.jsonl", [more])])
        with pytest.raises(InputError, match=r"b\.jsonl: two rows without `id`.*a\.jsonl.*close"):
            load_dataset(two, 0)
    named = [chat | {"id": "x"}, chat | {"id": "x"}]
    with pytest.raises(InputError, match="id `x` occurs twice"):
        load_dataset(Data(qa=[jsonl(tmp_path / "c.jsonl", named)]), 0)


def test_the_same_query_after_other_turns_asks_something_else():
    shared = {"query": "And then?", "as_is": "chat"}
    turns = [Turn(role="user", content="How?")]
    one = Question(id="a", split="train", turns=turns, **shared)
    two = Question(id="b", split="test", **shared)
    again = Variation(id="v", original_id="a", type="t", query="and then")
    assert keep_apart([one, two], [again]) == ([again], [])
    kept, dropped = keep_apart([one.model_copy(update={"turns": ()}), two], [again])
    assert not kept and "same query" in dropped[0].reason


# From questions to prompts


CHAT = Prompter(make_tokenizer())
PLAIN = Prompter(make_tokenizer(chat_template=None))


def asked_of(*rows):
    """The wordings of rows, each with one variation."""
    questions = [Question.model_validate({"split": "test", **as_question(row)}) for row in rows]
    shared = {"type": "t", "query": "Reworded?"}
    made = [Variation(id=f"v{q.id}", original_id=q.id, **shared) for q in questions]
    return wordings(questions, made, 0)


ROWS = (
    {"messages": TALK},
    {"messages": TALK[-2:]},
    {"messages": TALK[1:4]},
    {"prompt": "The capital of France is", "completion": " Paris."},
    {"prompt": TALK[:4], "completion": TALK[4:]} | {"id": "listed"},
    {"id": "q", "query": "Why?", "answer": "So."},
)


def text_of(prompter, wording, passages=()):
    found = prompter.build(wording.id, wording.query, passages, 900, wording.turns, wording.as_is)
    return prompter.tokenizer.decode(found.ids)


def test_by_a_chat_template_a_chat_is_what_the_template_makes_of_its_turns():
    original, reworded = asked_of({"messages": TALK})
    own = make_tokenizer().apply_chat_template(TALK[:4], tokenize=False, add_generation_prompt=True)
    assert text_of(CHAT, original) == own
    assert text_of(CHAT, reworded) == own.replace(TALK[3]["content"], "Reworded?")
    (completion, _) = asked_of({"prompt": "The capital is", "completion": " Paris."})
    wanted = "<|im_start|>user\nThe capital is<|im_end|>\n<|im_start|>assistant\n"
    assert text_of(CHAT, completion) == wanted


def test_prompt_and_answer_of_a_chat_are_the_whole_chat():
    """What is trained on is what other trainers make of the same messages."""
    original, _ = asked_of({"messages": TALK})
    example = tokenize(CHAT, original, (), window=WINDOW, max_prompt=None, reserve=NEW)
    whole = make_tokenizer().apply_chat_template(TALK, tokenize=False)
    ids = CHAT.tokenizer(whole, add_special_tokens=False)["input_ids"]
    got = [*example.prompt, *example.answer]
    assert got == ids[: len(got)] and CHAT.tokenizer.decode(ids[len(got) :]) == "\n"


def test_without_a_chat_template_contents_are_lines_and_a_text_goes_on_by_itself():
    original, _ = asked_of({"messages": TALK})
    lines = [turn["content"] for turn in TALK[:4]]
    assert text_of(PLAIN, original) == "\n".join([*lines, "Answer:"])
    completion, reworded = asked_of({"prompt": "Once upon ", "completion": "a time"})
    example = tokenize(PLAIN, completion, (), window=WINDOW, max_prompt=None, reserve=NEW)
    text = PLAIN.tokenizer.decode([*example.prompt, *example.answer])
    assert text == "Once upon a time<|endoftext|>"
    assert text_of(PLAIN, reworded) == "Reworded?"


def test_with_passages_the_template_is_used_after_the_turns():
    for row in ROWS:
        original, _ = asked_of(row)
        bare = original.model_copy(update={"turns": (), "as_is": None})
        for prompter in (CHAT, PLAIN):
            alone, found = text_of(prompter, bare, PASSAGES), text_of(prompter, original, PASSAGES)
            assert "The menu has it." in found and found.endswith(alone[20:])
            assert (found == alone) == (not original.turns)
            assert all(turn.content in found for turn in original.turns)
        example = tokenize(PLAIN, original, PASSAGES, window=900, max_prompt=None, reserve=NEW)
        assert PLAIN.tokenizer.decode(example.prompt).endswith("\nAnswer:")
        assert PLAIN.tokenizer.decode(example.answer).startswith(" ")


def test_passages_are_cut_and_turns_never():
    original, _ = asked_of({"messages": TALK})
    many = [Passage(id=str(n), text="The menu has it. " * 20) for n in range(3)]
    shared = {"turns": original.turns, "as_is": original.as_is}
    found = CHAT.build("x", original.query, many, 150, **shared)
    text = CHAT.tokenizer.decode(found.ids)
    assert found.cut and len(found.ids) <= 150 and "Be brief." in text and "What is it?" in text
    with pytest.raises(InputError, match=r"`x`: its turns alone take \d+ tokens"):
        CHAT.build("x", original.query, [], 30, **shared)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("passages", [[], PASSAGES])
def test_training_and_generation_see_the_same_token_ids(make_model, chat, passages):
    folder = make_model("llama", chat)
    prompter = Prompter(load_tokenizer(folder))
    prompts = Prompts(folder, Prompt(), NEW)
    asked = asked_of(*ROWS)
    seen = set()
    for wording in asked:
        example = tokenize(prompter, wording, passages, window=WINDOW, max_prompt=None, reserve=NEW)
        ask = Ask(wording, wording.query, tuple(passages))
        assert prompts.build(request_of(ask)).ids == example.prompt
        seen.add(example.prompt)
    assert len(seen) >= 8  # some ask the same


def test_requests_of_questions_are_what_they_were_and_others_differ_by_all_that_is_put():
    turns = [Turn(role="user", content="Hello!")]
    plain = hashlib.sha256(b'["How?", []]').hexdigest()[:24]
    assert request("n", "How?", []).id == plain  # by which answers are cached
    given_ = [((), None), ((), "chat"), ((), "text"), (turns, "chat"), (turns * 2, "chat")]
    assert len({request("n", "How?", PASSAGES, *more).id for more in given_}) == len(given_)


def test_gold_passages_go_with_a_chat_too():
    row = {"messages": TALK, "contexts": ["The gold menu."], "split": "test"}
    question = Question.model_validate(as_question(row))
    (asked,) = wordings([question], [], 0)
    gold = gold_contexts([question], [])
    own, given_ = asks([asked], {asked.id: []}, gold, ["own", "gold"])
    assert request_of(own).as_is == "chat" and not own.passages
    assert [p.text for p in given_.passages] == ["The gold menu."]
    assert "The gold menu." in text_of(CHAT, asked, given_.passages)


def decoded(folder, prompts, asked):
    """What the model says by itself, one prompt at a time, greedily."""
    from transformers import GenerationConfig

    model = load_model(folder)
    model.generation_config = GenerationConfig()
    answers = {}
    for one in asked:
        ids = torch.tensor([prompts.build(one).ids])
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=NEW,
            eos_token_id=prompts.ends,
            pad_token_id=0,
        )
        said = prompts.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        answers[one.id] = said.strip()
    return answers


@pytest.mark.parametrize("chat", [True, False])
def test_every_backend_answers_what_the_model_says_to_that_prompt(make_model, monkeypatch, chat):
    """Bare prompts have no common beginning, or one of a token: nothing is shared then."""
    monkeypatch.setattr(
        local, "_in_workers", lambda todo, how, _: ((b, local._decode(b, how)) for b in todo)
    )
    local._load.cache_clear()
    folder = make_model("llama", chat, tie_word_embeddings=False)
    rows = [
        {"prompt": p, "completion": "x"} for p in ("A", "A b", "Zebra", "12 and more than that")
    ]
    asked = [request(w.id, w.query, [], w.turns, w.as_is) for w in asked_of(*ROWS, *rows)]
    asked = list({one.id: one for one in asked}.values())
    prompts = Prompts(folder, Prompt(), NEW)
    wanted = decoded(folder, prompts, asked)
    job = Job("B", str(folder), "w", 0, tuple(asked))
    settings = {"prompt": Prompt(), "max_new_tokens": NEW, "cache": AnswerCache(None)}
    got = {r.id: r.answer for r in local.transformers([job], **settings)}
    assert got == wanted and len(set(wanted.values())) > 5
    with running(model_server(folder, "B")) as server:
        served = {r.id: r.answer for r in openai([job], base_url=server.url, **settings)}
    assert served == wanted
    talks = [body["messages"] for body in server.asked if "messages" in body]
    assert (TALK[:4] in talks) == chat


def test_a_template_that_knows_no_system_turn_says_so():
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    prompter = Prompter(make_tokenizer(chat_template=strict + CHATML))
    original, _ = asked_of({"messages": TALK})
    with pytest.raises(InputError, match=r"chat template cannot be rendered.*no system"):
        text_of(prompter, original)


# In a run


RULES = {
    "vary": {"types": ["how_to_do", "i_we"]},
    "train": {"loss": "ce", "specialists": {"H": ["how_to_do"], "I": ["i_we"]}},
}
TOPICS = ("close", "open", "export", "share", "move")


def chats(count=24):
    """Rows of `messages`, without ids, after a system turn."""
    splits = ["train"] * (count - 7) + ["dev"] * 4 + ["test"] * 3
    return [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"How do I {TOPICS[n % 5]} account {n}?"},
                {"role": "assistant", "content": f"Open menu {n}, then save."},
            ],
            "split": split,
        }
        for n, split in enumerate(splits)
    ]


@pytest.fixture
def config(tmp_path, tiny_llama):
    home = tmp_path / "home"
    home.mkdir()
    jsonl(home / "chats.jsonl", chats())
    own = {"qa": str(home / "chats.jsonl"), "passages": None, "variations": None, "limit": None}
    return example_config(home, tiny_llama, data=own, **RULES)


def findings(config, level):
    found = check_file(config, [], seed=None, limit=None, run_folder=None)
    return [f.text for f in found if f.level == level]


def test_check_accepts_chats_without_a_collection_and_says_what_follows(config):
    assert findings(config, "error") == []
    assert any(
        "every question is put to the models as it is" in n for n in findings(config, "note")
    )
    assert require_ready(load_config(config), config.parent / "run")


def test_a_question_among_them_needs_a_collection(config):
    rows = [*chats(), {"id": "q", "query": "Why?", "answer": "So.", "split": "train"}]
    jsonl(config.parent / "chats.jsonl", rows)
    (error,) = findings(config, "error")
    assert "retrieval by `bm25` needs a collection" in error


def test_repeats_are_noted_by_the_check(config):
    jsonl(config.parent / "chats.jsonl", [*chats(), chats()[0]])
    assert findings(config, "error") == []
    assert any("1 rows are exact repeats" in note for note in findings(config, "note"))


def test_a_run_of_chats_goes_through_without_passages(config, tmp_path):
    out = tmp_path / "run"
    done = accord("run", config, "-o", out)
    assert done.returncode == 0, done.stderr
    contexts = read_records(out / "retrieve" / "contexts.jsonl", Grounded)
    assert contexts and not any(g.passages for g in contexts)
    forms = read_records(out / "retrieve" / "contexts.canonical.jsonl", Grounded)
    assert len(forms) < len(contexts) and not any(g.passages for g in forms)
    notes = json.loads((out / "retrieve" / "manifest.json").read_text())["notes"]
    assert len(notes) == 1 and "as it is" in notes[0]
    names = [row["name"] for row in json.loads((out / "table.json").read_text())["rows"]]
    assert names[0] == "B" and "Merged+canonical" in names
    again = accord("run", config, "-o", out)
    assert again.returncode == 0 and "retrieve  kept" in " ".join(again.stderr.split("\n")).replace(
        ": ", "  "
    )


def test_who_asks_single_questions_refuses_conversations(config, tmp_path):
    asked = accord(
        "probe", "http://127.0.0.1:9/v1", "--qa", config.parent / "chats.jsonl",
        "-o", tmp_path / "s.json", "--model", "m",
    )  # fmt: skip
    assert "24 questions have earlier turns (first: `m-" in refusal(asked)


def test_answers_to_chats_are_measured_against_them(tmp_path):
    qa = jsonl(tmp_path / "chats.jsonl", chats())
    found = read_records(qa, Question)
    said = [{"model": "m", "id": q.id, "query": q.query, "answer": q.answer} for q in found]
    said += [row | {"id": f"v{row['id']}", "original_id": row["id"], "type": "t"} for row in said]
    answers = jsonl(tmp_path / "answers.jsonl", said)
    done = accord(
        "evaluate", answers, "--references", qa, "-o", tmp_path / "s.json", "--encoder", "none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["models"]["m"]["rouge_l"] == 1.0
