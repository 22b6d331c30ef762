"""Evaluate: answers in, one row of scores for each model out.

What is unusual here: all rows share their questions and pairs. What some model did not answer is
left out for every model, and counted; nothing is scored on a set of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from accord import __version__
from accord.errors import InputError
from accord.evaluate import metrics, statistics
from accord.evaluate.metrics import Encode, Floats
from accord.records import Answer

METRICS = ("rouge_l", "bleu", "em", "rs", "bs", "rs_area")
CONTEXTS, REPEAT = "own", 0  # what is scored; answers with other contexts or repeats are set aside


@dataclass(frozen=True)
class _Pair:
    """A variation and the original it is compared with; `type` is its kind of rewording."""

    question: str
    variation: str
    type: str


@dataclass(frozen=True)
class _Shared:
    """What every model answered, sorted by id; `references` only where there is one."""

    questions: list[str]
    references: dict[str, str]
    pairs: list[_Pair]


Texts = Mapping[str, Mapping[str, str]]  # model -> id -> answer
Draw = Callable[[Floats, statistics.Combine], statistics.Bootstrap]
Columns = dict[str, tuple[statistics.Bootstrap, int]]  # metric -> where its numbers are


def evaluate(
    answers: Sequence[Answer],
    references: Mapping[str, str | None],
    *,
    T: float = 0.7,
    resamples: int = 2000,
    seed: int = 0,
    encode: Encode | None = None,
    encoder_name: str | None = None,
) -> dict[str, Any]:
    """Scores of every model, as the file SCORES holds them.

    `rouge_l` and `bleu` are over the originals with a reference; `em`, `rs`, `bs` and `rs_area`
    over (original, variation) pairs of one model (paper, section 4.2). All are fractions; null is
    "not scored" and never a zero. `references` has an entry for each original question, null or
    blank where only agreement is measured. `encode` maps texts (N) to vectors (N, D); without it
    `bs` is null. The result does not depend on the order of the answers, except that models keep
    the order of their first appearance.
    Raises InputError for settings out of range, no answers, a repeated key, an answer to no known
    question, an id that is two things, and models that share no question.
    """
    _check_settings(T, resamples)
    _check_answers(answers, references)
    scored = [a for a in answers if a.contexts == CONTEXTS and a.repeat == REPEAT]
    if not scored:
        raise InputError(f"answers: none has contexts `{CONTEXTS}` and repeat {REPEAT}, as scored")
    texts: dict[str, dict[str, str]] = {}
    for answer in scored:
        texts.setdefault(answer.model, {})[answer.id] = answer.answer
    wordings = {a.id: _Pair(_question(a), a.id, a.type or "untyped") for a in scored}
    shared = _share(texts, wordings, references)
    scores = _score_pairs(texts, shared.pairs, T, encode)
    draw = partial(statistics.bootstrap, resamples=resamples, seed=seed)
    columns = _accuracy(texts, shared, draw) | _agreement(scores, shared.pairs, draw)
    encoder = None if encode is None else encoder_name or "an encoder not named"
    return {
        "models": {
            model: {
                **_row(columns, index),
                **_sizes(shared),
                "by_type": _by_type(scores[model], shared.pairs),
                **_counts(texts[model], wordings, shared),
            }
            for index, model in enumerate(texts)
        },
        "detectable": _detectable(columns),
        "signatures": {
            **metrics.signatures(T, encoder),
            **statistics.signatures(resamples, seed),
            "scored": {"contexts": CONTEXTS, "repeat": REPEAT},
            "set_aside": _set_aside(answers, texts),
            "accord": __version__,
        },
    }


def _check_settings(T: float, resamples: int) -> None:
    if not 0 <= T < 1:
        raise InputError(f"T: found {T}; a number from 0 to below 1 is wanted")
    if resamples < 2:
        raise InputError(f"resamples: found {resamples}; at least 2 are wanted")


def _check_answers(answers: Sequence[Answer], references: Mapping[str, str | None]) -> None:
    if not answers:
        raise InputError("answers: there are none; at least one is wanted")
    seen: set[tuple[str, str, str, int]] = set()
    wording: dict[str, tuple[str, str | None]] = {}
    for answer in answers:
        if answer.key in seen:
            raise InputError(
                "answers: model `{}`, id `{}`, contexts `{}`, repeat {} occurs twice; "
                "one answer for each is wanted".format(*answer.key)
            )
        seen.add(answer.key)
        question = _question(answer)
        if question not in references:
            raise InputError(
                f"answers: model `{answer.model}`, id `{answer.id}`: question `{question}` is not "
                "among the references; add it there, with a null answer if it has none"
            )
        kind = (question, None if question == answer.id else answer.type)
        if wording.setdefault(answer.id, kind) != kind:
            raise InputError(
                f"answers: id `{answer.id}` is {_describe(*wording[answer.id])} in one place and "
                f"{_describe(*kind)} in another; an id has one original_id and one type"
            )


def _question(answer: Answer) -> str:
    """The id of the original question that an answer belongs to."""
    return answer.id if answer.original_id is None else answer.original_id


def _describe(question: str, type_: str | None) -> str:
    return f"a wording of `{question}` of type {f'`{type_}`' if type_ else 'null'}"


def _share(
    texts: Texts, wordings: Mapping[str, _Pair], references: Mapping[str, str | None]
) -> _Shared:
    """The questions and the complete pairs that every model answered."""
    common = set.intersection(*(set(own) for own in texts.values()))
    questions = sorted(id_ for id_ in common if wordings[id_].question == id_)
    if not questions and len(texts) > 1:
        names = ", ".join(f"`{model}`" for model in texts)
        raise InputError(
            f"answers: no original question is answered by every one of the models {names}; "
            "rows of one table must share questions"
        )
    known = {id_: references[id_] or "" for id_ in questions}
    return _Shared(
        questions,
        {id_: text for id_, text in known.items() if text.strip()},
        [wordings[id_] for id_ in sorted(common) if _complete(wordings[id_], common)],
    )


def _complete(wording: _Pair, answered: set[str] | Mapping[str, str]) -> bool:
    """Whether a wording is a variation whose original is answered too."""
    return wording.variation != wording.question and wording.question in answered


def _score_pairs(
    texts: Texts, pairs: Sequence[_Pair], T: float, encode: Encode | None
) -> dict[str, dict[str, Floats]]:
    """Scores (P,) of each metric of agreement for each model's pairs.

    Each distinct pair of answers is scored once, in sorted order, whoever gave it.
    """
    given = {
        model: [(own[pair.question], own[pair.variation]) for pair in pairs]
        for model, own in texts.items()
    }
    distinct = sorted({pair for own in given.values() for pair in own})
    row = {pair: index for index, pair in enumerate(distinct)}
    first, second = [a for a, _ in distinct], [b for _, b in distinct]
    rouge = metrics.rouge_l(first, second)
    scores = {"em": metrics.em(first, second), "rs": metrics.above(rouge, T)}
    if encode is not None:
        scores["bs"] = metrics.bs(first, second, encode=encode)
    # The area under RS(T), T from 0 to 1, is the integral of the share of pairs whose F1 is above
    # T: the mean F1.
    scores["rs_area"] = rouge
    places = {model: np.array([row[p] for p in own], dtype=np.intp) for model, own in given.items()}
    return {
        model: {name: values[index] for name, values in scores.items()}
        for model, index in places.items()
    }


def _accuracy(texts: Texts, shared: _Shared, draw: Draw) -> Columns:
    """ROUGE-L and BLEU over the originals that have a reference."""
    wanted = list(shared.references.values())
    if not wanted:
        return {}
    given = [[own[id_] for id_ in shared.references] for own in texts.values()]
    rouge = [metrics.rouge_l(own, wanted) for own in given]
    mean = np.stack([np.column_stack([scores, np.ones(len(wanted))]) for scores in rouge])
    grams = np.stack([metrics.bleu(own, wanted) for own in given])
    return {
        "rouge_l": (draw(mean, statistics.ratio), 0),
        "bleu": (draw(grams, lambda sums: metrics.corpus_bleu(sums)[..., None]), 0),
    }


def _agreement(
    scores: Mapping[str, Mapping[str, Floats]], pairs: Sequence[_Pair], draw: Draw
) -> Columns:
    """EM, RS, BS and the area under RS(T), resampled over the questions that have pairs."""
    names = tuple(next(iter(scores.values())))
    if not pairs:
        return {}
    _, cluster = np.unique([pair.question for pair in pairs], return_inverse=True)
    sums = [
        np.column_stack(
            [np.bincount(cluster, weights=own[name]) for name in names] + [np.bincount(cluster)]
        )
        for own in scores.values()
    ]
    drawn = draw(np.stack(sums), statistics.ratio)
    return {name: (drawn, index) for index, name in enumerate(names)}


def _row(columns: Columns, model: int) -> dict[str, Any]:
    """The scores of one model and their intervals; null where not scored."""
    values: dict[str, Any] = dict.fromkeys(METRICS)
    intervals: dict[str, Any] = dict.fromkeys(METRICS)
    for name, (drawn, index) in columns.items():
        values[name] = float(drawn.estimates[model, index])
        intervals[name] = drawn.interval(model, index)
    return {**values, "ci": intervals}


def _detectable(columns: Columns) -> dict[str, float | None]:
    found = {name: drawn.detectable(index) for name, (drawn, index) in columns.items()}
    return {name: found.get(name) for name in METRICS}


def _sizes(shared: _Shared) -> dict[str, int]:
    return {
        "n": len(shared.references),
        "pairs": len(shared.pairs),
        "questions": len(shared.questions),
        "without_reference": len(shared.questions) - len(shared.references),
    }


def _by_type(scores: Mapping[str, Floats], pairs: Sequence[_Pair]) -> dict[str, Any]:
    """Mean scores and number of pairs of each kind of rewording."""
    types = np.array([pair.type for pair in pairs])
    return {
        type_: {
            **{
                name: float(scores[name][types == type_].mean()) if name in scores else None
                for name in ("em", "rs", "bs")
            },
            "pairs": int((types == type_).sum()),
        }
        for type_ in sorted({pair.type for pair in pairs})
    }


def _counts(
    own: Mapping[str, str], wordings: Mapping[str, _Pair], shared: _Shared
) -> dict[str, Any]:
    """What a reader must know of one model's answers before believing its row."""
    variations = [wordings[id_] for id_ in own if wordings[id_].question != id_]
    complete = sum(_complete(wording, own) for wording in variations)
    return {
        "empty_answers": sum(not text.strip() for text in own.values()),
        # Answered, but in no letter or digit that ROUGE's tokens know: scored 0 by it.
        "without_tokens": sum(bool(t.strip()) and not metrics.tokenize(t) for t in own.values()),
        "missing_pairs": len(variations) - complete,
        "left_out": {
            "questions": len(own) - len(variations) - len(shared.questions),
            "pairs": complete - len(shared.pairs),
        },
    }


def _set_aside(answers: Sequence[Answer], texts: Texts) -> dict[str, Any]:
    """Answers not scored for their contexts or repeat, and models that have no others."""
    return {
        "answers": len(answers) - sum(len(own) for own in texts.values()),
        "models": sorted({answer.model for answer in answers} - set(texts)),
    }
