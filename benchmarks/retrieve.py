"""How steady are the retrievers, and what do canonical queries change?

    python benchmarks/retrieve.py DATA [--k 3] [--seed 0] [--resamples 2000] [--encoder NAME]
    python benchmarks/retrieve.py --speed

DATA holds one folder a set, each with qa.jsonl (with `context_ids`), passages.jsonl and perhaps
variations.jsonl; variations by rule are made with the seed. Every wording is searched for by bm25,
dense and hybrid, as it is and in its canonical form. `--speed` times exact search in made-up
vectors.
"""

import argparse
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from accord.canonical_rows import canonical_form
from accord.data import wordings
from accord.evaluate.statistics import Estimates, Floats, bootstrap
from accord.grounding import by_word
from accord.models.encoder import Encoder
from accord.models.locate import locate
from accord.records import Passage, Question, Variation, Wording, read_records
from accord.retrieve.asking import Encode
from accord.retrieve.consistency import Steadiness, consistency, gold_passages
from accord.retrieve.dense import nearest
from accord.retrieve.stage import retrieve
from accord.retrieve.vectors import Vectors
from accord.vary.stage import vary

RULES = ("how_to_do", "i_we", "singular_plural_article", "question_frame")
SYSTEMS = (
    ("bm25", "own", False),
    ("bm25", "canonical", False),
    ("bm25", "canonical", True),
    ("dense", "own", False),
    ("dense", "canonical", False),
    ("hybrid", "own", False),
    ("hybrid", "canonical", False),
    ("hybrid", "canonical", True),
)
METRICS = ("jaccard", "rbo", "same_first", "gold", "gold_original", "kept")


class System(NamedTuple):
    """A retriever, the query it is asked, and whether words of passages are reduced alike."""

    retriever: str
    query: str
    reduced: bool

    def __str__(self) -> str:
        passages = "reduced" if self.reduced else "as they are"
        lexical = self.query == "canonical" and self.retriever != "dense"
        return f"{self.retriever}, {self.query}" + (f", passages {passages}" if lexical else "")


class Found(NamedTuple):
    """What a system found: whether each original got a gold passage, and each rewording's line."""

    hits: dict[str, bool]
    rows: list[Steadiness]


def read_set(folder: Path, seed: int) -> tuple[list[Question], list[Passage], list[Wording]]:
    """Questions with gold passages, passages, and all wordings: frozen ones and by rule."""
    questions = [
        q.model_copy(update={"split": "test"})
        for q in read_records(folder / "qa.jsonl", Question)
        if q.context_ids
    ]
    file = folder / "variations.jsonl"
    known = {q.id for q in questions}
    frozen = (
        [v for v in read_records(file, Variation) if v.original_id in known]
        if file.exists()
        else []
    )
    made, _ = vary(questions, [(name, {}) for name in RULES], frozen=frozen, seed=seed)
    passages = read_records(folder / "passages.jsonl", Passage)
    return questions, passages, wordings(questions, made, seed)


def measure(
    system: System,
    questions: Sequence[Question],
    passages: Sequence[Passage],
    asked: Sequence[Wording],
    encode: Encode,
    k: int,
) -> Found:
    """Search for everything with one system."""
    grounded = retrieve(
        canonical_form(asked) if system.query == "canonical" else asked,
        passages,
        retriever=system.retriever,
        k=k,
        encode=encode,
        level=by_word if system.reduced else None,
    )
    gold = gold_passages(questions, passages)
    ids = {g.id: {r.id for r in g.passages} for g in grounded}
    rows = consistency(grounded, {w.id: w.type for w in asked if w.type}, gold)
    return Found({q.id: bool(ids[q.id] & gold[q.id]) for q in questions}, rows)


def sums(rows: Sequence[Steadiness], questions: Sequence[str]) -> Floats:
    """Sums and counts of each metric by question, (questions, 2 * len(METRICS))."""
    place = {id_: n for n, id_ in enumerate(questions)}
    found = np.zeros((len(questions), 2 * len(METRICS)))
    for row in rows:
        kept = row.gold if row.gold_original else None
        values = [row.jaccard, row.rbo, row.same_first, row.gold, row.gold_original, kept]
        for column, value in enumerate(values):
            if value is not None:
                found[place[row.original_id], 2 * column : 2 * column + 2] += (value, 1)
    return found


