"""Answers per second with shared prefixes, against transformers' own `generate`.

    python benchmarks/generate.py [--contexts 250] [--new 40] [--dtype float32] [--seed 0]

The work: four wordings of a question over three passages of the help-centre example, drawn at
random, so that each context is new. Both sides decode greedily in the same worker processes of one
thread each, in turn, block by block, so that a noisy machine slows both. The plain side sorts its
prompts by length and takes the best of the batch sizes 8, 16 and 32, found on the first block.

Prints tokens per second of both (wall clock of all workers, and CPU seconds), their ratio with its
range over blocks, how many answers are identical, and for each that is not, in float32, the gap of
the two highest logits where it parts from the other: below 1e-3 it is rounding.
"""

import argparse
import os

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import random
import statistics
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor as Pool
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from accord.generate.plain import Said
from accord.generate.transformers import usable_cores
from accord.generate.tree import Group, Prompt
from accord.records import Passage, Question, Variation, read_records

HELPDESK = Path(__file__).parents[1] / "examples" / "helpdesk"
FRAMES = ("How can I do this: {}", "Please tell me. {}", "I would like to know: {}")
SIZES = (8, 16, 32)
BLOCK = 64  # contexts; 256 prompts, two batches of the default size
Done = tuple[list[Said], float]  # answers, CPU seconds
Block = tuple[list[Said], float, float]  # answers, wall seconds, CPU seconds
_held: dict[str, Any] = {}


def load(name: str, dtype: str) -> None:
    """In each worker: the model, once."""
    import torch

    from accord.models.base import load_model, load_tokenizer
    from accord.models.locate import locate
    from accord.models.prompt import Prompter

    torch.set_num_threads(1)
    folder = locate(name, "--model")
    tokenizer = load_tokenizer(folder)
    end = Prompter(tokenizer).end
    model = load_model(folder, dtype).eval()
    _held.update(model=model, ends=frozenset({end, tokenizer.eos_token_id} - {None}))
    _held.update(pad=tokenizer.pad_token_id)


def make(contexts: int, seed: int, name: str) -> list[Group]:
    """Prompts (token ids) of `contexts` groups of four wordings."""
    from accord.models.base import load_tokenizer
    from accord.models.locate import locate
    from accord.models.prompt import Prompter

    prompter = Prompter(load_tokenizer(locate(name, "--model")))
    passages = read_records(HELPDESK / "passages.jsonl", Passage)
    reworded: dict[str, list[str]] = {}
    for v in read_records(HELPDESK / "paraphrases.jsonl", Variation):
        reworded.setdefault(v.original_id, []).append(v.query)
    questions = read_records(HELPDESK / "qa.jsonl", Question)
    draw = random.Random(seed)
    groups = []
    for n in range(contexts):
        q = questions[n % len(questions)]
        wordings = [q.query, *reworded.get(q.id, ()), *(f.format(q.query) for f in FRAMES)][:4]
        found = draw.sample(passages, 3)
        groups.append([prompter.build(q.id, w, found, 8000).ids for w in wordings])
    return groups


def shared(groups: Sequence[Group], new: int) -> Done:
    """(answers, CPU seconds) of a batch of groups."""
    from accord.generate.shared_prefix import decode

    began = time.process_time()
    said = decode(_held["model"], groups, max_new_tokens=new, ends=_held["ends"])
    return said, time.process_time() - began


def plain(prompts: Group, new: int, size: int) -> Done:
    """(answers, CPU seconds) of prompts by transformers, `size` at a time."""
    from accord.generate import plain as module

    module.BATCH = size
    began = time.process_time()
    said = module.decode(_held["model"], prompts, new, ends=_held["ends"], pad=_held["pad"])
    return said, time.process_time() - began


def gap(prompt: Prompt, common: Prompt) -> float:
    """The gap of the two highest logits after the tokens that both answers share."""
    import torch

    ids = torch.tensor([[*prompt, *common]])
    with torch.inference_mode():
        best = _held["model"](input_ids=ids).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


def tokens(said: Iterable[Said]) -> int:
    """Tokens that were decoded for answers, their ends included."""
    return sum(len(one.tokens) + one.ended for one in said)


