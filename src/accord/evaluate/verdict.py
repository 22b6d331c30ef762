"""What a gate decided, and how it is told: in a sentence, a JUnit file, a Markdown summary."""

import html
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

# The columns of the summary, where the scores have them.
MAIN = ("rouge_l", "bleu", "rs", "em", "bs", "containment")
MOST = 100  # times as many questions: beyond it no figure is worth giving


@dataclass(frozen=True)
class _Relation:
    """Which end of the interval decides, how, and how to say so."""

    end: str
    index: int
    holds: Callable[[float, float], bool]
    yes: str
    no: str


RELATIONS = {
    ">=": _Relation("lower", 0, operator.ge, "is at least", "is below"),
    ">": _Relation("lower", 0, operator.gt, "is above", "is not above"),
    "<=": _Relation("upper", 1, operator.le, "is at most", "is above"),
    "<": _Relation("upper", 1, operator.lt, "is below", "is not below"),
}


def interval(ends: Any) -> tuple[float, float] | None:
    """[lo, hi] of SCORES; None unless both are finite numbers."""
    if ends is None or not all(math.isfinite(end) for end in ends):
        return None
    low, high = ends
    return float(low), float(high)


@dataclass(frozen=True)
class Outcome:
    """What became of one clause: `value RELATION limit` for every value in the interval?

    `subject` is what the value is of; a difference is `signed`. `n` counts questions and `pairs`
    pairs of answers, None where not known.
    """

    clause: str
    subject: str
    value: float
    interval: tuple[float, float] | None
    relation: str
    limit: float
    n: int | None = None
    pairs: int | None = None
    signed: bool = False

    @property
    def bound(self) -> float | None:
        """The end of the interval that decides; None without an interval."""
        return None if self.interval is None else self.interval[RELATIONS[self.relation].index]

    @property
    def passed(self) -> bool:
        """Whether the bound is on the right side of the limit; without an interval it is not."""
        return self.bound is not None and RELATIONS[self.relation].holds(self.bound, self.limit)

    @property
    def result(self) -> str:
        """`passed`, `failed`, or `undecided`, which counts as failed."""
        return "undecided" if self.bound is None else "passed" if self.passed else "failed"

    @property
    def misled(self) -> bool:
        """Whether the clause fails though its point value alone would pass."""
        return not self.passed and RELATIONS[self.relation].holds(self.value, self.limit)

    @property
    def decided_by(self) -> str:
        """The deciding end and its value, such as `lower end .371`."""
        if self.bound is None:
            return "no interval"
        return f"{RELATIONS[self.relation].end} end {number(self.bound, self.signed)}"

    @property
    def sentence(self) -> str:
        """The outcome for people, with the way out where it is not plain."""
        value = number(self.value, self.signed)
        if self.bound is None:
            point = "; the point value alone would pass" if self.misled else ""
            return (
                f"{self.subject} is {value}{_size(self)} without an interval, which needs at least "
                f"two questions with a score: undecided, which counts as failed{point}"
            )
        relation = RELATIONS[self.relation]
        digits = _digits_apart(self.bound, self.limit)
        bound, limit = (number(x, self.signed, digits) for x in (self.bound, self.limit))
        return (
            f"{self.subject} is {value} {_ends(self)}{_size(self)}: the {relation.end} end {bound} "
            f"{relation.yes if self.passed else relation.no} {limit}{_help(self)}"
        )


@dataclass(frozen=True)
class Verdict:
    """The outcomes of all clauses for one model; `sizes` are its n, pairs and questions."""

    model: str
    outcomes: tuple[Outcome, ...]
    sizes: Mapping[str, int]

    @property
    def passed(self) -> bool:
        """Whether every clause passed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The clauses that did not pass."""
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    @property
    def headline(self) -> str:
        """The verdict in a few words, without the model's name."""
        total = len(self.outcomes)
        count = f"{total} clause{'' if total == 1 else 's'}"
        return f"passed, {count}" if self.passed else f"failed, {len(self.failures)} of {count}"


def number(value: float, signed: bool = False, digits: int = 3) -> str:
    """A fraction as `.412`, a difference as `+.012`; no sign where it rounds to zero."""
    shown = f"{abs(value):.{digits}f}"
    zero = not shown.strip("0.")
    sign = "" if zero else "-" if value < 0 else "+" if signed else ""
    return sign + (shown[1:] if shown.startswith("0.") else shown)


def _digits_apart(first: float, second: float) -> int:
    """How many digits, from 3 to 17, show two numbers as different."""
    shown = (d for d in range(3, 17) if number(first, digits=d) != number(second, digits=d))
    return 3 if first == second else next(shown, 17)


def _ends(outcome: Outcome) -> str:
    ends = outcome.interval or ()
    return f"[{', '.join(number(end, outcome.signed) for end in ends)}]" if ends else "-"


def _size(outcome: Outcome) -> str:
    counts = [
        f"{count:,} {noun}{'' if count == 1 else 's'}"
        for count, noun in ((outcome.pairs, "pair"), (outcome.n, "question"))
        if count is not None
    ]
    return f" on {' of '.join(counts)}" if counts else ""