def means(sums: Floats) -> Floats:
    """(..., 2 m) sums and counts to (..., m) means."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., ::2] / sums[..., 1::2]


def shown(estimates: Estimates, index: int, sign: bool = False) -> str:
    """A mean with its interval."""
    value, ends = estimates.value(index), estimates.interval(index)
    if value is None:
        return "-"
    form = "{:+.3f}" if sign else "{:.3f}"
    inside = " to ".join(form.format(end) for end in ends) if ends else "no interval"
    return f"{form.format(value)} ({inside})"


def rows_of(found: Mapping[str, Found], kind: str | None) -> list[Steadiness]:
    """The lines of all sets, of one kind of rewording or of all."""
    return [r for one in found.values() for r in one.rows if kind in (None, r.type)]


def hit_table(found: Mapping[System, Mapping[str, Found]], **drawn: int) -> Iterator[str]:
    """Rows: share of originals with a gold passage among the k found, by set."""
    sets = list(next(iter(found.values())))
    yield f"| hit of originals | {' | '.join(sets)} | all | canonical less own, all |"
    yield "|---" * (len(sets) + 3) + "|"
    for system, by_set in found.items():
        cells = [f"{np.mean(list(by_set[name].hits.values())):.3f}" for name in sets]
        values = every(by_set)
        own = every(found[System(system.retriever, "own", False)])
        whole = bootstrap(values, means, **drawn)
        less = (
            ""
            if system.query == "own"
            else shown(bootstrap(values, means, minus=own, **drawn), 0, sign=True)
        )
        yield f"| {system} | {' | '.join(cells)} | {shown(whole, 0)} | {less} |"


def every(by_set: Mapping[str, Found]) -> Floats:
    """Hits of the originals of all sets, with their counts, (questions, 2)."""
    hits = [hit for one in by_set.values() for hit in one.hits.values()]
    return np.array([(float(hit), 1.0) for hit in hits])


def kind_table(
    found: Mapping[System, Mapping[str, Found]], kind: str | None, **drawn: int
) -> Iterator[str]:
    """Rows: every metric with its interval, of one kind of rewording."""
    some = rows_of(next(iter(found.values())), kind)
    questions = list(dict.fromkeys(row.original_id for row in some))
    yield f"\n### {kind or 'all kinds'}: {len(some)} rewordings of {len(questions)} questions\n"
    heads = ("Jaccard", "RBO", "same first", "hit", "hit of originals", "gold kept")
    yield f"| | {' | '.join(heads)} | Jaccard, canonical less own | hit, canonical less own |"
    yield "|---" * 9 + "|"
    for system, by_set in found.items():
        own = sums(rows_of(found[System(system.retriever, "own", False)], kind), questions)
        mine = sums(rows_of(by_set, kind), questions)
        estimates = bootstrap(mine, means, **drawn)
        less = bootstrap(mine, means, minus=own, **drawn)
        gains = [shown(less, n, sign=True) if system.query != "own" else "" for n in (0, 3)]
        cells = [shown(estimates, n) for n in range(len(METRICS))]
        yield f"| {system} | {' | '.join([*cells, *gains])} |"


def speed(passages: int = 100_000, queries: int = 1_000, width: int = 384, k: int = 3) -> str:
    """Exact search in random unit vectors: seconds of CPU time and memory."""
    random = np.random.default_rng(0)

    def vectors(count: int) -> Floats:
        made = random.standard_normal((count, width), dtype=np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    collection, asked = vectors(passages), vectors(queries)
    start = time.process_time()
    count = sum(1 for _ in nearest(asked, collection, k))
    spent = time.process_time() - start
    tracemalloc.start()  # which would slow the first pass down
    sum(1 for _ in nearest(asked, collection, k))
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return (
        f"{count} queries over {passages:,} vectors of {width}: {spent:.2f} s of CPU time, "
        f"{count / spent:,.0f} queries/s, {peak:.0f} MiB beside the vectors"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--encoder", default="package:all-minilm-l6-v2")
    options = parser.parse_args()
    if options.speed:
        for passages in (10_000, 100_000):
            print(speed(passages))
        return
    encode = Vectors(Encoder(locate(options.encoder, "--encoder")).encode).encode
    systems = [System(*one) for one in SYSTEMS]
    found: dict[System, dict[str, Found]] = {system: {} for system in systems}
    for folder in sorted(path.parent for path in options.data.glob("*/passages.jsonl")):
        questions, passages, asked = read_set(folder, options.seed)
        print(
            f"{folder.name}: {len(questions)} questions, {len(passages)} passages, "
            f"{len(asked)} wordings",
            flush=True,
        )
        for system in systems:
            found[system][folder.name] = measure(
                system, questions, passages, asked, encode, options.k
            )
    drawn = {"resamples": options.resamples, "seed": options.seed}
    print("\n".join(hit_table(found, **drawn)))
    kinds = dict.fromkeys(row.type for row in rows_of(found[systems[0]], None))
    for kind in (None, *kinds):
        print("\n".join(kind_table(found, kind, **drawn)), flush=True)


if __name__ == "__main__":
    main()