def run_shared(pool: Pool, groups: Sequence[Group], new: int, workers: int) -> Block:
    """(answers in order, wall seconds, CPU seconds) of a block."""
    order = sorted(range(len(groups)), key=lambda i: -len(groups[i][0]))
    size = -(-len(groups) // max(workers, -(-len(groups) // 32)))
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    began = time.monotonic()
    done = list(pool.map(shared, [[groups[i] for i in part] for part in parts], [new] * len(parts)))
    wall = time.monotonic() - began
    said = {}
    for part, (answers, _) in zip(parts, done, strict=True):
        each = iter(answers)
        said |= {i: [next(each) for _ in groups[i]] for i in part}
    return list(chain.from_iterable(said[i] for i in range(len(groups)))), wall, cpu(done)


def run_plain(pool: Pool, groups: Sequence[Group], new: int, size: int) -> Block:
    """The same, by transformers; a batch of prompts of like length for each call."""
    prompts = list(chain.from_iterable(groups))
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    calls = [[prompts[i] for i in part] for part in parts]
    began = time.monotonic()
    done = list(pool.map(plain, calls, [new] * len(parts), [size] * len(parts)))
    wall = time.monotonic() - began
    places = chain.from_iterable(parts)
    answers = dict(zip(places, chain.from_iterable(a for a, _ in done), strict=True))
    return [answers[i] for i in range(len(prompts))], wall, cpu(done)


def cpu(done: Iterable[Done]) -> float:
    """CPU seconds of a block."""
    return sum(seconds for _, seconds in done)


def compare(
    pool: Pool, ours: Sequence[Said], theirs: Sequence[Said], prompts: Group
) -> tuple[int, list[float]]:
    """How many answers are identical, and the gaps where the others part."""
    apart = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    common = [shared_start(ours[i].tokens, theirs[i].tokens) for i in apart]
    gaps = list(pool.map(gap, [prompts[i] for i in apart], common))
    return len(ours) - len(apart), gaps


def shared_start(a: Prompt, b: Prompt) -> Prompt:
    """The tokens that both begin with."""
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:n]


def measure(name: str, dtype: str, groups: Sequence[Group], new: int, workers: int) -> None:
    """Print everything for one precision."""
    pool = Pool(workers, mp_context=get_context("spawn"), initializer=load, initargs=(name, dtype))
    with pool:
        list(pool.map(gap, [groups[0][0]] * workers, [[]] * workers))  # loaded and warm
        first = groups[: BLOCK // 2]
        tried = {size: run_plain(pool, first, new, size) for size in SIZES}
        best = min(SIZES, key=lambda size: tried[size][1])
        shown = ", ".join(f"{s}: {tokens(t[0]) / t[1]:.0f}" for s, t in tried.items())
        print(f"{dtype}: plain by batch size, tokens/s: {shown}; best {best}", flush=True)
        sides: dict[str, list[Block]] = {"plain": [], "shared": []}
        for start in range(0, len(groups), BLOCK):
            block = groups[start : start + BLOCK]
            sides["shared"].append(run_shared(pool, block, new, workers))
            sides["plain"].append(run_plain(pool, block, new, best))
        report(pool, dtype, sides, list(chain.from_iterable(groups)))


def report(pool: Pool, dtype: str, sides: dict[str, list[Block]], prompts: Group) -> None:
    """The figures of one precision."""
    said = {side: list(chain.from_iterable(b[0] for b in blocks)) for side, blocks in sides.items()}
    for side, blocks in sides.items():
        wall, used = (sum(block[i] for block in blocks) for i in (1, 2))
        count = tokens(said[side])
        print(f"  {side:<7}{count} tokens, {count / wall:.1f} a second, {count / used:.1f} a CPU-s")
    ratios = {
        unit: [
            (tokens(a[0]) / a[i]) / (tokens(b[0]) / b[i])
            for a, b in zip(sides["shared"], sides["plain"], strict=True)
        ]
        for i, unit in ((1, "wall"), (2, "CPU"))
    }
    for unit, found in ratios.items():
        low, high = min(found), max(found)
        print(f"  ratio by {unit}: {statistics.median(found):.2f} ({low:.2f} to {high:.2f})")
    same, gaps = compare(pool, said["shared"], said["plain"], prompts)
    print(f"  identical answers: {same} of {len(prompts)} ({same / len(prompts):.2%})")
    if gaps and dtype == "float32":
        print(f"  gaps of the two highest logits where the others part: {max(gaps):.1e} at most")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="package:smollm2-135m-instruct")
    parser.add_argument("--contexts", type=int, default=250)
    parser.add_argument("--new", type=int, default=40)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    groups = make(given.contexts, given.seed, given.model)
    lengths = [len(p) for group in groups for p in group]
    print(
        f"{len(lengths)} prompts of {statistics.mean(lengths):.0f} tokens, {given.new} new ones, "
        f"{given.workers} workers, seed {given.seed}",
        flush=True,
    )
    for dtype in given.dtype:
        measure(given.model, dtype, groups, given.new, given.workers)


if __name__ == "__main__":
    main()
