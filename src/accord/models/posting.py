"""One JSON request by POST: the body that came back whole and in time, or why there is none.

Redirects are not followed: a header with a key would go with them to another host.
"""

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from accord import __version__
from accord.errors import InputError
from accord.models.address import Address
from accord.models.asking import Failure, Manners, retry_after

if TYPE_CHECKING:
    import httpx

LONGEST_REPLY = 4_000_000  # bytes; a body beyond it is no answer to a question of ours
SHOWN = 200  # characters of what came back, in a message
TIMEOUT, NO_ROUTE, LOST = "timeout", "no connection", "connection lost"
CUT, TOO_LARGE, MALFORMED = "body cut short", "body of more than 4 MB", "not JSON"
HTML, STREAM, NOT_UTF8 = "HTML instead of JSON", "event stream instead of JSON", "not UTF-8"
REFUSED, NOT_FOUND, REDIRECT = "key refused", "no such address or model", "redirect"
_BUSY = (408, 409, 429)  # statuses that may pass, as every 5xx may
_NAMED = {401: REFUSED, 403: REFUSED, 404: NOT_FOUND, 429: "rate limit"}


class Arrived(NamedTuple):
    """A reply with a status of 2xx."""

    headers: Mapping[str, str]
    body: bytes


class Poster:
    """Posts JSON to one address; safe to call from several threads. `close()` it at the end.

    Raises InputError if httpx is not installed; `purpose` says what needs it.
    """

    def __init__(
        self, address: Address, headers: Mapping[str, str], manners: Manners, purpose: str
    ) -> None:
        try:
            import httpx
        except ImportError:
            raise InputError(f'{purpose} need `pip install "accord[endpoints]"`') from None
        self.address, self.manners, self.heard = address, manners, False
        values = [*headers.values(), *address.basic.values()]
        values += [unquote(address.user).partition(":")[2], *(value for _, value in address.query)]
        self._secrets = [value for value in values if value.strip()]
        most = manners.concurrency
        try:
            _ = httpx.URL(address.url).host
        except (httpx.InvalidURL, ValueError) as error:  # of hosts such as 256.1.1.1 and xn--
            shown = self.excerpt(str(error))
            raise InputError(
                f"{purpose}: `{address.url}` is no address that can be asked: {shown}"
            ) from None
        try:
            self._client = httpx.Client(
                headers={"User-Agent": f"accord/{__version__}", **headers, **address.basic},
                params=list(address.query) or None,
                timeout=manners.timeout,
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
            )
            # A session would tie a question to those before it.
            self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
            self._clock = _Clock()
            _hurry(self._client, self._clock)
        except (ImportError, ValueError):  # of a proxy that the environment names
            raise InputError(
                f"{purpose}: the proxy that the environment names cannot be used; mend HTTP_PROXY, "
                "HTTPS_PROXY or ALL_PROXY"
            ) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def post(self, value: Any) -> Arrived | Failure:
        """The reply to one JSON body. No word of a refusal is used: it may quote a key."""
        import httpx

        until = self._clock.until = time.monotonic() + self.manners.timeout
        body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        kind, begun = {"Content-Type": "application/json"}, False
        try:
            with self._client.stream(
                "POST", self.address.url, content=body, headers=kind
            ) as response:
                self.heard = begun = True
                found = _read(response.iter_bytes(), until)
        except httpx.TimeoutException as error:
            # One question may take too long where others do not: then only this one fails.
            unreachable = isinstance(error, httpx.ConnectTimeout)
            return Failure(TIMEOUT, lost=unreachable or not self.heard)
        except httpx.ConnectError as error:
            return Failure(NO_ROUTE, lost=True, detail=self.excerpt(str(error)))
        except httpx.DecodingError:
            return Failure(MALFORMED)
        except httpx.RequestError:
            return Failure(CUT) if begun else Failure(LOST, lost=True)
        if found is None:
            return Failure(TOO_LARGE)
        if 200 <= response.status_code < 300:
            return Arrived(response.headers, found)
        return self._refused(response, found)

    def _refused(self, response: "httpx.Response", body: bytes) -> Failure:
        status = response.status_code
        if 300 <= status < 400:
            shown = f"status {status} to `{self.excerpt(_shown(response))}`"
            return Failure(REDIRECT, False, refused=True, detail=shown, mend="give that address")
        again = status in _BUSY or status >= 500
        reason = _NAMED.get(status, f"status {status}")
        # What comes with a refused key may quote it.
        shown = "" if reason == REFUSED else self.excerpt(body.decode("utf-8", "replace"))
        mend = "" if again else "give the right one" if status == 404 else "mend the request"
        wait = retry_after(response.headers)
        return Failure(reason, again, refused=True, wait=wait, detail=shown, mend=mend)

    def excerpt(self, text: str) -> str:
        """The beginning of what came back, on one line and without what we sent as secrets."""
        for secret in self._secrets:
            for part in {secret, secret.split()[-1]}:
                text = text.replace(part, "***")
        text = " ".join(text.split())
        shown = "".join(c if c.isprintable() else "?" for c in text)
        return shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."


class _Clock(threading.local):
    """When the request of this thread is late."""

    until = math.inf


class _Hurried:
    """A network of httpcore, or a stream of it, whose reads end when the request is late.

    The client's own timeout is for each read, and headers that trickle are read by it alone.
    """

    def __init__(self, inner: Any, clock: _Clock) -> None:
        self._inner, self._clock = inner, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connect_tcp(self, *args: Any, **options: Any) -> "_Hurried":
        return _Hurried(self._inner.connect_tcp(*args, **options), self._clock)

    def start_tls(self, *args: Any, **options: Any) -> "_Hurried":
        return _Hurried(self._inner.start_tls(*args, **options), self._clock)

    def read(self, most: int, timeout: float | None = None) -> bytes:
        import httpcore

        left = self._clock.until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the reply does not begin")
        found: bytes = self._inner.read(most, timeout=min(left, timeout or left))
        return found


def _hurry(client: "httpx.Client", clock: _Clock) -> None:
    """Have a client read by `clock`: there is no public way to give it a network."""
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = _Hurried(pool._network_backend, clock)


def _shown(response: "httpx.Response") -> str:
    """Where a redirect leads to, without what may be secret in it."""
    target = str(response.headers.get("location", ""))
    try:
        parts = urlsplit(target)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _read(chunks: Iterator[bytes], until: float) -> bytes | None:
    """A body; None if it is too large, httpx.ReadTimeout where it does not end in time.

    The client's own timeout is for each piece: a reply that trickles would never be late.
    """
    import httpx

    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > LONGEST_REPLY:
            return None
        if time.monotonic() > until:
            raise httpx.ReadTimeout("the reply does not end")
    return bytes(body)


def read_json(arrived: Arrived) -> Any:
    """The JSON of a reply, or a Failure that names what came instead."""
    body = arrived.body
    try:
        # Whatever the content type says: many servers send JSON as text.
        return json.loads(body)
    except UnicodeDecodeError:
        return Failure(NOT_UTF8)
    except (ValueError, RecursionError):
        kind = arrived.headers.get("content-type", "")
        head = body[:100].lstrip().lower()
        if "event-stream" in kind or head.startswith((b"data:", b"event:", b"id:")):
            return Failure(STREAM)
        if "html" in kind or head.startswith(b"<"):
            return Failure(HTML)
        return Failure(CUT if head.startswith((b"{", b"[")) else MALFORMED)
