import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from conftest import make_tokenizer, make_wordings, tiny_model

from accord.config import Prompt
from accord.errors import InputError, RunError
from accord.generate import transformers as backend
from accord.generate.request import Job, Reply, kept, request, unkept
from accord.generate.rows import Row, asks, gold_contexts
from accord.generate.stage import generate
from accord.models.answers import AnswerCache
from accord.models.base import load_model, load_tokenizer
from accord.models.prompt import Prompter
from accord.progress import Progress
from accord.records import Passage, Question
from accord.registry import register

WORDINGS = make_wordings(4, split="test", types=("semantic", "i_we"))
# The wordings of q0 share their passages; one of q1 has others; the rest have their own.
CONTEXTS = {
    w.id: [
        Passage(id=f"p{i}-{name}", text=f"Step {i} of {name} is here. " * (i + n % 4))
        for i in (1, 2)
        for name in (("q0" if w.original_id == "q0" else w.id),)
    ]
    for n, w in enumerate(WORDINGS)
}
for other in ("q0", "q0-semantic", "q0-i_we"):
    CONTEXTS[other] = CONTEXTS["q0"]
CONTEXTS["q1-semantic"] = CONTEXTS["q1"]
REQUESTS = tuple(request(w.id, w.query, CONTEXTS[w.id]) for w in WORDINGS)
NAMES = {r.id: r.name for r in REQUESTS}
NEW = 16


def job(folder, requests=REQUESTS, *, model="B", repeat=0):
    return Job(model, str(folder), f"weights of {folder}", repeat, tuple(requests))


@pytest.fixture
def in_process(monkeypatch):
    """Decode here instead of in workers, whose start costs seconds."""

    def here(batches, how, workers):
        for batch in batches:
            yield batch, backend._decode(batch, how)

    monkeypatch.setattr(backend, "_in_workers", here)
    backend._load.cache_clear()


def ask(folder, requests=REQUESTS, *, prompt=None, new=NEW, cache=None, **options):
    """Replies by the name of a wording."""
    options = {"prompt": prompt or Prompt(), "max_new_tokens": new} | options
    cache = cache or AnswerCache(None)
    replies = backend.transformers([job(folder, requests)], cache=cache, **options)
    return {NAMES[r.id]: r for r in replies}


def plan(jobs, size=5, new=NEW, prompt=None):
    return backend._plan(jobs, prompt or Prompt(), new, "float32", (size, 10**6))[0]


def plain_answers(folder, new=NEW):
    """`model.generate`, greedy, one prompt at a time: no padding, no batches."""
    from transformers import GenerationConfig

    model, prompter = load_model(folder), Prompter(load_tokenizer(folder))
    model.generation_config = GenerationConfig()
    answers = {}
    for one in REQUESTS:
        ids = torch.tensor([prompter.build(one.name, one.query, one.passages, 10**6).ids])
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=new,
            eos_token_id=[0, prompter.end],
            pad_token_id=0,
        )
        text = prompter.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        answers[one.name] = text.strip()
    return answers


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "qwen2", "qwen3"])
@pytest.mark.parametrize("chat", [True, False])
def test_batched_answers_are_those_of_one_prompt_at_a_time(family, chat, make_model, in_process):
    folder = make_model(family, chat, tie_word_embeddings=False)
    wanted = plain_answers(folder)
    assert len(set(wanted.values())) > 6
    for batch_size in (5, 16):
        got = ask(folder, batch_size=batch_size)
        assert {name: reply.answer for name, reply in got.items()} == wanted


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_model_whose_prefixes_cannot_be_shared_answers_the_same(
    family, make_model, in_process, monkeypatch
):
    folder = make_model(family, True, tie_word_embeddings=False)
    shared = ask(folder)
    monkeypatch.setattr("accord.generate.shared_prefix.can_share", lambda model: False)
    backend._load.cache_clear()
    plain = ask(folder)
    assert {n: r.answer for n, r in plain.items()} == {n: r.answer for n, r in shared.items()}
    assert all(r.plain for r in plain.values()) and not any(r.plain for r in shared.values())


