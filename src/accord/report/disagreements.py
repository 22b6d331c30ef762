"""The questions whose wordings got the most different answers, side by side for a reader."""

from collections.abc import Mapping, Sequence
from typing import Any

from accord.report.content import AskedWording, Example
from accord.report.grid import listing, mapping
from accord.report.svg import clean, number
from accord.report.tables import heading

SHOWN = 40  # questions; the rest is in the run's answers.jsonl
LONGEST = 1200  # characters of an answer
_WORDINGS = 12
_PASSAGES = 10


def examples_view(
    examples: Sequence[Example] | None, row: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The worst questions, worst first, and how many are left out.

    Without examples, those that a row of the table holds; `of` is then its name. They are one
    model's alone and few, so the run's own, with every model and its passages, come first.
    """
    held = _held(mapping(row)) if not examples else []
    if held:
        name = cut(mapping(row).get("name"), 200)
        return {**examples_view(held), "of": name, "measure": _measure(mapping(row))}
    asked = [e for e in examples or () if e.wordings]
    ranked = sorted(asked, key=_agreement)
    return {
        "questions": [_question(e) for e in ranked[:SHOWN]],
        "shown": min(len(ranked), SHOWN),
        "all": len(ranked),
        "given": any(number(e.agreement) is not None for e in ranked),
        "of": None,
        "measure": "",
    }


def _held(row: Mapping[str, Any]) -> list[Example]:
    """The worst questions that a row of the table holds, with what that row answered."""
    found = listing(row.get("worst_questions"))
    return [_example(mapping(question), str(row.get("name"))) for question in found]


def _measure(row: Mapping[str, Any]) -> str:
    """What the questions are ranked by, in words."""
    question = mapping(row["worst_questions"][0])
    by = next((str(key) for key in question if number(question[key]) is not None), "rs_area")
    return "overlap (ROUGE-L)" if by == "rs_area" else heading(by)


def _example(question: Mapping[str, Any], name: str) -> Example:
    wordings = [
        AskedWording(
            str(asked.get("id")),
            str(asked.get("query")),
            None if asked.get("type") is None else str(asked["type"]),
            answers={name: str(asked.get("answer"))},
        )
        for asked in map(mapping, listing(question.get("answers")))
    ]
    scores = [v for key in question if (v := number(question[key])) is not None]
    reference = question.get("reference")
    return Example(
        str(question.get("id")),
        wordings,
        None if reference is None else str(reference),
        scores[0] if scores else None,
    )


def _agreement(example: Example) -> float:
    """The agreement given, else the share of rewordings whose answer is the original's string."""
    given = number(example.agreement)
    if given is not None:
        return given
    first, *others = example.wordings
    pairs = [
        first.answers[model] == wording.answers[model]
        for wording in others
        for model in first.answers
        if model in wording.answers
    ]
    return sum(pairs) / len(pairs) if pairs else 1.0


def _question(example: Example) -> dict[str, Any]:
    wordings = example.wordings[:_WORDINGS]
    models = dict.fromkeys(model for w in wordings for model in w.answers)
    return {
        "id": cut(example.id, 80),
        "query": cut(wordings[0].query, 400),
        "reference": cut(example.reference) if example.reference else None,
        "agreement": f"{_agreement(example):.0%}" if len(wordings) > 1 else "-",
        "wordings": [_wording(w, wordings[0]) for w in wordings],
        "left_out": len(example.wordings) - len(wordings),
        "models": [{"name": m, "answers": _answers(m, wordings)} for m in models],
    }


def _wording(wording: AskedWording, original: AskedWording) -> dict[str, Any]:
    known = set(original.passages)
    return {
        "query": cut(wording.query, 400),
        "type": cut(wording.type.replace("_", " "), 80) if wording.type else "original",
        "passages": [
            {"id": cut(ident, 60), "new": ident not in known}
            for ident in wording.passages[:_PASSAGES]
        ],
    }


def _answers(model: str, wordings: Sequence[AskedWording]) -> list[dict[str, Any]]:
    first = wordings[0].answers.get(model)
    cells = []
    for place, wording in enumerate(wordings):
        answer = wording.answers.get(model)
        same = place > 0 and answer is not None and answer == first
        state = "missing" if answer is None else "same" if same else "first" if not place else ""
        cells.append({"text": "-" if answer is None else cut(answer), "state": state})
    return cells


def cut(text: object, longest: int = LONGEST) -> str:
    """`text` at a length that a page can hold, saying so where something was cut."""
    whole = str(text)
    if len(whole) <= longest:
        return clean(whole)
    return f"{clean(whole[:longest])} … [cut here; {len(whole):,} characters in all]"
