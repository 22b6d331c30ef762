"""The backend vllm, against a stand-in for vLLM that decodes by transformers.

The stand-in has the parts of vLLM 0.32 that are used, and takes no argument that is not one there.
"""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import make_wordings
from serving import wait_until

from accord.config import Prompt
from accord.errors import InputError, RunError
from accord.generate import transformers as local
from accord.generate.preflight import preflight
from accord.generate.request import Job, request
from accord.generate.vllm import vllm
from accord.models.answers import AnswerCache
from accord.records import Passage

HERE = Path(__file__).parent
WORDINGS = make_wordings(4, split="test", types=("semantic", "i_we"))
REQUESTS = tuple(
    request(
        w.id,
        w.query,
        [Passage(id=f"p{i}", text=f"Step {i} of {w.original_id}. " * (i + 2)) for i in (1, 2)],
    )
    for w in WORDINGS
)
NEW = 12
STAND_IN = """
import json, os, time
from pathlib import Path
from types import SimpleNamespace

FOLDER = Path(__file__).parents[1]
if (FOLDER / "pid").exists():
    (FOLDER / "pid").write_text(str(os.getpid()))


def note(**what):
    with (FOLDER / "notes.jsonl").open("a") as file:
        file.write(json.dumps(what) + "\\n")


class SamplingParams:
    def __init__(self, *, temperature=1.0, max_tokens=16, stop_token_ids=None, detokenize=True):
        assert temperature == 0
        self.max_tokens, self.stop_token_ids = max_tokens, stop_token_ids


class LLM:
    def __init__(self, model, *, tensor_parallel_size=1, dtype="auto", seed=0,
                 gpu_memory_utilization=0.92, enforce_eager=False, generation_config="auto",
                 max_model_len=None, enable_prefix_caching=None):
        import torch
        from transformers import AutoModelForCausalLM

        print("loading", model)
        note(**{k: v for k, v in locals().items() if isinstance(v, (str, int, float))},
             multiprocessing=os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"])
        if (FOLDER / "no-memory").exists():
            raise ValueError("No available memory for the cache blocks.")
        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        self.longest, self.fresh, self.calls = max_model_len, True, 0

    def reset_prefix_cache(self, reset_running_requests=False, reset_connector=False):
        self.fresh = True
        return True

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True):
        import torch
        from transformers import GenerationConfig

        assert self.fresh and not use_tqdm
        self.fresh = False
        note(asked=[prompt["prompt_token_ids"] for prompt in prompts])
        self.calls += 1
        if (FOLDER / "hang").exists() and self.calls == 3:
            time.sleep(600)
        said = []
        for prompt in prompts:
            ids = prompt["prompt_token_ids"]
            assert len(ids) + sampling_params.max_tokens <= self.longest
            config = GenerationConfig(do_sample=False, max_new_tokens=sampling_params.max_tokens,
                                      eos_token_id=sampling_params.stop_token_ids, pad_token_id=0)
            with torch.inference_mode():
                found = self.model.generate(input_ids=torch.tensor([ids]),
                                            attention_mask=torch.ones(1, len(ids)),
                                            generation_config=config)[0, len(ids):].tolist()
            said.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(found))]))
        return said
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The folder of the stand-in; what it was called with is in its notes.jsonl."""
    folder = tmp_path / "site"
    (folder / "vllm").mkdir(parents=True)
    (folder / "vllm" / "__init__.py").write_text(STAND_IN)
    info = folder / "vllm-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 9.9\n")
    (info / "top_level.txt").write_text("vllm\n")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def notes(stand_in):
    lines = (stand_in / "notes.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [n for n in found if "model" in n], [n["asked"] for n in found if "asked" in n]


def job(folder, requests=REQUESTS, *, model="B", repeat=0):
    return Job(model, str(folder), model, repeat, tuple(requests))


def ask(jobs, path=None, *, backend=vllm, prompt=None, **options):
    cache = AnswerCache(path)
    given = {"prompt": prompt or Prompt(), "max_new_tokens": NEW, "cache": cache, **options}
    try:
        return {(r.model, r.repeat, r.id): r for r in backend(jobs, dtype="float32", **given)}
    finally:
        cache.close()


def locally(jobs, monkeypatch, **options):
    monkeypatch.setattr(
        local, "_in_workers", lambda todo, how, _: ((b, local._decode(b, how)) for b in todo)
    )
    local._load.cache_clear()
    return ask(jobs, backend=local.transformers, **options)


def test_the_answers_are_those_of_transformers_and_each_row_is_loaded_once(
    make_model, stand_in, tmp_path, monkeypatch
):
    folders = {"B": make_model("llama"), "SFT": make_model("llama", seed=5)}
    jobs = [job(folder, model=name, repeat=n) for name, folder in folders.items() for n in range(2)]
    wanted = locally(jobs, monkeypatch, prompt=Prompt(max_tokens=90))
    path = tmp_path / "run" / "cache.jsonl"
    options = {"prompt": Prompt(max_tokens=90), "chunk_size": 5, "engine": {"enforce_eager": True}}
    got = ask(jobs, path, **options)
    assert got == {key: reply._replace(plain=False) for key, reply in wanted.items()}
    assert len({r.answer for r in got.values()}) > 6
    assert any(r.cut for r in got.values()) and any(not r.ended for r in got.values())
    loaded, asked = notes(stand_in)
    assert [one["model"] for one in loaded] == [str(folder) for folder in folders.values()]
    assert all(one["enforce_eager"] and one["enable_prefix_caching"] for one in loaded)
    assert {one["generation_config"] for one in loaded} == {"vllm"}
    assert {one["multiprocessing"] for one in loaded} == {"0"}
    assert all(len(chunk) <= 5 for chunk in asked)
    # The longest prompt and its answer just fit: no memory is set aside for longer ones.
    longest = max(len(ids) for chunk in asked for ids in chunk)
    assert {one["max_model_len"] for one in loaded} == {longest + NEW}
    assert "loading" in (tmp_path / "run" / "logs" / "SFT.vllm.log").read_text()
    assert ask(jobs, path, **options) == got
    assert len(notes(stand_in)[0]) == 2  # all was known: nothing was loaded again
    ask(jobs[:1], path, prompt=Prompt(max_tokens=90), chunk_size=5)
    assert len(notes(stand_in)[0]) == 3  # other arguments of the engine, other answers


def test_a_kill_ends_the_engine_and_a_resume_decodes_only_what_is_missing(
    tiny_llama, stand_in, tmp_path
):
    path = tmp_path / "cache.jsonl"
    (stand_in / "hang").touch()  # in the third of four chunks
    (stand_in / "pid").touch()
    program = textwrap.dedent(f"""
        import sys; sys.path[:0] = [{str(stand_in)!r}, {str(HERE)!r}]
        import pathlib
        from test_generate_vllm import ask, job
        if __name__ == "__main__":
            ask([job({str(tiny_llama)!r})], pathlib.Path({str(path)!r}), chunk_size=5)
    """)
    script = tmp_path / "main.py"
    script.write_text(program)
    child = subprocess.Popen([sys.executable, str(script)])
    made = stand_in / "notes.jsonl"
    wait_until(lambda: child.poll() is not None or (made.exists() and len(notes(stand_in)[1]) == 3))
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    engine = int((stand_in / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{engine}").exists())
    (stand_in / "hang").unlink()
    got = ask([job(tiny_llama)], path, chunk_size=5)
    _, asked = notes(stand_in)
    assert len(asked) == 5 and asked[3] == asked[2]
    prompts = [ids for n, chunk in enumerate(asked) if n != 2 for ids in chunk]
    assert len(prompts) == len({tuple(ids) for ids in prompts}) == len(REQUESTS)
    assert got == ask([job(tiny_llama)], chunk_size=5)


def test_an_engine_that_cannot_load_is_told_with_its_last_words(tiny_llama, stand_in, tmp_path):
    (stand_in / "no-memory").touch()
    with pytest.raises(RunError, match=r"`B` was loaded.*exit code 1.*No available memory"):
        ask([job(tiny_llama)], tmp_path / "cache.jsonl")


def test_an_interrupt_ends_the_engine(tiny_llama, stand_in, tmp_path):
    (stand_in / "pid").touch()
    replies = vllm(
        [job(tiny_llama)],
        prompt=Prompt(),
        max_new_tokens=NEW,
        cache=AnswerCache(None),
        dtype="float32",
        chunk_size=5,
    )
    next(replies)
    engine = int((stand_in / "pid").read_text())
    assert Path(f"/proc/{engine}").exists()
    replies.close()
    assert not Path(f"/proc/{engine}").exists()


def test_without_vllm_the_extra_is_named(tiny_llama, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "accord\[vllm\]"'):
        ask([job(tiny_llama)])
    with pytest.raises(InputError, match="backend: openai and serve"):
        list(preflight("vllm", {}, ["B"]))


def test_the_check_knows_what_is_not_an_argument_of_the_engine(stand_in):
    with pytest.raises(InputError, match=r"generate\.engine: `dtype` is an option"):
        list(preflight("vllm", {"engine": {"dtype": "float16"}}, ["B"]))
    assert list(preflight("vllm", {}, ["B"])) == [("ok", "vllm is installed")]
    assert "vllm" not in sys.modules