def _help(outcome: Outcome) -> str:
    """What to do where the point passes and the bound does not.

    An interval narrows with the square root of the number of questions: for its end to come from
    where it is to the limit, there must be ((value - bound) / (value - limit))^2 times as many.
    """
    if not outcome.misled or outcome.bound is None:
        return ""
    said = "; the point value alone would pass, but the interval does not show it: "
    if outcome.value == outcome.limit:
        return said + "it stands at the limit itself, where more questions do not help"
    # Only orders of magnitude of the ratio count: the division of two tiny gaps may overflow.
    times = min(abs((outcome.value - outcome.bound) / (outcome.value - outcome.limit)), MOST) ** 2
    if times > MOST:
        return said + f"more than {MOST} times as many questions would be needed"
    step = 10 if times < 10 else 1
    times = max(math.ceil(times * step) / step, 1.1)
    total = "" if outcome.n is None else f" (some {times * outcome.n:,.0f})"
    return said + f"about {times:g} times as many questions{total} would, if the value stays"


def junit(verdict: Verdict) -> str:
    """JUnit XML, one test case a clause, as Jenkins' schema junit-10.xsd has it.

    It holds no times and no host: the same verdict gives the same bytes. Characters that XML 1.0
    forbids are shown as escapes such as \\x1b.
    """
    total, failed = str(len(verdict.outcomes)), str(len(verdict.failures))
    counts = {"tests": total, "failures": failed, "errors": "0"}
    root = ET.Element("testsuites", counts)
    name = visible(f"accord gate: {verdict.model}")
    suite = ET.SubElement(root, "testsuite", {"name": name, **counts, "skipped": "0"})
    properties = ET.SubElement(suite, "properties")
    for key, value in {"model": verdict.model, **verdict.sizes}.items():
        ET.SubElement(properties, "property", {"name": key, "value": visible(str(value))})
    for outcome in verdict.outcomes:
        _case(suite, outcome, verdict.model)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(suite: ET.Element, outcome: Outcome, model: str) -> None:
    # A dot would part the model's name into a package and a class.
    names = {"name": outcome.clause, "classname": f"accord.gate.{model.replace('.', '_')}"}
    case = ET.SubElement(suite, "testcase", {k: visible(v) for k, v in names.items()})
    sentence = visible(outcome.sentence)
    if outcome.passed:
        ET.SubElement(case, "system-out").text = sentence
        return
    failure = ET.SubElement(case, "failure", {"message": sentence, "type": outcome.result})
    failure.text = visible(f"{outcome.clause}\n{outcome.sentence}")


# All but tab, newline and what XML 1.0, section 2.2, allows; also what is lost or acts in a text:
# carriage return, the C1 controls, and marks that turn the direction of writing.
_INVISIBLE = re.compile(
    "[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    "|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    """`text` with control characters and lone surrogates as escapes such as \\x1b."""
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def markdown(verdict: Verdict, scores: Mapping[str, Any]) -> str:
    """A summary for a pull request: the verdict, its clauses, all models, what the numbers are."""
    lines = [f"### accord gate {verdict.headline}: {_code(verdict.model)}", ""]
    header = ("clause", "value", "95 % interval", "decided by", "result")
    lines += _table(header, [_cells(outcome) for outcome in verdict.outcomes])
    lines += [f"- {escape(outcome.sentence)}" for outcome in verdict.failures]
    lines += [f"- {escape(warning)}" for warning in scores.get("warnings") or ()]
    lines += [""] if lines[-1] else []
    lines += _models(verdict, scores["models"])
    return "\n".join([*lines, *_signatures(verdict, scores)]).rstrip() + "\n"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    value = number(outcome.value, outcome.signed)
    result = "passed" if outcome.passed else f"**{outcome.result}**"
    return _code(outcome.clause), value, _ends(outcome), outcome.decided_by, result


def _models(verdict: Verdict, models: Mapping[str, Any]) -> list[str]:
    shown = [metric for metric in MAIN if metric in models[verdict.model]]
    rows = []
    for name, row in models.items():
        title = f"**{_code(name)}**" if name == verdict.model else _code(name)
        sizes = [str(row.get(size, "-")) for size in ("n", "pairs")]
        rows.append((title, *(_score(row, metric) for metric in shown), *sizes))
    return _table(("model", *shown, "n", "pairs"), rows)


def _score(row: Mapping[str, Any], metric: str) -> str:
    if row.get(metric) is None:
        return "-"
    ends = interval((row.get("ci") or {}).get(metric))
    shown = f" [{number(ends[0])}, {number(ends[1])}]" if ends else ""
    return number(row[metric]) + shown


def _signatures(verdict: Verdict, scores: Mapping[str, Any]) -> list[str]:
    known = scores.get("signatures") or {}
    shown = [m for m in MAIN if m in scores["models"][verdict.model] and m in known]
    parts = [f"{metric}: {escape(str(known[metric]))}" for metric in shown]
    return [f"What the numbers are: {'; '.join(parts)}."] if parts else []


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of GitHub Flavored Markdown, with an empty line after it."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines] + [""]


_MARKUP = re.compile(r"[\\`*|\[~@#$]|:(?=\w)|(?<![^\W_])_|_(?![^\W_])")


def escape(text: str) -> str:
    """`text` as itself in one line of Markdown: signs of markup as HTML entities.

    A backslash would do in a paragraph, but renderers differ on it in front of a table's `|`.
    """
    line = html.escape(visible(text).replace("\n", " ").replace("\t", " "), quote=False)
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", line)


def _code(text: str) -> str:
    # Not backticks: entities are not read between them. In code, GitHub notifies no `@name`.
    return f"<code>{escape(text)}</code>"
