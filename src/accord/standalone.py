"""The commands that work on files of the user's, outside any run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.configfile import resolve_model_path
from accord.errors import InputError
from accord.progress import Progress
from accord.reading import read_questions
from accord.records import (
    Question,
    write_records,
)


def vary_file(
    qa: Path,
    out: Path,
    types: Sequence[str],
    semantic: Mapping[str, Any],
    seed: int,
    progress: Progress,
    *,
    review: Path | None = None,
) -> dict[str, dict[str, int]]:
    """Write variations of a file's questions to `out`, the others to STEM.skipped.jsonl.

    `semantic`: the options of that kind. `review`: a table of all of them, for a person to mark.
    """
    from accord.vary.review import write_review
    from accord.vary.stage import vary

    if "semantic" in types and not (semantic.get("local") or semantic.get("base_url")):
        raise InputError("vary: semantic needs a model: give --base-url and --model, or --local")
    _refuse_marked(review)
    questions = _questions(qa)
    kinds = [(t, dict(semantic) if t == "semantic" else {}) for t in types]
    made, skipped = vary(questions, kinds, seed=seed, progress=progress)
    write_records(out, made)
    write_records(out.with_name(f"{out.stem}.skipped.jsonl"), skipped)
    if review is not None:
        write_review(made, skipped, questions, review)
    done, left = Counter(v.type for v in made), Counter(s.type for s in skipped)
    return {t: {"made": done[t], "skipped": left[t]} for t in types}


def accept_file(qa: Path, marked: Path, out: Path) -> int:
    """Write the variations that a person took in a review table; returns how many."""
    from accord.vary.review import read_review

    taken = read_review(marked, _questions(qa))
    write_records(out, taken)
    return len(taken)


def log_file(
    log: Path, out: Path, encoder: str, progress: Progress, *, review: Path | None = None
) -> dict[str, int]:
    """Rewordings in a query log: variations to `out`, originals to STEM.questions.jsonl."""
    from accord.models.encoder import Encoder
    from accord.models.locate import locate
    from accord.vary.review import write_review
    from accord.vary.traffic import as_records, groups, read_log

    _refuse_marked(review)
    logged = read_log(log)
    encode = Encoder(locate(resolve_model_path(encoder, Path()), "--encoder")).encode
    questions, variations = as_records(groups(logged, encode, progress=progress))
    write_records(out, variations)
    write_records(out.with_name(f"{out.stem}.questions.jsonl"), questions)
    if review is not None:
        write_review(variations, [], questions, review)
    return {"queries": len(logged), "questions": len(questions), "variations": len(variations)}


def _questions(qa: Path) -> list[Question]:
    return read_questions([qa])[0]


def _refuse_marked(review: Path | None) -> None:
    """Raise InputError rather than write over a table that a person may have marked."""
    if review is not None and review.exists():
        raise InputError(
            f"{review}: is there and may be marked; take its rows with --accept, or remove it"
        )
