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
from accord.generate.request import Job, Reply, Request
from accord.generate.stage import generate
from accord.models.base import load_model, load_tokenizer
from accord.models.prompt import Prompter
from accord.progress import Progress
from accord.records import Passage
from accord.registry import register

WORDINGS = make_wordings(4, split="test", types=("semantic", "i_we"))
CONTEXTS = {
    w.id: [Passage(id=f"p{i}", text=f"Step {i} of {w.id} is here. " * (i + n % 4)) for i in (1, 2)]
    for n, w in enumerate(WORDINGS)
}
REQUESTS = tuple(Request(w.id, w.query, tuple(CONTEXTS[w.id])) for w in WORDINGS)
NEW = 16


@pytest.fixture
def in_process(monkeypatch):
    """Decode here instead of in workers, whose start costs seconds."""

    def here(batches, how, workers):
        for batch in batches:
            yield from backend._decode(batch, how)

    monkeypatch.setattr(backend, "_in_workers", here)
    backend._load.cache_clear()


def ask(folder, requests=REQUESTS, *, prompt=None, new=NEW, **options):
    jobs = [Job("B", str(folder), tuple(requests))]
    replies = backend.transformers(jobs, prompt=prompt or Prompt(), max_new_tokens=new, **options)
    return {r.id: r for r in replies}


def plain_answers(folder, new=NEW):
    """`model.generate`, greedy, one prompt at a time: no padding, no batches."""
    from transformers import GenerationConfig

    model, prompter = load_model(folder), Prompter(load_tokenizer(folder))
    model.generation_config = GenerationConfig()
    answers = {}
    for request in REQUESTS:
        ids = torch.tensor([prompter.build(request.id, request.query, request.passages, 10**6).ids])
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=new,
            eos_token_id=[0, prompter.end],
            pad_token_id=0,
        )
        text = prompter.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        answers[request.id] = text.strip()
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


def test_the_order_of_the_wordings_does_not_matter(tiny_llama):
    """The very batches are the same, so not a bit of an answer can change."""
    jobs = [Job("B", str(tiny_llama), REQUESTS)]
    plan = backend._plan(jobs, Prompt(), NEW, 5)
    for seed in range(3):
        shuffled = list(REQUESTS)
        random.Random(seed).shuffle(shuffled)
        assert backend._plan([Job("B", str(tiny_llama), tuple(shuffled))], Prompt(), NEW, 5) == plan


def test_batches_hold_prompts_of_like_length_and_every_prompt_once(tiny_llama):
    jobs = [Job(name, str(tiny_llama), REQUESTS) for name in ("B", "SFT")]
    batches, end = backend._plan(jobs, Prompt(), NEW, 5)
    assert [b.model for b in batches] == ["B"] * 3 + ["SFT"] * 3
    assert end == make_tokenizer().convert_tokens_to_ids("<|im_end|>")
    for name in ("B", "SFT"):
        own = [b for b in batches if b.model == name]
        assert sorted(i for b in own for i in b.ids) == sorted(w.id for w in WORDINGS)
        lengths = [len(p) for b in own for p in sorted(b.prompts, key=len, reverse=True)]
        assert lengths == sorted(lengths, reverse=True)


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
    model, _ = backend._load(str(tmp_path), "float32")
    lengths, inner = [], model.generate

    def measured(**given):
        output = inner(**given)
        lengths.append(output.shape[1] - given["input_ids"].shape[1])
        return output

    model.generate = measured
    assert {r.answer for r in ask(tmp_path).values()} == {""}
    assert lengths == [1]


def test_an_answer_has_at_most_max_new_tokens(tmp_path, in_process):
    always(100).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    word = make_tokenizer().decode([100])
    assert {r.answer for r in ask(tmp_path, new=7).values()} == {(word * 7).strip()}


