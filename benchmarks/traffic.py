"""How well are rewordings found in a log? Known paraphrases hidden among other queries.

FOLDER holds data sets as folders with qa.jsonl (`id`, `query`) and variations.jsonl (`original_id`,
`query`). The paraphrases of one set, --of, are mixed with the queries of all sets. Half of the
questions, by a hash of their ids, choose the threshold; the other half is reported. A pair of two
queries of the set is right if both are wordings of one question, and a pair with a query of another
set is wrong; pairs inside the other sets have no labels and are only counted. Prints the rows of
docs/results/semantic.md. Run: python benchmarks/traffic.py FOLDER --of selqa
"""

import argparse
import hashlib
import json
import resource
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.models.encoder import Encoder
from accord.models.locate import locate
from accord.vary.meaning import Limits, fold, meaning
from accord.vary.named import spacy_entities
from accord.vary.traffic import THRESHOLD, Group, Logged, groups

THRESHOLDS = (0.7, 0.75, 0.8, 0.825, 0.85, 0.875, 0.9, 0.925, 0.95)
ENCODER = "package:all-minilm-l6-v2"


class Remembered:
    """An encoder that encodes each text once."""

    def __init__(self) -> None:
        self.encoder = Encoder(locate(ENCODER, "encoder"))
        self.known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (N, D)."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known.update(zip(new, self.encoder.encode(new), strict=True) if new else ())
        return np.stack([self.known[text] for text in texts])


def load(folder: Path, of: str) -> tuple[list[tuple[str, str]], list[str]]:
    """(original id, query) of all wordings of the set `of`, and the queries of the other sets."""
    wordings, others = [], []
    for path in sorted(folder.glob("*/qa.jsonl")):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        if path.parent.name != of:
            others += [row["query"] for row in rows]
            continue
        wordings += [(row["id"], row["query"]) for row in rows]
        lines = path.with_name("variations.jsonl").read_text("utf-8").splitlines()
        made = [json.loads(line) for line in lines]
        wordings += [(row["original_id"], row["query"]) for row in made]
    return wordings, others


def half(key: str) -> int:
    """0 or 1 by a hash."""
    return hashlib.sha256(key.encode()).digest()[0] % 2


def score(found: Sequence[Group], owner: dict[str, str], total: int) -> dict[str, Any]:
    """Pairs found that are right and wrong, and their share of all right ones."""
    right = wrong = unlabelled = 0
    for group in found:
        for a, b in combinations([fold(w.query) for w in group.wordings], 2):
            if a not in owner and b not in owner:
                unlabelled += 1
            elif owner.get(a) == owner.get(b):
                right += 1
            else:
                wrong += 1
    precision = right / (right + wrong) if right + wrong else float("nan")
    return {"right": right, "wrong": wrong, "precision": precision,
            "recall": right / total, "unlabelled": unlabelled}  # fmt: skip


def measure(folder: Path, of: str, entities: Any, show: bool) -> None:
    """Print the rows of both halves."""
    wordings, others = load(folder, of)
    encode = Remembered()
    for part, name in ((0, "choosing"), (1, "reported")):
        mine = [(owner, query) for owner, query in wordings if half(owner) == part]
        rest = [query for query in others if half(query) == part]
        owner = {fold(query): name for name, query in mine}
        total = sum(1 for a, b in combinations(owner, 2) if owner[a] == owner[b])
        log = [Logged(query=query) for query in [q for _, q in mine] + rest]
        print(f"\n{name}: {len(log)} queries, {total} pairs to find")
        print("| threshold | right | wrong | precision | recall | unlabelled pairs |")
        print("|---|---|---|---|---|---|")
        for threshold in THRESHOLDS:
            found = groups(log, encode, threshold=threshold, entities=entities)
            row = score(found, owner, total)
            print(
                f"| {threshold} | {row['right']} | {row['wrong']} | {row['precision']:.3f} | "
                f"{row['recall']:.3f} | {row['unlabelled']} |"
            )
            if show and threshold == THRESHOLD:
                listing(found, owner)


def listing(found: Sequence[Group], owner: dict[str, str]) -> None:
    """Print every pair that is not right, for reading."""
    for group in found:
        for a, b in combinations([w.query for w in group.wordings], 2):
            one, other = owner.get(fold(a)), owner.get(fold(b))
            if one is None or one != other:
                kind = "unlabelled" if one is None and other is None else "wrong"
                print(kind, "|", " ".join(a.split())[:300], "|", " ".join(b.split())[:300])


def ceiling(folder: Path, of: str, entities: Any) -> None:
    """Print how many of the known paraphrases pass the guard, and their similarities."""
    wordings, _ = load(folder, of)
    encode, by_owner = Remembered(), dict[str, list[str]]()
    for owner, query in wordings:
        by_owner.setdefault(owner, []).append(query)
    pairs = [pair for own in by_owner.values() for pair in combinations(own, 2)]
    no_limit = Limits(-1, 2, 1e9)
    passed = [p for p in pairs if meaning(*p, limits=no_limit, entities=entities) is None]
    print(f"{len(passed)} of {len(pairs)} known paraphrases pass the guard")
    near = np.array([float(encode([a])[0] @ encode([b])[0]) for a, b in passed])
    shown = {q: round(float(np.quantile(near, q)), 3) for q in (0.05, 0.1, 0.25, 0.5, 0.9)}
    print(f"quantiles of their similarity: {shown}")


def speed(count: int) -> None:
    """Print time and memory of a log of made-up vectors: a tenth near another one."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((count, 384), dtype=np.float32)
    vectors[: count // 10] = vectors[count // 10 : 2 * (count // 10)]
    vectors += 0.02 * random.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = [f"steps to open door w{n + count // 10}x" for n in range(count // 10)]
    texts += [f"how do i open door w{n}x" for n in range(count // 10, count)]
    place = {text: n for n, text in enumerate(texts)}
    log = [Logged(query=text) for text in texts]
    began = time.perf_counter()
    found = groups(log, lambda texts: vectors[[place[text] for text in texts]])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{count} queries: {time.perf_counter() - began:.0f} s, {peak} MiB, {len(found)} groups")


def main() -> None:
    """Read the arguments and print what they ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--of", default="selqa", help="the set whose paraphrases are looked for")
    parser.add_argument("--entities", action="store_true", help="spaCy's entities too")
    parser.add_argument("--show", action="store_true", help="list the pairs that are not right")
    parser.add_argument("--speed", type=int, metavar="N", help="time N made-up queries instead")
    given = parser.parse_args()
    if given.speed:
        speed(given.speed)
        return
    entities = spacy_entities() if given.entities else None
    ceiling(given.folder, given.of, entities)
    measure(given.folder, given.of, entities, given.show)


if __name__ == "__main__":
    main()