def test_the_order_of_the_wordings_does_not_matter(tiny_llama):
    """The very batches are the same, so not a bit of an answer can change."""
    wanted = plan([job(tiny_llama)])
    for seed in range(3):
        shuffled = list(REQUESTS)
        random.Random(seed).shuffle(shuffled)
        assert plan([job(tiny_llama, shuffled)]) == wanted


def test_batches_hold_every_prompt_once_and_wordings_of_like_passages_together(tiny_llama):
    batches = plan([job(tiny_llama, model=name) for name in ("B", "SFT")])
    for name in ("B", "SFT"):
        own = [b for b in batches if b.model == name]
        assert sorted(one.id for b in own for one in b.asked) == sorted(r.id for r in REQUESTS)
        assert all(len(b.asked) <= 5 for b in own)
        groups = [{NAMES[one.id] for one in group} for b in own for group in b.groups]
        assert {"q0", "q0-semantic", "q0-i_we"} in groups and {"q1", "q1-semantic"} in groups
        longest = [max(len(one.ids) for one in group) for b in own for group in b.groups]
        assert longest == sorted(longest, reverse=True)


def test_a_repeat_has_other_company(tiny_llama):
    def company(repeat, size):
        own = plan([job(tiny_llama, repeat=repeat)], size)
        return {frozenset(one.id for one in b.asked) for b in own}

    for size in (5, 128):
        assert len({frozenset(company(repeat, size)) for repeat in range(3)}) == 3
    assert not company(0, 128) & company(1, 128)


def test_what_an_answer_depends_on_is_in_its_key(tiny_llama, make_model):
    """Weights, precision, length, prompt and company; not the name or place of the model."""

    def keys(jobs, dtype="float32", new=NEW, prompt=None, size=5):
        return {
            b.key for b in backend._plan(jobs, prompt or Prompt(), new, dtype, (size, 10**6))[0]
        }

    one = keys([job(tiny_llama)])
    assert keys([job(tiny_llama, model="SFT")]) == one
    assert keys([job(tiny_llama)._replace(weights="others")]).isdisjoint(one)
    assert keys([job(tiny_llama)], dtype="bfloat16").isdisjoint(one)
    assert keys([job(tiny_llama)], new=NEW + 1).isdisjoint(one)
    assert keys([job(tiny_llama)], prompt=Prompt(max_tokens=90)) != one
    assert keys([job(tiny_llama)], size=4) != one
    assert keys([job(tiny_llama, repeat=1)]).isdisjoint(one)


def test_a_batch_holds_no_more_keys_than_it_may(tiny_llama, in_process):
    """A prompt with passages of its own has a trunk of its own, so a number is no bound."""
    from accord.generate.tree import held_tokens, size_of

    def batches(most):
        return backend._plan([job(tiny_llama)], Prompt(), NEW, "float32", (128, most))[0]

    def held(batch):
        return held_tokens([size_of([one.ids for one in g]) for g in batch.groups], NEW)

    (whole,) = batches(10**6)
    most = held(whole) // 3
    several = batches(most)
    assert len(several) >= 3 and all(held(b) <= most for b in several)
    assert sorted(one.id for b in several for one in b.asked) == sorted(r.id for r in REQUESTS)
    small = ask(tiny_llama, batch_tokens=most)
    assert {n: r.answer for n, r in small.items()} == {
        n: r.answer for n, r in ask(tiny_llama).items()
    }


