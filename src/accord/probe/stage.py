"""The whole probe: wordings, passages, answers, scores, and a page to hand on."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.errors import RunError
from accord.evaluate.shown import counted
from accord.evaluate.verdict import Verdict
from accord.measure.gating import Gate, Gatekeeper
from accord.measure.scores import evaluate_files
from accord.measure.sources import Measures
from accord.probe.client import ENDED, Client
from accord.probe.interview import Interview
from accord.probe.ledger import Files, Ledger
from accord.probe.plan import held_asks, own_asks
from accord.probe.summary import page
from accord.probe.target import Patience, Target
from accord.probe.wordings import Wordings, read_wordings
from accord.progress import SILENT, Progress
from accord.records import Passage, Wording, read_records, require_unique, write_json, write_text
from accord.retrieve.stage import retrieve


@dataclass(frozen=True)
class Asking:
    """What is asked: `variations` of None are made by rule; `limit` takes the first questions."""

    qa: Path
    variations: Path | None = None
    repeat: int = 1
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Probed:
    """What came of it: `scores` as SCORES holds it, `failed` by reason how many are missing."""

    scores: dict[str, Any]
    verdict: Verdict | None
    page: Path
    failed: Counter[str]

    @property
    def asked(self) -> int:
        """How many answers were wanted."""
        return int(self.scores["probe"]["asked"])

    @property
    def missing(self) -> int:
        """How many of them there are not."""
        return sum(self.failed.values())


def probe(
    target: Target,
    asking: Asking,
    out: Path,
    measures: Measures,
    *,
    patience: Patience | None = None,
    gate: str | None = None,
    force: bool = False,
    say: Callable[[str], object] = lambda note: None,
    watch: Callable[[str], Progress] = lambda label: SILENT,
) -> Probed:
    """Ask an endpoint every wording, score its answers, and write SCORES and what lies beside it.

    Answers that are there are kept; those that are missing are asked for, unless `force` starts
    anew. `say` is told what a person should know, `watch` opens the progress of a piece of work.
    What still fails is missing, written down and counted, and the rest is scored.

    Raises InputError for what cannot be asked, RunError where nothing at all was answered.
    """
    files = Files(out)
    # Before anything is asked: the answers would be there, and nowhere to put the scores.
    read = [asking.qa, asking.variations, target.passages, target.prompt]
    files.require_room(read, made=asking.variations is None)
    client = Client(target, patience or Patience(), _passages(target.passages))
    keeper = Gate(gate, summary=files.verdict) if gate else None
    _find_errors(keeper, measures)
    words = _words(asking, files, say, watch)
    retrieved = _retrieve(client, words, measures, say, watch)
    own = own_asks(words.questions, words.variations, asking.repeat)
    held = held_asks(own) if client.held else []
    say(_plan(client, words, len(own) + len(held)))
    ledger = Ledger(files, client.settings(), words.queries, force=force)
    try:
        with watch("ask") as progress:
            interview = Interview(client, ledger, retrieved, progress)
            interview.hold(own, held)
    finally:
        ledger.close()
    if not ledger.answers:
        raise RunError(f"probe: no answer at all; {reasons(interview.failed)}")
    counts = _counts(client, ledger, interview.failed, len(own) + len(held))
    with watch("evaluate") as progress:
        scores, verdict = evaluate_files(
            [files.answers], [asking.qa], out, measures, gate=keeper, progress=progress
        )
    scores["probe"] = counts
    write_json(out, scores)
    write_text(files.page, page(scores, client.name))
    return Probed(scores, verdict, files.page, interview.failed)


def _find_errors(gate: Gate | None, measures: Measures) -> None:
    """Raise InputError for a gate or an encoder that is none, before anything is asked."""
    if gate:
        Gatekeeper(gate, measures)
    _ = measures.resources


def reasons(failed: Mapping[str, int]) -> str:
    """`12 failed: 7 timeout, 3 status 500, 2 HTML instead of JSON`, the most frequent first."""
    ranked = sorted(failed.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count:,} {reason}" for reason, count in ranked)
    return f"{sum(failed.values()):,} failed: {shown}"


def _passages(path: Path | None) -> list[Passage]:
    if path is None:
        return []
    passages = read_records(path, Passage)
    require_unique(passages, str(path))
    return passages


def _words(
    asking: Asking,
    files: Files,
    say: Callable[[str], object],
    watch: Callable[[str], Progress],
) -> Wordings:
    with watch("vary") as progress:
        words = read_wordings(
            asking.qa,
            asking.variations,
            files.variations,
            limit=asking.limit,
            seed=asking.seed,
            progress=progress,
        )
    for note in words.notes:
        say(note)
    return words


def _retrieve(
    client: Client,
    words: Wordings,
    measures: Measures,
    say: Callable[[str], object],
    watch: Callable[[str], Progress],
) -> dict[str, tuple[str, ...]]:
    """The passages of each wording, where they are retrieved here."""
    if client.how != "retrieved":
        return {}
    originals = ((q.id, q.id, None, q.query) for q in words.questions)
    variations = ((v.id, v.original_id, v.type, v.query) for v in words.variations)
    wordings = [
        Wording(id=id_, original_id=of, type=kind, query=query, split="test")
        for id_, of, kind, query in (*originals, *variations)
    ]
    target = client.target
    with watch("retrieve") as progress:
        found = retrieve(
            wordings,
            list(client.passages.values()),
            retriever=target.retriever,
            k=target.k,
            encode=measures.resources.encode,
            say=say,
            progress=progress,
        )
    return {grounded.id: tuple(p.id for p in grounded.passages) for grounded in found}


def _plan(client: Client, words: Wordings, requests: int) -> str:
    how = {
        "returned": "each variation is asked again with the passages that its original got",
        "retrieved": "passages are retrieved here; each variation is asked with its own and with "
        "those of its original",
        "reported": "passages are known but cannot be held fixed",
        "unknown": "no passages are known, so where the inconsistency comes from stays open",
    }[client.how]
    return (
        f"{counted(len(words.questions), 'question')}, "
        f"{counted(len(words.variations), 'variation')}, {counted(requests, 'answer')} wanted of "
        f"{client.address.url}; {how}"
    )


def _counts(client: Client, ledger: Ledger, failed: Counter[str], asked: int) -> dict[str, Any]:
    """What SCORES says of the asking itself."""
    answers = ledger.answers.values()
    missing = sum(failed.values())
    return {
        "url": client.address.url,
        "passages": client.how,
        "asked": asked,
        "answered": asked - missing,
        "missing": missing,
        "failed": dict(failed.most_common()),
        "empty": sum(not answer.answer.strip() for answer in answers),
        "truncated": sum((answer.model_extra or {}).get(ENDED) == "length" for answer in answers),
    }
