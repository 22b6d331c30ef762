"""Speed of `canonical`, and what it merges, on question sets of your own.

    python benchmarks/canonical.py FOLDER [--seeds 3] [--pairs FILE] [--unshared FILE]

FOLDER holds one folder a set, each with qa.jsonl and perhaps variations.jsonl. Prints queries a
second, the share of rule-made variations with the canonical form of their source by operator, and
the groups of different queries that get one form, by what the queries differ in. `--pairs` writes
these groups, `--unshared` the variations that miss their source, as JSONL for reading.
"""

import argparse
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from accord.records import Question
from accord.registry import component
from accord.vary.canonical import canonical, canonicals
from accord.vary.outcome import Skip

OPERATORS = (
    "how_to_do",
    "i_we",
    "singular_plural",
    "article",
    "singular_plural_article",
    "question_frame",
    "question_mark",
    "case",
    "politeness",
)


def queries_of(folder: Path) -> dict[str, dict[str, str]]:
    """id -> query of every qa.jsonl and variations.jsonl, by set."""
    sets: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted([*folder.glob("*/qa.jsonl"), *folder.glob("*/variations.jsonl")]):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            sets[path.parent.name][record["id"]] = record["query"]
    return sets


def rate(queries: Sequence[str], seconds: float = 2.0) -> float:
    """Queries a second on one thread; the cache of words is warm after the first round."""
    canonicals(queries)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for query in queries:
            canonical(query)
        done += len(queries)
    return done / (time.perf_counter() - start)


def variations(
    questions: Sequence[Question], operator: str, seed: int
) -> Iterator[tuple[Question, str, str]]:
    """(question, variation, operator of the edit) of one operator."""
    outcomes = component("variations", operator, "operators").function(questions, seed=seed)
    for question, outcome in zip(questions, outcomes, strict=True):
        if not isinstance(outcome, Skip):
            yield from ((question, made.query, made.operator) for made in outcome)


def sharing(sets: dict[str, dict[str, str]], seeds: int) -> tuple[list[str], list[dict[str, str]]]:
    """Rows of the table by operator, and the variations that miss their source."""
    rows, missed = [], []
    questions = [Question(id=i, query=q) for s in sets.values() for i, q in s.items()]
    for operator in OPERATORS:
        made = {
            (q.id, v): q for s in range(seeds) for q, v, _ in variations(questions, operator, s)
        }
        away = [
            {
                "id": id,
                "operator": operator,
                "query": q.query,
                "variation": v,
                "form": canonical(q.query),
                "other": canonical(v),
            }
            for (id, v), q in made.items()
            if canonical(v) != canonical(q.query)
        ]
        share = 1 - len(away) / len(made) if made else float("nan")
        rows.append(f"| {operator} | {len(made)} | {len(made) - len(away)} | {share:.2%} |")
        missed += away
    return rows, missed


def groups(sets: dict[str, dict[str, str]]) -> list[dict[str, object]]:
    """Different queries of the whole folder that get one form, with what they differ in."""
    by_form: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, queries in sets.items():
        for id, query in queries.items():
            by_form[canonical(query)][query].append(f"{name}/{id}")
    return [
        {"form": form, "difference": difference(list(found)), "queries": dict(found)}
        for form, found in sorted(by_form.items())
        if len(found) > 1
    ]


def difference(queries: Sequence[str]) -> str:
    """The least that levels the queries: case and marks alone, or words too."""
    bare = {" ".join(re.findall(r"\w+", query.lower())) for query in queries}
    return "case and punctuation" if len(bare) == 1 else "words"


def _written(path: Path | None, rows: Sequence[object]) -> None:
    if path is not None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Print speed, sharing and merged queries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--unshared", type=Path)
    options = parser.parse_args()
    sets = queries_of(options.folder)
    queries = [query for found in sets.values() for query in found.values()]
    words = sum(len(query.split()) for query in queries) / len(queries)
    print(f"{len(queries)} queries of {words:.1f} words: {rate(queries):,.0f} a second, one thread")
    rows, missed = sharing(sets, options.seeds)
    print("\n| operator | variations | share their source's form | share |\n|---|---|---|---|")
    print("\n".join(rows))
    merged = groups(sets)
    print(f"\n{len(merged)} forms of more than one query:")
    for name, count in Counter(str(group["difference"]) for group in merged).items():
        print(f"  differ in {name}: {count}")
    _written(options.pairs, merged)
    _written(options.unshared, missed)


if __name__ == "__main__":
    main()
