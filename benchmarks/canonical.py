"""Speed of `canonical`, and what it merges, on question sets of your own.

    python benchmarks/canonical.py FOLDER [--seeds 3] [--passages] [--pairs FILE] [--unshared FILE]

FOLDER holds one folder a set, each with qa.jsonl and perhaps variations.jsonl. Prints queries a
second, the share of rule-made variations with the canonical form of their source by operator, the
share of copies with one change of meaning that are kept apart from their source, the groups of
different queries that get one form, with the words in which they differ, and how often BM25 finds
a gold passage among its first three, with and without `canonical`. `--passages` takes the
questions that stand in passages.jsonl instead. `--pairs` writes the groups and the copies that fall
together with their source, `--unshared` the variations that miss theirs, as JSONL for reading.
"""

import argparse
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from accord.records import Passage, Question, read_records
from accord.registry import component
from accord.retrieve.bm25 import bm25
from accord.vary.canonical import canonical, canonicals
from accord.vary.outcome import Skip
from accord.vary.plurals import pairs, words

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

# One word for another that changes the meaning wherever it stands.
SWAPS = pairs(
    "to:from from:to in:without on:off off:on with:without before:after after:before up:down "
    "for:against by:without did:will will:did was:wasn't all:no first:last"
)
MODALS = {"can": "should", "should": "can", "may": "must", "must": "may", "could": "must"}
# What stands in frames and politeness may go without a change of meaning.
LIGHT = words(
    "what which where when this that these those have does your they them please thanks thank "
    "hello want would like know tell need help steps step ways information some more about there "
    "could with from just really also exact necessary required process procedure show give "
    "looking learn question questions wondering anyone someone something regarding advice here came"
)


def queries_of(folder: Path) -> dict[str, dict[str, str]]:
    """id -> query of every qa.jsonl and variations.jsonl, by set."""
    sets: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted([*folder.glob("*/qa.jsonl"), *folder.glob("*/variations.jsonl")]):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            sets[path.parent.name][record["id"]] = record["query"]
    return sets


def questions_in_passages(folder: Path) -> dict[str, dict[str, str]]:
    """Sentences and titles of passages that end in a question mark, each one once, by set."""
    sets: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted(folder.glob("*/passages.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            text = f"{record.get('title') or ''}\n{record['text']}"
            sentences = (s.strip() for s in re.split(r"(?<=[.?!])\s+|\n", text))
            asked = [s for s in sentences if s.endswith("?") and 3 <= len(s.split()) <= 40]
            sets[path.parent.name].update({s: f"{record['id']}-{i}" for i, s in enumerate(asked)})
    return {name: {id: query for query, id in found.items()} for name, found in sets.items()}


def rate(queries: Sequence[str], seconds: float = 2.0) -> float:
    """Queries a second of CPU time on one thread, the cache of words warm."""
    canonicals(queries)
    done, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        for query in queries:
            canonical(query)
        done += len(queries)
    return done / (time.process_time() - start)


def variations(
    questions: Sequence[Question], operator: str, seed: int
) -> Iterator[tuple[Question, str]]:
    """(question, variation) of one operator."""
    outcomes = component("variations", operator, "operators").function(questions, seed=seed)
    for question, outcome in zip(questions, outcomes, strict=True):
        if not isinstance(outcome, Skip):
            yield from ((question, made.query) for made in outcome)


def sharing(sets: dict[str, dict[str, str]], seeds: int) -> tuple[list[str], list[dict[str, str]]]:
    """Rows of the table by operator, and the variations that miss their source."""
    rows, missed = [], []
    questions = [Question(id=i, query=q) for s in sets.values() for i, q in s.items()]
    for operator in OPERATORS:
        made = {(q.id, v): q for s in range(seeds) for q, v in variations(questions, operator, s)}
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


def contrasts(query: str) -> Iterator[tuple[str, str]]:
    """(kind, query) of copies with one change of meaning: a word swapped, left out or moved."""
    tokens = query.split()
    lower = [token.lower() for token in tokens]
    for i, word in enumerate(lower):
        rest = tokens[i + 1 :]
        if word in SWAPS and word not in lower[:i]:
            yield "word", " ".join([*tokens[:i], SWAPS[word], *rest])
        if word in MODALS and "how" not in lower[max(0, i - 2) : i]:
            yield "modal", " ".join([*tokens[:i], MODALS[word], *rest])
            yield "negation", " ".join([*tokens[: i + 2], "not", *tokens[i + 2 :]])
        if any(character.isdigit() for character in word):
            other = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), tokens[i])
            yield "number", " ".join([*tokens[:i], other, *rest])
        if len(word) > 3 and word.isalpha() and word not in LIGHT and lower.count(word) == 1:
            yield "left out", " ".join([*tokens[:i], *rest])
            if rest and rest[0].isalpha() and len(rest[0]) > 3 and rest[0].lower() not in LIGHT:
                yield "order", " ".join([*tokens[:i], rest[0], tokens[i], *rest[1:]])