def test_prompts_are_cut_to_the_window_less_the_answer(make_model, in_process):
    small = make_model("llama", max_position_embeddings=150)
    batches, _ = backend._plan([Job("B", str(small), REQUESTS)], Prompt(), 40, 16)
    (batch,) = batches
    assert max(map(len, batch.prompts)) <= 110 and any(batch.cut) and not all(batch.cut)
    replies = ask(small, new=40)
    assert {i for i, r in replies.items() if r.cut} == {
        i for i, cut in zip(batch.ids, batch.cut, strict=True) if cut
    }
    (narrow,), _ = backend._plan([Job("B", str(small), REQUESTS)], Prompt(max_tokens=90), 4, 16)
    assert max(map(len, narrow.prompts)) <= 90
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
    jobs = [Job(name, str(tiny_llama), REQUESTS) for name in ("B", "SFT")]
    replies, seen = [], set()
    for reply in backend.transformers(
        jobs, prompt=Prompt(), max_new_tokens=NEW, batch_size=5, workers=2
    ):
        replies.append(reply)
        seen |= set(workers_of_this_process())
    assert [r.model for r in replies] == ["B"] * 12 + ["SFT"] * 12
    wanted = plain_answers(tiny_llama)
    for name in ("B", "SFT"):
        assert {r.id: r.answer for r in replies if r.model == name} == wanted
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
        [Job("B", str(tiny_llama), REQUESTS)],
        prompt=Prompt(),
        max_new_tokens=100,
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
        [Job("B", str(tiny_llama), REQUESTS)],
        prompt=Prompt(),
        max_new_tokens=100,
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
from accord.generate.request import Job, Request
from accord.generate.transformers import transformers

def tell():
    while len(multiprocessing.active_children()) < 1:
        time.sleep(0.01)
    print(*[p.pid for p in multiprocessing.active_children()], flush=True)

if __name__ == "__main__":
    requests = tuple(Request(str(i), f"How do I close account {i}?", ()) for i in range(900))
    jobs = [Job("B", sys.argv[1], requests)]
    replies = transformers(jobs, prompt=Prompt(), max_new_tokens=100, batch_size=2, workers=1)
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
    """A backend that repeats the question, and how often it was called."""

    def __init__(self):
        self.asked, self.fail_at, self.lose = [], None, None
        self.cut = ()

    def __call__(self, jobs, *, prompt, max_new_tokens, shout=False):
        for job in jobs:
            self.asked.append(job.model)
            if job.model == self.fail_at:
                raise KeyboardInterrupt
            for r in reversed(job.requests):
                if (job.model, r.id) != self.lose:
                    text = f"{job.model}: {r.query}"
                    yield Reply(job.model, r.id, text.upper() if shout else text, r.id in self.cut)


@pytest.fixture
def echo():
    made = Echo()

    @register("backends", "echo")
    def ask_echo(jobs, *, prompt, max_new_tokens, shout: bool = False):
        """Say the question again."""
        yield from made(jobs, prompt=prompt, max_new_tokens=max_new_tokens, shout=shout)

    return made


def run_generate(out, models=("B", "SFT", "Merged"), **options):
    folders = {name: Path(name) for name in models}
    return generate(folders, WORDINGS, CONTEXTS, out, backend="echo", **({"key": "k"} | options))


def test_every_model_answers_every_wording_in_order(echo, tmp_path):
    answers, notes = run_generate(tmp_path)
    assert [a.model for a in answers] == ["B"] * 12 + ["SFT"] * 12 + ["Merged"] * 12
    assert [a.id for a in answers] == [w.id for w in WORDINGS] * 3 and not notes
    for a, w in zip(answers, WORDINGS, strict=False):
        assert a.answer == f"B: {w.query}" and a.query == w.query
        assert a.passages == ("p1", "p2")
        assert (a.type, a.original_id) == ((w.type, w.original_id) if w.type else (None, None))


def test_a_second_call_under_the_same_key_asks_nobody(echo, tmp_path):
    first, _ = run_generate(tmp_path)
    again, _ = run_generate(tmp_path)
    assert echo.asked == ["B", "SFT", "Merged"] and first == again
    run_generate(tmp_path, key="other")
    assert echo.asked == ["B", "SFT", "Merged"] * 2


def test_after_a_kill_only_the_unfinished_models_are_asked(echo, tmp_path):
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
    assert echo.asked == ["Merged"] and len(answers) == 36
    assert count.total == count.done == 36


def test_a_lost_answer_is_an_error_and_its_models_are_asked_again(echo, tmp_path):
    echo.lose = ("SFT", "q2")
    with pytest.raises(RunError, match=r"SFT gave no answer to `q2` \(1 lost\)"):
        run_generate(tmp_path)
    echo.lose = None
    run_generate(tmp_path)
    assert echo.asked == ["B", "SFT", "Merged", "SFT"]


def test_options_reach_the_backend_and_cut_prompts_are_told_of(echo, tmp_path):
    echo.cut = ("q1", "q3")
    answers, notes = run_generate(tmp_path, options={"shout": True})
    assert answers[0].answer == "B: HOW DO I CLOSE ACCOUNT 0?"
    assert notes == ["generation: passages were cut in 2 prompts to fit the window"]


def test_without_wordings_there_are_no_answers(echo, tmp_path):
    assert generate({"B": Path("B")}, [], {}, tmp_path, backend="echo") == ([], [])
    assert not echo.asked
