"""`accord evaluate` as a whole, files included, beside rouge-score computing ROUGE-L alone.

    python benchmarks/evaluate.py [--pairs 100000] [--variations 1] [--seed 0]

Answers of 40 words; every lexical metric; 1,000 resamples. Whole processes, in CPU seconds, since
other work on the machine stretches wall time. With at most 5,000 pairs also the peak memory at
20,000 resamples, beside that at 1,000.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer

TOKENS = 40
METRICS = ["--accuracy", "rouge_l,bleu,token_f1", "--consistency", "em,rs,containment"]
PROGRAM = "from accord.cli import main; main()"


def texts(source: random.Random) -> Iterator[list[str]]:
    """Endless answers of TOKENS words, frequent words more often (Zipf)."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(source.choices(letters, k=source.randint(2, 9))) for _ in range(8000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    while True:
        stream = source.choices(words, weights, k=TOKENS * 2000)
        yield from (stream[i : i + TOKENS] for i in range(0, len(stream), TOKENS))


def write(folder: Path, pairs: int, variations: int, seed: int) -> list[tuple[str, str]]:
    """qa.jsonl and answers.jsonl of one model; returns the pairs of answers."""
    source = random.Random(seed)
    answers = texts(source)
    found = []

    def blurred(words: list[str]) -> str:
        other = next(answers)
        kept = [w if source.random() < 0.75 else o for w, o in zip(words, other, strict=True)]
        return " ".join(kept).capitalize() + "."

    with (folder / "qa.jsonl").open("w") as qa, (folder / "answers.jsonl").open("w") as said:
        for number in range(pairs // variations):
            words = next(answers)
            query = " ".join(next(answers)[:9])
            id_, text = f"q{number}", " ".join(words)
            qa.write(json.dumps({"id": id_, "query": query, "answer": blurred(words)}) + "\n")
            rows = [(id_, None, None, query, text)]
            for v in range(variations):
                kind = ("how_to_do", "semantic")[v % 2]
                rows.append((f"{id_}.{v}", id_, kind, f"{query} {v}", blurred(words)))
                found.append((text, rows[-1][-1]))
            for own in rows:
                names = ("id", "original_id", "type", "query", "answer")
                said.write(json.dumps({"model": "M", **dict(zip(names, own, strict=True))}) + "\n")
    return found


def ours(folder: Path, resamples: int) -> tuple[float, int]:
    """CPU seconds and peak KiB of one `accord evaluate`."""
    files = [str(folder / name) for name in ("answers.jsonl", "qa.jsonl", "scores.json")]
    command = [sys.executable, "-c", PROGRAM, "evaluate", files[0], "--references", files[1]]
    command += ["-o", files[2], "--encoder", "none", "--resamples", str(resamples), *METRICS, "-q"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("accord evaluate failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def rouge_score(pairs: list[tuple[str, str]], sample: int = 20000) -> float:
    """CPU seconds of rouge-score for all pairs, from a sample of them."""
    scorer = RougeScorer(["rougeL"])
    chosen = pairs[:sample]
    began = time.process_time()
    for a, b in chosen:
        scorer.score(a, b)
    return (time.process_time() - began) * len(pairs) / len(chosen)


def main() -> None:
    """Print the ratio and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--variations", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = write(folder, options.pairs, options.variations, options.seed)
        before = rouge_score(pairs)
        own, memory = ours(folder, 1000)
        theirs = (before + rouge_score(pairs)) / 2
        print(f"{len(pairs):,} pairs of {TOKENS} words, {options.variations} to a question")
        print(f"accord evaluate, all lexical metrics, 1,000 resamples: {own:.1f} s CPU")
        print(f"rouge-score, ROUGE-L alone: {theirs:.1f} s CPU; ratio {own / theirs:.2f}")
        _, more = ours(folder, 20000) if options.pairs <= 5000 else (0.0, 0)
        print(f"peak {memory / 1024:.0f} MiB" + (f", at 20,000: {more / 1024:.0f}" if more else ""))


if __name__ == "__main__":
    main()
