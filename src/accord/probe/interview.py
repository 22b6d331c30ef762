"""Asking it all: first one request that must work, then the rest, each answer kept as it comes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from accord.errors import AccordError, InputError
from accord.models.asking import STOPPED
from accord.models.posting import NO_ROUTE, NOT_FOUND, REFUSED, TIMEOUT
from accord.models.service import Result, Service
from accord.probe.client import ANSWER, ENDED, IDS, Client
from accord.probe.ledger import Ledger
from accord.probe.plan import Ask, originals
from accord.progress import Progress

NOT_HELD = "other passages came back than were handed over"
NO_ORIGINAL = "its original has no answer"
# What is so for one question is so for all of them.
_FOR_ALL = (NO_ROUTE, TIMEOUT, REFUSED, NOT_FOUND)
_FIRST, _FIRST_TRIES = 3, 2


class Interview:
    """Asks a client, and keeps in the ledger what it says.

    `retrieved`: the passages of each wording by id, where they are retrieved here.
    """

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        retrieved: Mapping[str, tuple[str, ...]],
        progress: Progress,
    ) -> None:
        self.client, self.ledger, self.retrieved = client, ledger, retrieved
        self.progress, self.failed = progress, Counter[str]()
        self.originals = originals(ledger.answers)

    def hold(self, own: Sequence[Ask], held: Sequence[Ask]) -> None:
        """Ask all that has no answer yet: `own`, then `held` with the passages of the originals.

        Raises what makes it useless to begin: InputError or RunError that says what came back.
        """
        total = [*own, *held]
        self._must_work(own, held)
        self.progress.start(len(total), "answers")
        self.progress.advance(len(total) - len(self.ledger.todo(total)))
        self._ask(self.client.own, self.ledger.todo(own))
        todo = self.ledger.todo(held)
        for ask in todo:
            if ask.question not in self.originals:
                self._fail(ask, Result(None, NO_ORIGINAL))
        known = self._with_original(todo)
        if STOPPED not in self.failed:
            self._ask(self.client.fixed, known)
            return
        for ask in known:
            self._fail(ask, Result(None, STOPPED))

    def _must_work(self, own: Sequence[Ask], held: Sequence[Ask]) -> None:
        """A request must bring an answer, and one with passages handed over, before all are sent.

        Where earlier answers show that they do, nothing is asked here.
        """
        known = {ask.contexts for ask in self.ledger.answers.values()}
        try:
            if "own" not in known:
                # Of several questions: one alone may be refused, with all its wordings.
                self._first(self.client.own, [ask for ask in own if ask.type is None])
            if held and "original" not in known:
                self.client.fixed.worked = True  # its paths are those of the others
                self._first(self.client.fixed, self._with_original(held))
        except AccordError:
            if not known:  # so that the options can be mended without --force
                self.ledger.clear()
            raise

    def _first(self, service: Service, asks: Sequence[Ask]) -> None:
        """One of the first must be answered; else raises what the last said."""
        result = None
        for ask in asks[:_FIRST]:
            result = self._one(service, ask)
            if result.values is not None:
                return
            if result.reason in _FOR_ALL:
                break
        if result is None:  # none can be asked yet
            return
        if result.reason == NOT_HELD:
            raise InputError(
                f"probe: {self.client.address.url}: {NOT_HELD}, so they cannot be held fixed; give "
                "the --fixed that hands them over, or leave passages out of --body"
            )
        raise service.error(result)

    def _one(self, service: Service, ask: Ask) -> Result:
        (result,) = service.ask_all([self._values(ask)], tries=_FIRST_TRIES)
        checked = self._checked(ask, result)
        self._keep(ask, checked)
        return checked

    def _ask(self, service: Service, asks: Sequence[Ask]) -> None:
        def keep(number: int, result: Result) -> None:
            self._keep(asks[number], self._checked(asks[number], result))

        for number, result in service.arrivals([self._values(ask) for ask in asks], keep=keep):
            checked = self._checked(asks[number], result)
            if checked.values is None:
                self._fail(asks[number], checked)
            self.progress.advance()

    def _with_original(self, asks: Sequence[Ask]) -> list[Ask]:
        """Those whose original has an answer, so that its passages are known."""
        return [ask for ask in asks if ask.question in self.originals]

    def _passages(self, ask: Ask) -> tuple[str, ...] | None:
        """The ids of the passages that are handed over; None: none."""
        if ask.contexts == "original":
            return self.originals[ask.question]
        return self.retrieved[ask.id] if self.client.how == "retrieved" else None

    def _values(self, ask: Ask) -> dict[str, Any]:
        return self.client.values(ask.id, ask.query, self._passages(ask))

    def _checked(self, ask: Ask, result: Result) -> Result:
        """A failure instead of an answer from other passages than those that were held."""
        handed = self._passages(ask)
        reported = (result.values or {}).get(IDS)
        if handed is None or reported is None or set(reported) == set(handed):
            return result
        return Result(None, NOT_HELD, tries=result.tries)

    def _keep(self, ask: Ask, result: Result) -> None:
        if (values := result.values) is None:
            return
        handed = self._passages(ask)
        passages = values.get(IDS) if handed is None else handed
        unique = tuple(dict.fromkeys(passages or ()))
        more = {ENDED: values.get(ENDED)}
        self.ledger.add(ask.answered(self.client.name, values[ANSWER], unique, **more))
        if ask.type is None and not ask.repeat:
            self.originals[ask.id] = unique

    def _fail(self, ask: Ask, result: Result) -> None:
        self.failed[result.reason] += 1
        self.ledger.fail(ask, result.reason, result.tries)