def test_a_batch_is_taken_from_the_cache_as_a_whole_or_decoded_as_a_whole(
    tiny_llama, in_process, tmp_path, monkeypatch
):
    cache = AnswerCache(tmp_path / "cache.jsonl")
    first = ask(tiny_llama, cache=cache, batch_size=5)
    cache.close()
    decoded, inner = [], backend._decode
    monkeypatch.setattr(backend, "_decode", lambda b, how: decoded.append(b) or inner(b, how))
    assert ask(tiny_llama, cache=AnswerCache(cache.path), batch_size=5) == first and not decoded
    batches = plan([job(tiny_llama)])
    held = AnswerCache(cache.path)
    lost = batches[1].answer_key(batches[1].asked[0])
    del held.known[lost]
    assert ask(tiny_llama, cache=held, batch_size=5) == first
    assert decoded == [batches[1]]
    held.close()
    assert lost in AnswerCache(cache.path).known
    lines = cache.path.read_text().splitlines()
    assert len(lines) == len(REQUESTS) + 1  # the others of that batch were not written again


def test_a_models_own_sampling_settings_change_nothing(make_model, tmp_path, in_process):
    from transformers import GenerationConfig

    folder = make_model("llama")
    model = tiny_model("llama")
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    GenerationConfig(
        do_sample=True,
        temperature=9.0,
        top_k=3,
        repetition_penalty=7.5,
        no_repeat_ngram_size=1,
        min_new_tokens=9,
        num_beams=3,
        max_length=3,
        eos_token_id=[5, 6, 7],
        suppress_tokens=list(range(10, 400)),
    ).save_pretrained(tmp_path)
    answers = [{i: r.answer for i, r in ask(f).items()} for f in (folder, tmp_path)]
    assert answers[0] == answers[1]
    assert any(answers[0].values())


def always(token):
    """A GPT-2 that says nothing but `token`."""
    model = tiny_model("gpt2")
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.transformer.wte.weight[token] = 10.0
    return model


@pytest.mark.parametrize("token", ["<|endoftext|>", "<|im_end|>"])
def test_the_end_of_text_and_the_end_of_the_turn_both_end_an_answer(token, tmp_path, in_process):
    always(make_tokenizer().convert_tokens_to_ids(token)).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    replies = ask(tmp_path).values()
    assert {r.answer for r in replies} == {""} and all(r.ended for r in replies)


def test_an_answer_has_at_most_max_new_tokens(tmp_path, in_process):
    always(100).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    word = make_tokenizer().decode([100])
    replies = ask(tmp_path, new=7).values()
    assert {r.answer for r in replies} == {(word * 7).strip()}
    assert not any(r.ended for r in replies)


def test_prompts_are_cut_to_the_window_less_the_answer(make_model, in_process):
    small = make_model("llama", max_position_embeddings=150)
    asked = [one for b in plan([job(small)], new=40) for one in b.asked]
    cut = {NAMES[one.id] for one in asked if one.cut}
    assert max(len(one.ids) for one in asked) <= 110 and 0 < len(cut) < len(asked)
    assert {name for name, r in ask(small, new=40).items() if r.cut} == cut
    narrow = plan([job(small)], new=4, prompt=Prompt(max_tokens=90))
    assert max(len(one.ids) for b in narrow for one in b.asked) <= 90
    with pytest.raises(InputError, match="instruction and question alone"):
        ask(small, new=120)