def apart(queries: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Rows of the table by kind of change, and the copies that fall together with their source."""
    made = [(kind, q, copy) for q in dict.fromkeys(queries) for kind, copy in contrasts(q)]
    merged = [
        {"kind": kind, "query": query, "copy": copy, "form": canonical(query)}
        for kind, query, copy in made
        if canonical(query) == canonical(copy)
    ]
    total, met = Counter(kind for kind, *_ in made), Counter(row["kind"] for row in merged)
    return [
        f"| {k} | {n} | {n - met[k]} | {1 - met[k] / n:.2%} |" for k, n in total.items()
    ], merged


def groups(sets: dict[str, dict[str, str]]) -> list[dict[str, object]]:
    """Different queries of the whole folder that get one form, with what they differ in."""
    by_form: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, queries in sets.items():
        for id, query in queries.items():
            by_form[canonical(query)][query].append(f"{name}/{id}")
    return [
        {"form": form, "differ in": difference(list(found)), "queries": dict(found)}
        for form, found in sorted(by_form.items())
        if len(found) > 1
    ]


def difference(queries: Sequence[str]) -> str:
    """The words that not all of the queries have, or that there is none."""
    bare = [set(re.findall(r"\w+", query.lower())) for query in queries]
    return " ".join(sorted(set.union(*bare) - set.intersection(*bare))) or "case and punctuation"


def hits(folder: Path) -> Iterator[str]:
    """Rows: share of questions with a gold passage (context_ids) among the first 3 of BM25."""
    for path in sorted(folder.glob("*/qa.jsonl")):
        questions = read_records(path, Question)
        plain = read_records(path.with_name("passages.jsonl"), Passage)
        level = [Passage(id=p.id, text=canonical(f"{p.title or ''}\n{p.text}")) for p in plain]
        asked = [q.query for q in questions]
        forms = canonicals(asked)
        cells = []
        for passages, queries in ((plain, asked), (plain, forms), (level, forms)):
            ranked = zip(questions, bm25(passages, queries, k=3), strict=True)
            found = [bool({r.id for r in best} & set(q.context_ids)) for q, best in ranked]
            cells.append(f"{sum(found) / len(found):.3f}")
        yield f"| {path.parent.name} | {len(questions)} | {' | '.join(cells)} |"


def _written(path: Path | None, rows: Sequence[object]) -> None:
    if path is not None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Print speed, sharing and merged queries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passages", action="store_true")
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--unshared", type=Path)
    options = parser.parse_args()
    sets = (questions_in_passages if options.passages else queries_of)(options.folder)
    queries = [query for found in sets.values() for query in found.values()]
    length = sum(len(query.split()) for query in queries) / len(queries)
    print(
        f"{len(queries)} queries of {length:.1f} words: {rate(queries):,.0f} a second, one thread"
    )
    rows, missed = sharing(sets, options.seeds)
    print("\n| operator | variations | share their source's form | share |\n|---|---|---|---|")
    print("\n".join(rows))
    rows, met = apart(queries)
    print("\n| one change of meaning | copies | kept apart | share |\n|---|---|---|---|")
    print("\n".join(rows))
    merged = groups(sets)
    print(f"\n{len(merged)} forms of more than one query:")
    for group in merged:
        print(f"  {group['form']}: {group['differ in']}")
    print("\n| hit@3 of BM25 | questions | as written | canonical query | and canonical passages |")
    print("|---|---|---|---|---|")
    print("\n".join(hits(options.folder)))
    _written(options.pairs, [*merged, *met])
    _written(options.unshared, missed)


if __name__ == "__main__":
    main()
