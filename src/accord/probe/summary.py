"""One page in Markdown for whoever asked "how inconsistent are we?"."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accord.evaluate.attributed import percent
from accord.evaluate.shown import counted

SHOWN, DISTINCT, LONGEST = 3, 4, 400  # questions, answers of each, characters of one
_NONE_KEPT = "it cannot be told: no rewording kept its passages, and they could not be held fixed"


def page(scores: Mapping[str, Any], name: str) -> str:
    """The page of one model's SCORES, with what the probe says of itself under `probe`."""
    row = scores["models"][name]
    blocks = [
        f"# How consistent is {_plain(name)}?",
        " ".join(headline(scores, name)),
        *_where(row),
        *_kinds(row),
        *_worst(row),
        *_asked(scores),
    ]
    return "\n\n".join(blocks) + "\n"


def headline(scores: Mapping[str, Any], name: str) -> list[str]:
    """The sentences that answer the question."""
    row = scores["models"][name]
    if not row["pairs"]:
        return ["No question has an answer both to itself and to a rewording: nothing is known."]
    said = [
        f"{counted(row['questions'], 'question')} asked in {row['pairs']:,} other wordings.",
        f"{_share(row, 'em')} of the rewordings got the very same answer, "
        f"{_share(row, 'rs')} a similar one (RS, ROUGE-L above {_threshold(scores)}).",
    ]
    if (floor := (row.get("noise_floor") or {}).get("rs")) is not None:
        said.append(f"The same wording asked again got a similar answer in {_percent(floor)}.")
    return said


def where_from(row: Mapping[str, Any]) -> str:
    """Where the inconsistency comes from, in a sentence and what it rests on."""
    own = row["attribution"]
    said = own.get("sentence")
    if not said and own["how"] == "observed":
        return f"Where it comes from: {_NONE_KEPT}."
    return f"{said} ({own['note']})" if said else f"Where it comes from: {own['note']}."


def _where(row: Mapping[str, Any]) -> Iterator[str]:
    yield "## Is it retrieval or the model?"
    yield _plain(where_from(row))
    retriever = row["attribution"].get("retriever") or {}
    if retriever.get("jaccard") is not None:
        first = retriever.get("same_first")
        shown = f", the same first one in {_percent(first)}" if first is not None else ""
        yield (
            f"A rewording shares {_percent(retriever['jaccard'])} of its passages with the "
            f"original (mean Jaccard){shown}."
        )


def _kinds(row: Mapping[str, Any]) -> Iterator[str]:
    kinds = row["by_type"]
    if not kinds:
        return
    parts = row["attribution"].get("by_type") or {}
    lines = [
        "| kind of rewording | pairs | same answer | similar (RS) | retrieval's share |",
        "|---|--:|--:|--:|--:|",
    ]
    for kind, own in sorted(kinds.items(), key=lambda item: (item[1].get("rs") or 0, item[0])):
        found = parts.get(kind, {}).get("metrics", {}).get("rs", {})
        cells = [_cell(kind), f"{own['pairs']:,}", _share(own, "em"), _share(own, "rs")]
        lines.append(f"| {' | '.join([*cells, percent(found, 'retriever_share')])} |")
    yield "## By kind of rewording, the worst first"
    yield "\n".join(lines)


def _worst(row: Mapping[str, Any]) -> Iterator[str]:
    found = row.get("worst_questions") or []
    if found:
        yield "## The least consistent questions"
    for question in found[:SHOWN]:
        answers = question["answers"]
        yield f"**{_cell(answers[0]['query'])}**"
        lines = ["| asked as | answer |", "|---|---|"]
        groups = _grouped(answers)
        for text, queries in groups[:DISTINCT]:
            asked = "<br>".join(_cell(query) for query in queries)
            lines.append(f"| {asked} | {_cell(_cut(text)) or '(empty)'} |")
        yield "\n".join(lines)
        if len(groups) > DISTINCT:
            yield f"... and {len(groups) - DISTINCT} more answers to this question."


def _grouped(answers: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Each distinct answer with the wordings that got it, in the order they were asked."""
    found: dict[str, list[str]] = {}
    for answer in answers:
        found.setdefault(answer["answer"], []).append(answer["query"])
    return list(found.items())


def _asked(scores: Mapping[str, Any]) -> Iterator[str]:
    counts = scores["probe"]
    lines = [f"- {counts['answered']:,} of {counts['asked']:,} answers came from {counts['url']}."]
    lines += [f"- Missing: {count:,} x {reason}." for reason, count in counts["failed"].items()]
    if counts["truncated"]:
        lines.append(f"- Cut off at the length limit: {counts['truncated']:,} answers.")
    if counts["empty"]:
        lines.append(f"- Empty: {counts['empty']:,}; two empty answers count as the same.")
    lines += [f"- {warning[:1].upper()}{warning[1:]}." for warning in scores["warnings"]]
    yield "## What this rests on"
    yield _plain("\n".join(lines))


def _share(row: Mapping[str, Any], name: str) -> str:
    value, ends = row.get(name), (row.get("ci") or {}).get(name)
    if value is None:
        return "-"
    if ends is None:
        return _percent(value)
    return f"{_percent(value)} [{round(100 * ends[0])}-{round(100 * ends[1])}]"


def _percent(value: float) -> str:
    return f"{round(100 * value)} %"


def _threshold(scores: Mapping[str, Any]) -> str:
    found = scores["signatures"].get("T")
    return f"{found}".removeprefix("0") if found is not None else "T"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _cell(text: str) -> str:
    """A text in a cell of a table: one line, and nothing that Markdown or HTML would take up."""
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """A text without what Markdown or HTML would take for markup."""
    text = text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "`*_[]#>":
        text = text.replace(mark, f"\\{mark}")
    return text