def gone(pid):
    """Whether a process has ended (a zombie nobody has waited for yet has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pids, seconds=30):
    end = time.monotonic() + seconds
    while not all(map(gone, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return [pid for pid in pids if not gone(pid)]


def workers_of_this_process():
    return [p.pid for p in multiprocessing.active_children()]


def test_two_workers_answer_like_this_process_and_are_gone_afterwards(tiny_llama):
    jobs = [job(tiny_llama, model=name) for name in ("B", "SFT")]
    replies, seen = [], set()
    options = {"prompt": Prompt(), "max_new_tokens": NEW, "cache": AnswerCache(None)}
    for reply in backend.transformers(jobs, batch_size=5, workers=2, **options):
        replies.append(reply)
        seen |= set(workers_of_this_process())
    wanted = plain_answers(tiny_llama)
    for name in ("B", "SFT"):
        assert {NAMES[r.id]: r.answer for r in replies if r.model == name} == wanted
    assert len(seen) == 2 and wait_until_gone(seen) == []


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (1, "; set a smaller generate.batch_size and"),
        pytest.param(2, "set generate.workers below 2 or a smaller", marks=pytest.mark.slow),
    ],
)
def test_a_killed_worker_is_a_run_error_that_says_what_to_do(workers, said, tiny_llama):
    replies = backend.transformers(
        [job(tiny_llama)],
        prompt=Prompt(),
        max_new_tokens=100,
        cache=AnswerCache(None),
        batch_size=1,
        workers=workers,
    )
    next(replies)
    pids = workers_of_this_process()
    assert len(pids) == workers
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(RunError, match=f"a worker process was killed.*{re.escape(said)}"):
        list(replies)
    assert wait_until_gone(pids) == []


@pytest.mark.slow
def test_an_abandoned_generation_leaves_no_workers(tiny_llama):
    replies = backend.transformers(
        [job(tiny_llama)],
        prompt=Prompt(),
        max_new_tokens=100,
        cache=AnswerCache(None),
        batch_size=1,
        workers=1,
    )
    next(replies)
    pids = workers_of_this_process()
    replies.close()
    assert pids and wait_until_gone(pids) == []


PARENT = """
import multiprocessing, sys, threading, time
from accord.config import Prompt
from accord.generate.request import Job, request
from accord.generate.transformers import transformers
from accord.models.answers import AnswerCache

def tell():
    while len(multiprocessing.active_children()) < 1:
        time.sleep(0.01)
    print(*[p.pid for p in multiprocessing.active_children()], flush=True)

if __name__ == "__main__":
    requests = tuple(request(str(i), f"How do I close account {i}?", ()) for i in range(900))
    jobs = [Job("B", sys.argv[1], "w", 0, requests)]
    options = {"prompt": Prompt(), "max_new_tokens": 100, "cache": AnswerCache(None)}
    replies = transformers(jobs, batch_size=2, workers=1, **options)
    if sys.argv[2] == "starting":
        threading.Thread(target=tell, daemon=True).start()
    else:
        next(replies)
        tell()
    list(replies)
