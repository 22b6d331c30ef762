"""The questions whose wordings got the most different answers, side by side for a reader."""

from collections.abc import Sequence
from typing import Any

from accord.report.content import AskedWording, Example
from accord.report.svg import clean, number

SHOWN = 40  # questions; the rest is in the run's answers.jsonl
LONGEST = 1200  # characters of an answer
_WORDINGS = 12
_PASSAGES = 10


def examples_view(examples: Sequence[Example] | None) -> dict[str, Any]:
    """The worst questions, worst first, and how many are left out."""
    asked = [e for e in examples or () if e.wordings]
    ranked = sorted(asked, key=_agreement)
    return {
        "questions": [_question(e) for e in ranked[:SHOWN]],
        "shown": min(len(ranked), SHOWN),
        "all": len(ranked),
        "given": any(number(e.agreement) is not None for e in ranked),
    }


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
