"""Any server that takes JSON by POST and answers in JSON: a body template and paths to what counts.

    service = Service(
        "http://localhost:8000/search",
        body={"query": "{{ query }}", "limit": 3},
        paths={"ids": "hits[*].id", "scores": "hits[*].score"},
        headers={"Authorization": "Bearer $SEARCH_KEY"},
        where="retrieve",
    )
    for result in service.ask_all([{"query": "How do I add a contact?"}, ...]):
        if result.values is None:
            ...  # result.reason is "timeout", "status 500", "HTML instead of JSON", ...
        else:
            result.values["ids"], result.values["scores"]

Nothing that a server does raises: each failure is a value with a reason, and after many in a row
the rest is not asked. `Service.error(result)` makes one sentence of a failure.
"""

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from accord.errors import AccordError, InputError, RunError
from accord.models.address import Address, read_address
from accord.models.asking import Asker, Failure, Manners, in_order
from accord.models.body import Body
from accord.models.posting import NO_ROUTE, REFUSED, SHOWN, TIMEOUT, Poster, read_json

Check = Callable[[Any], Any]
LOST_IN_A_ROW, FAILED_IN_A_ROW = 5, 20  # items given up before the rest is not asked
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Result(NamedTuple):
    """The values by the names of the paths; None where there are none, and the reason.

    `detail` is what came back and `mend` the way out, for a person; `tries` how often it was asked.
    """

    values: dict[str, Any] | None
    reason: str = ""
    detail: str = ""
    tries: int = 0
    mend: str = ""


