"""A gate for CI: whether a model's scores show, beyond their noise, what an expression asks.

    gate   = clause { "and" clause }
    clause = metric (">=" | ">" | "<=" | "<") number
           | metric "not worse than" name "by" number
           | metric "better than" name ["by" number]

A clause is decided on the unfavourable end of a 95 % interval: `rs >= 0.40` passes if the lower end
is at least .40. `not worse than` is a test of non-inferiority (Piaggio et al. 2012, JAMA 308:2594).
A gate passes if every clause does, which needs no correction for their number: what should fail
passes with a chance of at most 2.5 %, that of one clause (intersection-union test, Berger 1982).
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from accord.errors import InputError
from accord.evaluate.verdict import RELATIONS, Outcome, Verdict, interval
from accord.registry import suggest

BASELINE = "BASELINE"  # the keyword; a model called `baseline` is named in quotes
ACCURACY = ("rouge_l", "bleu")  # over questions where SCORES do not say which metrics are
EXAMPLE = "`rs >= 0.40`"
_TOKEN = re.compile(
    r"""(?P<quote>['"`])((?P=quote){2}|(?!(?P=quote)).)*(?P=quote)"""  # doubled within quotes
    r"""|[<>=≤≥≠!~]+|%|[^\s<>=≤≥≠!~%'"`]+""",
    re.DOTALL,
)
_METRIC = re.compile(r"[\w+-]+(\.[\w+-]+)*")
_NAME = re.compile(r"[\w.+/-]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")
Difference = Callable[[str, str], Mapping[str, Any] | None]
_COMPARISONS = {"not worse than": ">=", "better than": ">"}  # of the difference with its limit


@dataclass(frozen=True)
class Clause:
    """One condition. `amount` is a threshold, or with `versus`, a model's name, a margin."""

    metric: str
    relation: str
    amount: float
    versus: str | None = None

    @property
    def limit(self) -> float:
        """What the deciding end of the interval is compared with; 0 is never negative."""
        return 0.0 - self.amount if self.relation == "not worse than" else self.amount

    def __str__(self) -> str:
        """The clause as `parse` reads it."""
        amount = f"{Decimal(repr(self.amount)).normalize():f}"
        if self.versus is None:
            return f"{self.metric} {self.relation} {amount}"
        return f"{self.metric} {self.relation} {_quote(self.versus)} by {amount}"


def _quote(name: str) -> str:
    keyword = name != BASELINE and name.upper() in {"AND", "BY", BASELINE}
    return name if _NAME.fullmatch(name) and not keyword else "'" + name.replace("'", "''") + "'"


@dataclass(frozen=True)
class _Token:
    """A word, operator or quoted name, and where it starts in the expression, from 0."""

    text: str
    start: int
    name: str | None = None  # what stands between the quotes

    def says(self, word: str) -> bool:
        return self.name is None and self.text.lower() == word


def _error(message: str, where: str = "--gate") -> InputError:
    """One line, whatever line breaks the expression has."""
    return InputError(re.sub(r"\s", " ", f"{where}: {message}"))


def parse(expression: str, *, metrics: Iterable[str] = ()) -> tuple[Clause, ...]:
    """The clauses of a gate; words in any case, names also in quotes ('...', "..." or backticks).

    Numbers are fractions: 0.40, .4, 40%. `metrics` are the names that the last part of a metric's
    path may have; empty leaves that to `decide`.
    Raises InputError naming the clause, what was found where, and what would be right.
    """
    groups: list[list[_Token]] = [[]]
    for token in _tokens(expression):
        if token.says("and"):
            groups.append([])
        else:
            groups[-1].append(token)
    known = tuple(metrics)
    if not all(groups):
        where = "beside `and`" if len(groups) > 1 else "in it"
        raise _error(f"`{expression}`: a clause is wanted {where}, as in {EXAMPLE}")
    return tuple(_Reader(expression, tokens).clause(known) for tokens in groups)


def _tokens(expression: str) -> list[_Token]:
    found, place = [], 0
    while rest := expression[place:].lstrip():
        place = len(expression) - len(rest)
        match = _TOKEN.match(expression, place)
        if match is None:
            where = f"character {place + 1} of `{expression}`"
            raise _error(f"the quote {rest[0]} at {where} is not closed; close it or leave it out")
        name, quote = match[0][1:-1], match["quote"]
        found.append(_Token(match[0], place, name.replace(quote * 2, quote) if quote else None))
        place = match.end()
    return found


class _Reader:
    """The tokens of one clause, read from left to right."""

    def __init__(self, expression: str, tokens: Sequence[_Token]) -> None:
        last = tokens[-1]
        self.tokens, self.place = tokens, 0
        self.text = expression[tokens[0].start : last.start + len(last.text)]

    def clause(self, known: Sequence[str]) -> Clause:
        """The clause; all of its tokens must belong to it."""
        metric = self._metric(known)
        relation = self._relation()
        versus = self._name() if relation in _COMPARISONS else None
        amount = 0.0
        if versus is None or self._takes("by"):
            amount = self._number(margin=versus is not None)
        elif relation == "not worse than":
            raise self._refuse("`by` and the margin are wanted, as in `by 0.01`")
        if self._next() is not None:
            raise self._refuse("the clause ends before it; clauses are joined by `and`")
        return Clause(metric, relation, amount, versus)

    def _next(self) -> _Token | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def _takes(self, words: str) -> bool:
        """Whether these words come next; if so, they are read."""
        wanted = words.split()
        coming = self.tokens[self.place : self.place + len(wanted)]
        if len(coming) < len(wanted) or not all(map(_Token.says, coming, wanted)):
            return False
        self.place += len(wanted)
        return True

    def _refuse(self, wanted: str) -> InputError:
        """The error for the token that comes next, or for the end."""
        token = self._next()
        found = f"found `{token.text}` at character {token.start + 1}" if token else "found its end"
        return _error(f"in `{self.text}`: {found}; {wanted}")

    def _metric(self, known: Sequence[str]) -> str:
        text = self.tokens[0].text
        if not _METRIC.fullmatch(text) or _NUMBER.fullmatch(text):
            raise self._refuse(f"a metric comes first, as in {EXAMPLE}")
        last = text.rsplit(".", 1)[-1]
        if known and last not in known:
            raise self._refuse(f"no metric `{last}`; {suggest(last, known)}")
        self.place += 1
        return text

    def _relation(self) -> str:
        for relation in (*RELATIONS, *_COMPARISONS):
            if self._takes(relation):
                return relation
        if any(token.text in {"=", "=="} for token in self.tokens[1:2]):
            raise self._refuse("no interval can show equality; use >= or <=")
        raise self._refuse("one of >=, >, <=, <, `not worse than`, `better than` is wanted")

    def _name(self) -> str:
        token = self._next()
        if token is None or token.says("by") or not (token.name or _NAME.fullmatch(token.text)):
            raise self._refuse(f"{BASELINE} or a model's name is wanted; other signs need quotes")
        self.place += 1
        return token.name or (BASELINE if token.says(BASELINE.lower()) else token.text)

    def _number(self, margin: bool) -> float:
        token = self._next()
        if token is None or not _NUMBER.fullmatch(token.text):
            hint = "" if margin else "; models are compared by `not worse than` or `better than`"
            raise self._refuse(f"a number such as 0.40 or 40% is wanted{hint}")
        percent = any(after.text == "%" for after in self.tokens[self.place + 1 :][:1])
        value = Decimal(token.text) / (100 if percent else 1)
        if not 0 <= value <= 1:
            what = "margin" if margin else "score"
            raise self._refuse(f"a {what} is a fraction from 0 to 1, as in 0.40 or 40%")
        self.place += 2 if percent else 1
        return abs(float(value))  # no -0.0


def decide(
    clauses: Sequence[Clause], scores: Mapping[str, Any], model: str, difference: Difference
) -> Verdict:
    """What the clauses say of one model of SCORES.

    `difference(metric, name)` is the paired difference of `model` and another model of the table or
    BASELINE: {"difference": float, "ci": [lo, hi] | None, "n": int}, or None where it is not known.
    Raises InputError for a model, metric or difference that the scores lack, and for null scores.
    """
    models = scores["models"]
    _check_model(model, models, "--gate-model")
    row = models[model]
    sizes = {name: row[name] for name in ("questions", "n", "pairs") if name in row}
    return Verdict(model, tuple(_decide(c, scores, model, difference) for c in clauses), sizes)


def choose_model(names: Sequence[str], wanted: str | None) -> str:
    """The model that is gated: `wanted`, else `Merged`, else the only one.

    Raises InputError listing the models where that names none.
    """
    if wanted is not None:
        _check_model(wanted, names, "--gate-model")
        return wanted
    if "Merged" in names or len(names) == 1:
        return "Merged" if "Merged" in names else names[0]
    shown = ", ".join(f"`{name}`" for name in names) or "no model"
    raise _error(f"the scores have {shown}; give --gate-model, the one to judge")


def _check_model(name: str, names: Collection[str], where: str) -> None:
    if name not in names:
        raise _error(f"no model `{name}` in the scores; {suggest(name, names)}", where)


def _decide(
    clause: Clause, scores: Mapping[str, Any], model: str, difference: Difference
) -> Outcome:
    row = scores["models"][model]
    accuracy = scores.get("signatures", {}).get("metrics", {}).get("accuracy", ACCURACY)
    block, metric = _find(clause, row, model, accuracy)
    if clause.versus is not None:
        found = _compare(clause, clause.versus, scores["models"], model, difference)
        what = f"{clause.metric} minus that of `{clause.versus}`"
        value, ends, n = found["difference"], interval(found["ci"]), found["n"]
        relation = _COMPARISONS[clause.relation]
        return Outcome(str(clause), what, value, ends, relation, clause.limit, n, signed=True)
    ends = interval((block.get("ci") or {}).get(metric))
    pairs = None if block is row and metric in accuracy else block.get("pairs")
    n = block.get("n") if pairs is None else block.get("questions", block.get("n"))
    what, value = clause.metric, block[metric]
    return Outcome(str(clause), what, value, ends, clause.relation, clause.limit, n, pairs)


def _compare(
    clause: Clause, name: str, models: Collection[str], model: str, difference: Difference
) -> Mapping[str, Any]:
    where = f"`{clause}`"
    if name == model:
        raise _error(f"{where}: compares `{model}` with itself; name another model")
    if name != BASELINE:
        _check_model(name, models, f"--gate: {where}")
    found = difference(clause.metric, name)
    if found is None and name == BASELINE:
        raise _error(f"{where}: no {name} with this score is given; quote it if it is a model")
    if found is None:
        raise _error(f"{where}: this score is not compared with `{name}`; use another")
    return found


def _find(
    clause: Clause, row: Mapping[str, Any], model: str, accuracy: Collection[str]
) -> tuple[Mapping[str, Any], str]:
    """The block of SCORES that holds a clause's metric, and its name there."""
    paths, path = _paths(row), clause.metric
    if path not in paths:
        # The nearest of those below it, else of those as deep: `rss` is not `worst.rs`.
        below = [p for p in paths if p.startswith(f"{path}.")]
        level = [p for p in paths if p.count(".") == path.count(".")]
        near = suggest(path, below or level or paths)
        raise _error(f"`{clause}`: the scores of `{model}` have no `{path}`; {near}")
    block, metric = paths[path]
    if block[metric] is None or block[metric] != block[metric]:
        why = _why_unscored(metric, accuracy)
        raise _error(f"`{clause}`: `{path}` of `{model}` is unscored: {why}")
    return block, metric


def _paths(block: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Mapping[str, Any], str]]:
    """Every score in and below `block` by its path; whole numbers are counts."""
    found: dict[str, tuple[Mapping[str, Any], str]] = {}
    for key, value in block.items():
        if isinstance(value, Mapping) and key != "ci":
            found |= _paths(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, float):
            found[f"{prefix}{key}"] = (block, key)
    return found


def _why_unscored(metric: str, accuracy: Collection[str]) -> str:
    if metric in ("bs", "bertscore"):
        return "it needs an encoder; give one with `--encoder`, or leave the clause out"
    if metric in accuracy:
        return "it needs reference answers; give questions an `answer`, or leave the clause out"
    return "it needs pairs of an original and a variation; have variations answered too"
