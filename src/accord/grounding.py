"""The passages of all wordings of a run: the user's own, or what is found for each query.

The query that is searched for is the wording as it is asked, or its canonical form, while the model
reads the user's words. The rows NAME+canonical are asked the form, so it is searched for as well.
A lexical index must see the words of passages as the form has them: `by_word`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.canonical_rows import canonical_form
from accord.config import Retrieve
from accord.progress import Progress
from accord.records import Grounded, Passage, Wording
from accord.retrieve.asking import Encode
from accord.retrieve.preflight import WITHOUT, goes_without, needs_collection
from accord.retrieve.stage import retrieve
from accord.vary.canonical_words import read

Say = Callable[[str], object]


@dataclass(frozen=True)
class Search:
    """Retrieval as the config's section says; `folder` keeps what was found until all is done."""

    settings: Retrieve
    passages: Sequence[Passage]
    encode: Encode | None
    folder: Path
    say: Say
    progress: Progress

    def find(self, asked: Sequence[Wording], *, canonical: bool) -> list[Grounded]:
        """The passages of each wording, in order; `canonical`: their queries are forms."""
        apart = canonical and self.settings.query == "own"  # for the rows NAME+canonical
        journal = self.folder / ("found.canonical.jsonl" if apart else "found.jsonl")
        return retrieve(
            asked,
            self.passages,
            retriever=self.settings.type,
            k=self.settings.k,
            options=self.settings.options,
            encode=self.encode,
            level=by_word if canonical else None,
            journal=journal,
            say=lambda note: self.say(f"canonical queries: {note}" if apart else note),
            progress=self.progress,
        )

    def without(self, asked: Sequence[Wording], given: Sequence[Grounded]) -> bool:
        """Whether there is nothing to search, and nobody is meant to have passages."""
        searches = needs_collection(self.settings.type, self.settings.options)
        return searches and goes_without(asked, self.passages, given)

    def end(self) -> None:
        """Remove what was kept against a kill."""
        for file in self.folder.glob("found.*"):
            file.unlink()


def by_word(text: str) -> str:
    """The words of a passage reduced as `canonical` reduces those of a query.

    Frames and articles stay: they are the canonicaliser's business with questions, not passages.
    """
    return " ".join(read(token).text for token in text.lower().split())


def ground(
    asked: Sequence[Wording],
    test: Sequence[Wording],
    given: Sequence[Grounded],
    search: Search,
) -> tuple[list[Grounded], list[Grounded] | None]:
    """(contexts of `asked`, contexts of the canonical forms of `test`), in their orders.

    `given`: passages that the user brings, used as they are. There are no contexts of the forms,
    None, where a test wording has such: another retriever found them, so that a row with them and
    one without would differ in more than the query. Where there is nothing to search, and all is
    put as it is, nobody has passages.
    """
    say, canonical = search.say, search.settings.query == "canonical"
    if search.without(asked, given):
        say(WITHOUT)
        bare = {w.id: Grounded(id=w.id, original_id=w.original_id, passages=()) for w in asked}
        return list(bare.values()), [bare[w.id] for w in test]
    brought = _brought(asked, given, say)
    open_ = [w for w in asked if w.id not in brought]
    searched = canonical_form(open_) if canonical else open_
    found = search.find(searched, canonical=canonical) if searched else []
    by_id = brought | {g.id: g for g in found}
    contexts = [by_id[w.id] for w in asked]
    if any(w.id in brought for w in test):
        say(
            "the rows NAME+canonical are left out: test wordings have passages of data.contexts, "
            "and their canonical queries could only be searched by another retriever"
        )
        return contexts, None
    if canonical:
        return contexts, [by_id[w.id] for w in test]
    return contexts, search.find(canonical_form(test), canonical=True) if test else []


def with_texts(
    grounded: Sequence[Grounded], collection: Sequence[Passage]
) -> dict[str, list[Passage]]:
    """The passages of each wording by id: with the retriever's own text, else the collection's."""
    by_id = {p.id: p for p in collection}
    return {
        g.id: [
            Passage.model_validate(ranked.model_dump(exclude={"score"}))
            if "text" in (ranked.model_extra or {})
            else by_id[ranked.id]
            for ranked in g.passages
        ]
        for g in grounded
    }


def _brought(asked: Sequence[Wording], given: Sequence[Grounded], say: Say) -> dict[str, Grounded]:
    """The user's contexts of what is asked, by id."""
    wanted = {w.id for w in asked}
    used = {g.id: g for g in given if g.id in wanted}
    unused = [g.id for g in given if g.id not in wanted]
    if given:
        say(
            f"data.contexts: {len(used)} of {len(asked)} wordings have the passages given there, "
            f"{len(asked) - len(used)} are retrieved"
        )
    if unused:
        say(f"data.contexts: {len(unused)} entries are of no wording asked (first: `{unused[0]}`)")
    return used
