"""Where the inconsistency of a whole system comes from, and what a steadier retriever buys.

    python benchmarks/end_to_end.py DATA [--questions 30] [--model NAME] [--new 40] [--seed 0]

DATA as for benchmarks/retrieve.py. The first questions of each set, their frozen rewordings and
those by rule are answered by an untrained model over the passages of bm25 and a dense retriever,
each searched with the user's words and with their canonical form; the model reads the user's words
in any case (and in the last rows the form as well). Every rewording is also asked with the passages
of its original question. Prints the table of `accord evaluate`, attribution included.
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieve import read_set
from rich.console import Console

from accord.canonical_rows import canonical_form
from accord.evaluate.scoring import Resources
from accord.evaluate.stage import evaluate
from accord.evaluate.table import render, table
from accord.generate.rows import Ask, Row, asks
from accord.generate.stage import generate
from accord.grounding import by_word, with_texts
from accord.models.encoder import Encoder
from accord.models.locate import locate
from accord.progress import open_progress
from accord.records import Passage, Wording, write_json
from accord.retrieve.asking import Encode
from accord.retrieve.consistency import gold_passages
from accord.retrieve.stage import retrieve

SYSTEMS = (("bm25", False), ("bm25", True), ("dense", False), ("dense", True))
MOST = 3  # rewordings of a question


def few(asked: Sequence[Wording]) -> list[Wording]:
    """Each question with its first rewordings, one of a kind before a second of any."""
    groups: dict[str, list[Wording]] = {}
    for w in asked:
        groups.setdefault(w.original_id, []).append(w)
    kept = []
    for original, *others in groups.values():
        seen: dict[str | None, int] = {}
        rank = {}
        for w in others:
            rank[w.id] = seen[w.type] = seen.get(w.type, -1) + 1
        kept += [original, *sorted(others, key=lambda w: rank[w.id])[:MOST]]
    return kept


def rows_of_set(
    folder: Path, questions: int, encode: Encode, seed: int
) -> tuple[dict[str, list[Ask]], dict[str, str | None], dict[str, frozenset[str]]]:
    """(asks of each system, references, gold ids) of one data set."""
    known, passages, every = read_set(folder, seed)
    chosen = {q.id for q in known[:questions]}
    asked = few([w for w in every if w.original_id in chosen])
    forms = canonical_form(asked)
    found: dict[str, list[Ask]] = {}
    for retriever, canonical in SYSTEMS:
        grounded = retrieve(
            forms if canonical else asked,
            passages,
            retriever=retriever,
            encode=encode,
            level=by_word if canonical else None,
        )
        contexts = with_texts(grounded, passages)
        name = f"{retriever} canon." if canonical else retriever
        found[name] = asks(asked, contexts, {}, ("own", "original"))
        if canonical:
            found[f"{name}+"] = _read(asked, forms, contexts)
    gold = gold_passages(known, passages)
    return found, {q.id: q.answer for q in known if q.id in chosen}, gold


def _read(
    asked: Sequence[Wording], forms: Sequence[Wording], contexts: dict[str, list[Passage]]
) -> list[Ask]:
    """The model reads the form as well."""
    return [Ask(w, form.query, tuple(contexts[w.id])) for w, form in zip(asked, forms, strict=True)]


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--model", default="package:smollm2-135m-instruct")
    parser.add_argument("--encoder", default="package:all-minilm-l6-v2")
    parser.add_argument("--new", type=int, default=40)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="keeps answers for another run")
    parser.add_argument("-o", "--out", type=Path, help="SCORES")
    given = parser.parse_args()
    model = locate(given.model, "--model")
    encoder = Encoder(locate(given.encoder, "--encoder"))
    vectors: dict[tuple[str, ...], Any] = {}  # a collection is searched twice

    def encode(texts: Sequence[str]) -> Any:
        key = tuple(texts)
        if key not in vectors:
            vectors[key] = encoder.encode(texts)
        return vectors[key]

    rows: dict[str, list[Ask]] = {}
    references: dict[str, str | None] = {}
    gold: dict[str, frozenset[str]] = {}
    for folder in sorted(p for p in given.data.iterdir() if (p / "passages.jsonl").is_file()):
        own, answers, ids = rows_of_set(folder, given.questions, encode, given.seed)
        for name, wanted in own.items():
            rows.setdefault(name, []).extend(wanted)
        references |= answers
        gold |= ids
    with open_progress("answers", quiet=False) as progress, tempfile.TemporaryDirectory() as place:
        answers, notes = generate(
            {name: Row(model, tuple(wanted)) for name, wanted in rows.items()},
            given.cache or Path(place) / "cache.jsonl",
            fingerprint=lambda folder: hashlib.sha256(str(folder).encode()).hexdigest(),
            options={"dtype": given.dtype},
            max_new_tokens=given.new,
            repeat=given.repeat,
            progress=progress,
        )
    resources = Resources(encode=encoder.encode, encoder=given.encoder)
    scores = evaluate(answers, references, resources=resources, gold=gold, seed=given.seed)
    if given.out:
        write_json(given.out, scores)
    Console(width=100).print(render(table(scores)))
    print(json.dumps(notes, indent=1))


if __name__ == "__main__":
    main()