class Service:
    """An address, how to ask it and where the answer is.

    Args:
        url: where to post; user and password in it are sent as basic authentication.
        body: the template of the body (see accord.models.body).
        paths: name -> JMESPath into the reply (a leading `$.` is ignored).
        optional: the names that may be missing; they are None then.
        checks: name -> what makes a value of what was found, or raises ValueError("a list instead
            of a text"); for all others anything but null will do.
        headers: name -> value; `$NAME` in a value is taken from the environment.
        rate: requests a second at most. concurrency: at a time. timeout: seconds for a whole
            reply. tries: of each item. sleep: stands in for waiting, in tests.
        where: begins the errors. purpose: what cannot be had without the extra `endpoints`.
        mends: name of a path -> what to do where it finds nothing; posting.REFUSED -> where no key
            is given.

    Raises InputError for an address, path, template or header that cannot be used.
    """

    def __init__(
        self,
        url: str | Address,
        *,
        body: Any,
        paths: Mapping[str, str],
        optional: Sequence[str] = (),
        checks: Mapping[str, Check] | None = None,
        headers: Mapping[str, str] | None = None,
        rate: float | None = None,
        concurrency: int = 8,
        timeout: float = 60.0,
        tries: int = 5,
        where: str = "endpoint",
        purpose: str = "requests to a server",
        mends: Mapping[str, str] | None = None,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.where, self.purpose, self.mends = where, purpose, dict(mends or {})
        self.address = url if isinstance(url, Address) else read_address(url, f"{where}: the URL")
        self.url = self.address.url
        self.body = body if isinstance(body, Body) else Body(body, f"{where}: body")
        self.paths = {name: path.removeprefix("$").lstrip(".") for name, path in paths.items()}
        self._compiled = {name: self._path(name, path) for name, path in self.paths.items()}
        self.optional, self.checks = frozenset(optional), dict(checks or {})
        self.headers = dict(headers or {})
        self._filled = {n: fill_header(n, v, where) for n, v in self.headers.items()}
        self.manners = Manners(timeout, concurrency, tries, rate, sleep)
        self.worked = False

    def ask_all(
        self, asked: Sequence[Mapping[str, Any]], *, tries: int | None = None
    ) -> Iterator[Result]:
        """One result for each mapping of template variables, in their order.

        `tries` stands in for the service's own. Raises InputError for a body that cannot be made,
        and nothing else.
        """
        return in_order(self.arrivals(asked, tries=tries))

    def arrivals(
        self,
        asked: Sequence[Mapping[str, Any]],
        *,
        tries: int | None = None,
        keep: Callable[[int, Result], None] = lambda number, result: None,
    ) -> Iterator[tuple[int, Result]]:
        """(index, result) as they arrive.

        `keep` is called with those that have values at once, by several threads: what it writes
        survives an interruption.
        """
        manners = self.manners if tries is None else replace(self.manners, tries=tries)
        poster = Poster(self.address, self._filled, manners, self.purpose)
        call = _Call(self, poster)
        asker = Asker(
            call.once, manners, name=repr, given_up=call.given_up, keep=keep, close=poster.close
        )
        call.stop = asker.stop
        for number, outcome in asker.arrivals(asked):
            yield number, _failed(outcome) if isinstance(outcome, Failure) else outcome

    def error(self, result: Result) -> AccordError:
        """One sentence for a failed result: what came back and the way out."""
        said = f": {result.detail}" if result.detail else ""
        tries = f" (tried {result.tries} times)" if result.tries > 1 else ""
        what = f"{self.where}: {self.url}: {result.reason}{said}{tries}"
        if result.mend:
            return InputError(f"{what}; {result.mend}")
        return RunError(f"{what}; is it running?" if result.reason in (NO_ROUTE, TIMEOUT) else what)

    def _path(self, name: str, path: str) -> Any:
        try:
            import jmespath
        except ImportError:
            raise InputError(f'{self.purpose} need `pip install "accord[endpoints]"`') from None
        try:
            return jmespath.compile(path)
        except jmespath.exceptions.JMESPathError as error:
            why = str(error).splitlines()[0]
            raise InputError(
                f"{self.where}: `{path}` is no path to the {name} ({why}); a JMESPath such as "
                "`answer` or `sources[*].id` is wanted"
            ) from None

    def read(self, reply: Any) -> dict[str, Any] | Failure:
        """The values of a reply, or a failure that says which is not where it should be."""
        values: dict[str, Any] = {}
        for name, path in self._compiled.items():
            at = f"{name} at `{self.paths[name]}`"
            try:
                value = path.search(reply)
            except (ValueError, TypeError, ArithmeticError):  # of a JMESPath function
                # What it says quotes the reply.
                return self._misshapen(name, f"no {at}: the reply is not what it takes", reply)
            try:
                check = self.checks.get(name)
                values[name] = check(value) if check and value is not None else value
            except ValueError as error:
                return self._misshapen(name, f"{at}: {error}", reply)
            if value is None and name not in self.optional:
                return self._misshapen(name, f"no {at}", reply)
        return values

    def _misshapen(self, name: str, reason: str, reply: Any) -> Failure:
        # Where others were right another try may be; before that it is the path that is wrong.
        mend = self.mends.get(name, "give the right path")
        return Failure(reason, again=self.worked, detail=_keys(reply), mend=mend)

    def refusal(self) -> str:
        """The way out where a key is refused."""
        names = sorted({name for value in self.headers.values() for name in variables(value)})
        shown = " and ".join(f"${name}" for name in names)
        return f"set {shown}" if names else self.mends.get(REFUSED, "give the header with the key")


def _failed(failure: Failure) -> Result:
    return Result(None, failure.reason, failure.detail, failure.tries, failure.mend)


class _Call:
    """What the threads of one call share."""

    def __init__(self, service: Service, poster: Poster) -> None:
        self.service, self.poster = service, poster
        self.stop = threading.Event()
        self.lost = self.failed = 0  # items given up since the last answer

    def once(self, values: Mapping[str, Any], failures: Sequence[Failure]) -> Result | Failure:
        service = self.service
        arrived = self.poster.post(service.body.fill(values))
        if isinstance(arrived, Failure):
            refused = arrived.reason == REFUSED
            return replace(arrived, mend=service.refusal()) if refused else arrived
        reply = read_json(arrived)
        if isinstance(reply, Failure):
            shown = self.poster.excerpt(arrived.body[:SHOWN].decode("utf-8", "replace"))
            return replace(reply, detail=shown)
        found = service.read(reply)
        if isinstance(found, Failure):
            return found
        service.worked, self.lost, self.failed = True, 0, 0
        return Result(found, tries=len(failures) + 1)

    def given_up(self, failure: Failure) -> None:
        """End it all where nobody answers any more; what one item is to blame for does not."""
        self.lost += failure.lost
        self.failed += failure.again
        dead = self.lost >= LOST_IN_A_ROW or self.failed >= FAILED_IN_A_ROW
        if dead or failure.reason == REFUSED:
            self.stop.set()


def fill_header(name: str, value: str, where: str) -> str:
    """`value` with its $NAMEs from the environment. Raises InputError without showing any."""

    def found(match: "re.Match[str]") -> str:
        variable = match[1] or match[2]
        if not os.environ.get(variable, "").strip():
            raise InputError(f"{where}: header {name}: ${variable} is not set in the environment")
        return os.environ[variable].strip()

    filled = _VARIABLE.sub(found, value)
    if not (filled.isascii() and filled.isprintable()):
        shown = ", ".join(f"${v}" for v in variables(value)) or "it"
        raise InputError(f"{where}: header {name}: {shown} holds what no header can; set it")
    return filled


def variables(value: str) -> list[str]:
    """The names of the environment variables in a header's value."""
    return [braced or plain for braced, plain in _VARIABLE.findall(value)]


def text(value: Any) -> str:
    """A check: a text that a file can hold."""
    if not isinstance(value, str):
        raise ValueError(f"{_kind(value)} instead of a text")
    return _encodable(value)


def ids(value: Any) -> tuple[str, ...]:
    """A check: a list of ids, texts or numbers."""
    if not isinstance(value, list):
        raise ValueError(f"{_kind(value)} instead of a list of ids")
    for one in value:
        if isinstance(one, bool) or not isinstance(one, str | int) or one == "":
            raise ValueError(f"{_kind(one)} in the list instead of an id")
    return tuple(_encodable(str(one)) for one in value)


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        raise ValueError("not a text that UTF-8 can hold") from None
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")


def _keys(reply: Any) -> str:
    """What a reply has at the top, for a person who looks for the right path."""
    if not isinstance(reply, dict):
        return f"the reply is {_kind(reply)}"
    shown = ", ".join(f"`{str(key)[:30]}`" for key in list(reply)[:10])
    return f"the reply has {shown}" if reply else "the reply is empty"