"""


@pytest.mark.parametrize("moment", [pytest.param("starting", marks=pytest.mark.slow), "decoding"])
def test_workers_do_not_outlive_a_killed_run(moment, tiny_llama, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tiny_llama), moment],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 1 and not any(map(gone, pids))
    finally:
        parent.kill()
        parent.communicate()
    assert wait_until_gone(pids) == []


class Echo:
    """A backend that repeats the question, and what it was asked beyond the cache."""

    def __init__(self):
        self.asked, self.fail_at, self.lose, self.failing = [], None, None, {}
        self.cut = ()

    def __call__(self, jobs, *, cache, shout=False):
        for job in jobs:
            if job.model == self.fail_at:
                raise KeyboardInterrupt
            for r in reversed(job.requests):
                if (job.model, r.name) != self.lose:
                    yield self.reply(job, r, cache, shout)

    def reply(self, job, r, cache, shout):
        if r.name in self.failing.get(job.model, {}):
            return Reply(job.model, job.repeat, r.id, "", failed=self.failing[job.model][r.name])
        key = f"{job.weights} {job.repeat} {r.id} {shout}"
        if key not in cache.known:
            self.asked.append((job.model, job.repeat, r.name))
            text = f"{job.model}{job.repeat}: {r.query} / {r.passages[0].id}"
            cache.add(key, kept(text.upper() if shout else text, r.name != "q1"))
            cache.known[key] = kept(text.upper() if shout else text, r.name != "q1")
        text, ended = unkept(cache.known[key])
        return Reply(job.model, job.repeat, r.id, text, r.name in self.cut, ended)


@pytest.fixture
def echo():
    made = Echo()

    @register("backends", "echo")
    def ask_echo(jobs, *, prompt, max_new_tokens, cache, shout: bool = False):
        """Say the question again."""
        yield from made(jobs, cache=cache, shout=shout)

    return made


GOLD = {"q2": [Passage(id="gold", text="The very passage.")]}


def run_generate(cache, models=("B", "SFT", "Merged"), modes=("own",), **options):
    asked = tuple(asks(WORDINGS, CONTEXTS, GOLD, modes))
    rows = {name: Row(Path(name), asked) for name in models}
    options = {"backend": "echo", "fingerprint": str} | options
    return generate(rows, cache / "cache.jsonl", **options)


def test_every_model_answers_every_wording_in_order(echo, tmp_path):
    answers, notes = run_generate(tmp_path)
    assert [a.model for a in answers] == ["B"] * 12 + ["SFT"] * 12 + ["Merged"] * 12
    assert [a.id for a in answers] == [w.id for w in WORDINGS] * 3
    for a, w in zip(answers, WORDINGS, strict=False):
        first = CONTEXTS[w.id][0].id
        assert a.answer == f"B0: {w.query} / {first}" and a.query == w.query
        assert a.passages == tuple(p.id for p in CONTEXTS[w.id])
        assert (a.type, a.original_id) == ((w.type, w.original_id) if w.type else (None, None))
        assert (a.contexts, a.repeat) == ("own", 0)
    assert [a.id for a in answers if getattr(a, "truncated", False)] == ["q1"] * 3
    assert notes == ["generation: answers cut at generate.max_new_tokens: B 1, SFT 1, Merged 1"]


def test_fixed_contexts_are_asked_only_where_they_are_others(echo, tmp_path):
    answers, _ = run_generate(tmp_path, ("B",), ("own", "original", "gold"))
    by_kind = {
        kind: {a.id: a for a in answers if a.contexts == kind}
        for kind in ("own", "original", "gold")
    }
    assert set(by_kind["original"]) == {w.id for w in WORDINGS if w.type}
    assert set(by_kind["gold"]) == {w.id for w in WORDINGS if w.original_id == "q2"}
    for a in by_kind["original"].values():
        assert a.passages == tuple(p.id for p in CONTEXTS[a.original_id])
        assert a.answer.endswith(CONTEXTS[a.original_id][0].id)
    assert all(a.passages == ("gold",) for a in by_kind["gold"].values())
    # q0's wordings and one of q1's read the original's passages anyhow: 8 - 3 are new.
    assert len(echo.asked) == 12 + 5 + 3


def test_a_repeat_asks_all_again_and_says_so(echo, tmp_path):
    answers, _ = run_generate(tmp_path, ("B",), repeat=2)
    assert [a.repeat for a in answers] == [0] * 12 + [1] * 12
    assert answers[0].answer.startswith("B0") and answers[12].answer.startswith("B1")
    keys = {(a.model, a.id, a.contexts, a.repeat) for a in answers}
    assert len(keys) == 24


def test_rows_of_one_model_are_asked_together(echo, tmp_path):
    """B+canonical is B, asked other queries; what both ask alike is asked once."""
    own = tuple(asks(WORDINGS, CONTEXTS, {}, ("own",)))
    forms = tuple(a._replace(query="account") if a.wording.id == "q3" else a for a in own)
    rows = {"B": Row(Path("B"), own), "B+canonical": Row(Path("B"), forms)}
    answers, _ = generate(rows, tmp_path / "c", fingerprint=str, backend="echo")
    assert len(echo.asked) == 13 and {model for model, _, _ in echo.asked} == {"B"}
    (last,) = [a for a in answers if a.model == "B+canonical" and a.id == "q3"]
    assert last.asked == "account" and last.query != "account"
    assert [a for a in answers if hasattr(a, "asked")] == [last]


def test_what_is_known_is_not_asked_again(echo, tmp_path):
    first, _ = run_generate(tmp_path)
    count = len(echo.asked)
    assert run_generate(tmp_path)[0] == first and len(echo.asked) == count == 36
    run_generate(tmp_path, options={"shout": True})
    assert len(echo.asked) == 72
    run_generate(tmp_path, fingerprint=lambda folder: f"new {folder}")
    assert len(echo.asked) == 108


def test_after_a_kill_only_what_is_missing_is_asked(echo, tmp_path):
    echo.fail_at = "Merged"
    with pytest.raises(KeyboardInterrupt):
        run_generate(tmp_path)
    echo.fail_at, echo.asked = None, []

    class Count(Progress):
        total = done = 0

        def start(self, total, unit=""):
            self.total = total

        def advance(self, amount=1, note=None):
            self.done += amount

    count = Count()
    answers, _ = run_generate(tmp_path, progress=count)
    assert {model for model, _, _ in echo.asked} == {"Merged"} and len(answers) == 36
    assert count.total == count.done == 36


def test_a_lost_answer_is_an_error_and_is_asked_for_again(echo, tmp_path):
    echo.lose = ("SFT", "q2")
    with pytest.raises(RunError, match=r"SFT gave no answer to `q2` \(1 lost\)"):
        run_generate(tmp_path)
    echo.lose, echo.asked = None, []
    run_generate(tmp_path)
    assert echo.asked == [("SFT", 0, "q2")]


def test_failures_are_counted_and_named_and_only_they_are_asked_again(echo, tmp_path):
    echo.failing = {"SFT": {"q2": "timeout", "q3": "timeout", "q0": "HTML"}}
    answers, notes = run_generate(tmp_path)
    assert len(answers) == 33
    assert {a.id for a in answers if a.model == "SFT"} == {w.id for w in WORDINGS} - {
        "q0",
        "q2",
        "q3",
    }
    (note,) = [note for note in notes if "missing" in note]
    assert note.startswith("generation: SFT: 3 answers are missing (2 timeout, 1 HTML; first: `q")
    echo.failing, echo.asked = {}, []
    assert len(run_generate(tmp_path)[0]) == 36
    assert sorted(echo.asked) == [("SFT", 0, "q0"), ("SFT", 0, "q2"), ("SFT", 0, "q3")]


def test_a_model_that_answers_nothing_is_an_error(echo, tmp_path):
    echo.failing = {"SFT": dict.fromkeys((w.id for w in WORDINGS), "refused")}
    with pytest.raises(RunError, match="SFT gave no answer at all: refused"):
        run_generate(tmp_path)


def test_options_reach_the_backend_and_cut_prompts_are_told_of(echo, tmp_path):
    echo.cut = ("q2", "q3")
    answers, notes = run_generate(tmp_path, options={"shout": True})
    assert answers[0].answer.startswith("B0: HOW DO I CLOSE ACCOUNT 0?")
    assert "generation: passages were cut in 2 prompts to fit the window" in notes


def test_without_wordings_there_are_no_answers(echo, tmp_path):
    rows = {"B": Row(Path("B"), ())}
    assert generate(rows, tmp_path / "c", fingerprint=str, backend="echo") == ([], [])
    assert not echo.asked


def test_gold_contexts_are_the_named_passages_or_the_questions_own_texts():
    passages = [Passage(id="a", text="A"), Passage(id="b", text="B")]
    questions = [
        Question(id="q1", query="?", context_ids=("b", "a")),
        Question(id="q2", query="?", contexts=("text", " ")),
        Question(id="q3", query="?"),
        Question(id="q4", query="?", context_ids=("gone",)),
    ]
    gold = gold_contexts(questions, passages)
    assert {id_: [p.text for p in found] for id_, found in gold.items()} == {
        "q1": ["B", "A"],
        "q2": ["text"],
    }
