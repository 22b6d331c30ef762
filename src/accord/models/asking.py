"""Asking many things of one server: several at a time, at a pace, again where it may help.

What one request is and how its reply is read is not known here; a failure is a value with a
reason. Threads are daemons, so that a person who interrupts does not wait for a slow server.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from accord.errors import AccordError, RunError

A = TypeVar("A")
V = TypeVar("V")
R = TypeVar("R")

FIRST_WAIT, LONGEST_BACKOFF = 0.5, 8.0  # seconds between tries
LONGEST_WAIT = 120.0  # seconds; a server that wants a longer one is not asked again
STOPPED = "not asked"
_GRACE = 2.0  # seconds that requests under way have to end in when all is over


@dataclass(frozen=True)
class Failure:
    """A try without an answer, or all of them: `tries` is how many there were.

    `again` if it may pass, `lost` if nobody seems to be there, `refused` if the server did no work,
    `wait` in seconds before the next try; for a person `detail`, what came back, and `mend`, the
    way out where there is one.
    """

    reason: str
    again: bool = True
    lost: bool = False
    refused: bool = False
    wait: float = 0.0
    detail: str = ""
    mend: str = ""
    tries: int = 0


@dataclass(frozen=True)
class Manners:
    """How a server is asked: `timeout` in seconds for a whole reply, `rate` in requests a second.

    `sleep` stands in for the waiting, in tests.
    """

    timeout: float = 60.0
    concurrency: int = 8
    tries: int = 5
    rate: float | None = None
    sleep: Callable[[float], object] | None = None


class Asker(Generic[A, V]):
    """Asks items of one server, once: after its arrivals have ended, it is used up.

    `once(item, failures)` makes one request and gives a value or a Failure; `failures` are those
    of the tries before. An AccordError that it raises ends everything. `given_up` hears of each
    item's last failure and may raise as well, or call `stop.set()`. `keep(index, value)` is called
    by the worker as soon as a value is there, so that none is lost where nobody waits any more.
    `close` is called at the end, unless a request is still under way.
    """

    def __init__(
        self,
        once: Callable[[A, Sequence[Failure]], V | Failure],
        manners: Manners,
        *,
        name: Callable[[A], str] = str,
        given_up: Callable[[Failure], None] = lambda failure: None,
        keep: Callable[[int, V], None] = lambda number, value: None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.once, self.manners, self.name, self.given_up = once, manners, name, given_up
        self.stop, self.keep, self.close = threading.Event(), keep, close
        self._pace = Pace(manners.rate)
        self._error: AccordError | None = None

    def arrivals(self, items: Sequence[A]) -> Generator[tuple[int, V | Failure], None, None]:
        """(index, outcome) as they arrive. Raises what `once` and `given_up` raise."""
        arrived: queue.SimpleQueue[tuple[int, V | Failure]] = queue.SimpleQueue()
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(items)):
            todo.put(number)
        workers = [
            threading.Thread(target=self._work, args=(items, todo, arrived), daemon=True)
            for _ in range(min(self.manners.concurrency, len(items)))
        ]
        try:
            for worker in workers:
                worker.start()
            for _ in items:
                number, outcome = arrived.get()
                if self._error is not None:
                    raise self._error
                yield number, outcome
        finally:
            self.stop.set()
            until = time.monotonic() + _GRACE
            begun = [worker for worker in workers if worker.ident is not None]
            for worker in begun:
                worker.join(max(0.0, until - time.monotonic()))
            if not any(worker.is_alive() for worker in begun):
                self.close()

    def _work(
        self,
        items: Sequence[A],
        todo: "queue.SimpleQueue[int]",
        arrived: "queue.SimpleQueue[tuple[int, V | Failure]]",
    ) -> None:
        while True:
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            outcome: V | Failure | None = None
            try:
                outcome = self._ask(number, items[number])
            finally:  # whatever happens here, nobody may wait for it for ever
                if outcome is None:
                    self._error = RunError("a request ended in an error of our own")
                    outcome = Failure(STOPPED)
                arrived.put((number, outcome))

    def _ask(self, number: int, item: A) -> V | Failure:
        """The value, or the last failure; an error that ends all is kept for the others."""
        try:
            outcome = self._tries(item)
            if not isinstance(outcome, Failure):
                self.keep(number, outcome)
            elif outcome.reason != STOPPED:
                self.given_up(outcome)
            return outcome
        except AccordError as error:
            self._error = self._error or error
            self.stop.set()
            return Failure(STOPPED)

    def _tries(self, item: A) -> V | Failure:
        failures: list[Failure] = []
        while True:
            if failures:
                self._wait(max(failures[-1].wait, backoff(len(failures), self.name(item))))
            if (delay := self._pace.delay()) > 0:
                self._wait(delay)
            if self.stop.is_set():
                return Failure(STOPPED, tries=len(failures))
            outcome = self.once(item, failures)
            if not isinstance(outcome, Failure):
                return outcome
            failures.append(outcome)
            over = len(failures) >= self.manners.tries or outcome.wait > LONGEST_WAIT
            if over or not outcome.again:
                return replace(outcome, tries=len(failures))

    def _wait(self, seconds: float) -> None:
        (self.manners.sleep or self.stop.wait)(seconds)


def in_order(arrivals: Iterable[tuple[int, R]]) -> Iterator[R]:
    """What comes as (index, outcome) in any order, in the order of the indices."""
    early: dict[int, R] = {}
    wanted = 0
    for number, outcome in arrivals:
        early[number] = outcome
        while wanted in early:
            yield early.pop(wanted)
            wanted += 1


class Pace:
    """Gives each request its turn, turns `1 / rate` seconds apart; None is no limit."""

    def __init__(self, rate: float | None) -> None:
        self.step = 1 / rate if rate else 0.0
        self._next, self._lock = 0.0, threading.Lock()

    def delay(self) -> float:
        """Seconds until the turn of a request that is ready now."""
        if not self.step:
            return 0.0
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + self.step
            return turn - now


def backoff(attempt: int, key: str) -> float:
    """Seconds before try `attempt` >= 1: doubled each time, from half of it to all by the key."""
    longest = min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_BACKOFF)
    return longest * (1 + random.Random(f"{key} {attempt}").random()) / 2


def retry_after(headers: Mapping[str, str]) -> float:
    """The wait in seconds that Retry-After asks for, as a number or a date; 0 without one."""
    value = headers.get("retry-after", "")
    try:
        if value.replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):  # a year or a day that no date has
        return 0.0
