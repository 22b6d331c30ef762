"""Yield, speed and a sample of the rule operators, on question sets of your own.

    python benchmarks/vary.py DATA [--seed 0] [--sample N --out FILE]

DATA holds a folder for each set, with its `qa.jsonl`; where a set has titles, variations of the
type `short_title` in `variations.jsonl`, these are its queries. The sample holds source and
variation side by side for a reader, the operators in turn, no source twice.
"""

import argparse
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from accord.records import Question, Record, Variation, read_records, write_records
from accord.registry import component
from accord.vary.outcome import Rewording, Skip, undone

SUPPORT = ("doc2dial", "dtc_faq", "techqa")
FOUR = ("how_to_do", "i_we", "question_frame", "singular_plural_article")
NO_ARTICLES = ("how_to_do", "i_we", "question_frame", "singular_plural")
RULES = (*FOUR, "singular_plural", "article", "question_mark", "case", "typo", "politeness")
HOW_TO = re.compile(r"\bhow\s+(?:to|(?:do|can|could|should|would)\s+(?:i|we|you|one))\b", re.I)
ANNOUNCED = re.compile(r"\b(?:have (?:a|the following) (?:question|problem)|like to know): ", re.I)

Outcomes = dict[str, list[list[Rewording] | Skip]]  # by operator, in the order of the questions


def queries(folder: Path) -> list[Question]:
    """The titles of a set where it has some, else its questions."""
    frozen = folder / "variations.jsonl"
    found = read_records(frozen, Variation) if frozen.exists() else []
    titles = [Question(id=v.id, query=v.query) for v in found if v.type == "short_title"]
    return titles or read_records(folder / "qa.jsonl", Question)


def outcomes(questions: Sequence[Question], seed: int) -> Outcomes:
    """What every operator yields."""
    made = {name: component("variations", name, "").function for name in RULES}
    return {name: list(function(questions, seed=seed)) for name, function in made.items()}


def share(questions: Sequence[Question], by: Outcomes, operators: Iterable[str]) -> str:
    """How many of the questions get a variation from any of the operators."""
    rows = list(zip(*(by[name] for name in operators), strict=True))
    got = sum(any(not isinstance(o, Skip) for o in row) for row in rows)
    return f"{got}/{len(questions)} {got / max(len(questions), 1):.1%}"


def report(name: str, questions: Sequence[Question], by: Outcomes) -> None:
    """Print the yield of one set."""
    print(f"\n{name} ({len(questions)} queries)")
    for operator in RULES:
        print(f"  {operator:25}{share(questions, by, [operator])}")
    print(f"  {'any of the four':25}{share(questions, by, FOUR)}")
    print(f"  {'... no article dropped':25}{share(questions, by, NO_ARTICLES)}")
    plain = [_not_announced(o) for o in by["question_frame"]]
    unannounced = share(questions, {**by, "question_frame": plain}, NO_ARTICLES)
    print(f"  {'... nor announced':25}{unannounced}")
    asking = [i for i, q in enumerate(questions) if HOW_TO.search(q.query)]
    narrow = {operator: [found[i] for i in asking] for operator, found in by.items()}
    both = share([questions[i] for i in asking], narrow, ("how_to_do", "question_frame"))
    print(f"  {'how-to: htd or frame':25}{both}")
    reasons = Counter(o.reason for o in by["question_frame"] if isinstance(o, Skip))
    print(f"  skipped by question_frame: {dict(reasons)}")


def _not_announced(outcome: list[Rewording] | Skip) -> list[Rewording] | Skip:
    """A frame that only announces the same sentence counts as a skip here."""
    if isinstance(outcome, Skip) or not ANNOUNCED.search(outcome[0].query):
        return outcome
    return Skip("announced")


def sample(
    questions: Sequence[Question], by: Outcomes, size: int, seed: int, wanted: Sequence[str]
) -> list[Record]:
    """Variations for a reader: the operators in turn, the places at random, no source twice."""
    draw = random.Random(seed)
    left = {}
    for name in wanted:
        pairs = zip(questions, by[name], strict=True)
        left[name] = [(q, o[0]) for q, o in pairs if not isinstance(o, Skip)]
        draw.shuffle(left[name])
    taken: set[str] = set()
    rows: list[Record] = []
    while any(left.values()) and len(rows) < size:
        for name in wanted:
            while left[name] and left[name][-1][0].query in taken:
                left[name].pop()
            if left[name] and len(rows) < size:
                question, made = left[name].pop()
                taken.add(question.query)
                rows.append(_row(question, name, made))
    return rows


def _row(question: Question, name: str, made: Rewording) -> Record:
    if undone(made) != question.query:
        raise SystemExit(f"{question.id}: {name} cannot be undone from its provenance")
    row = {"id": question.id, "type": name, "operator": made.operator}
    return Record.model_validate({**row, "source": question.query, "variation": made.query})


def main() -> None:
    """Measure every set, then all together; write the sample if one is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--operators", nargs="+", default=list(RULES))
    parser.add_argument("--out", type=Path, default=Path("sample.jsonl"))
    args = parser.parse_args()

    sets = {p.name: queries(p) for p in sorted(args.data.iterdir()) if (p / "qa.jsonl").exists()}
    list(outcomes([Question(id="warm", query="How do I warm up the pipeline?")], 0).values())
    everything = [question for found in sets.values() for question in found]
    start = time.process_time()
    by = outcomes_in_batches(everything, args.seed)
    seconds = time.process_time() - start
    at = 0
    for name, found in sets.items():
        report(name, found, {k: v[at : at + len(found)] for k, v in by.items()})
        at += len(found)
    chosen = [i for i, (n, _) in enumerate(_named(sets)) if n in SUPPORT]
    if chosen:
        support = [everything[i] for i in chosen]
        report("support queries", support, {k: [v[i] for i in chosen] for k, v in by.items()})
    print(f"\nspeed: {len(everything) / seconds:.0f} queries/s for all operators (CPU time)")
    if args.sample:
        write_records(args.out, sample(everything, by, args.sample, args.seed, args.operators))


def _named(sets: dict[str, list[Question]]) -> Iterable[tuple[str, Question]]:
    return ((name, question) for name, found in sets.items() for question in found)


def outcomes_in_batches(questions: Sequence[Question], seed: int, size: int = 1024) -> Outcomes:
    """As the stage does it: a batch goes through all operators before the next one."""
    by: Outcomes = {name: [] for name in RULES}
    for start in range(0, len(questions), size):
        for name, found in outcomes(questions[start : start + size], seed).items():
            by[name] += found
    return by


if __name__ == "__main__":
    main()
