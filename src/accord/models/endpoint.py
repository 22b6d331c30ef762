"""The one door to models behind OpenAI-compatible chat endpoints.

Every finished answer is appended to the cache at once, so a run that was killed asks nothing
twice. The key comes from the environment, and neither it nor the credentials of an address is in
anything that is shown or written.
"""

import base64
import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from accord.errors import AccordError, InputError, RunError
from accord.models.answers import AnswerCache
from accord.models.spending import SPENT, Spending, tokens_at_most, tokens_used

Accept = Callable[[str], bool]
FIRST_WAIT, LONGEST_BACKOFF = 0.5, 8.0  # seconds between tries
LONGEST_REPLY = 4_000_000  # bytes; a body beyond it is no answer to a prompt of ours
LONGEST_WAIT = 120.0  # seconds; an endpoint that wants a longer one is not asked again
MALFORMED, REJECTED, STOPPED = "malformed reply", "no acceptable reply", "stopped"
_BUSY = (408, 409, 429)  # statuses that may pass, as every 5xx may


class Reply(NamedTuple):
    """An answer, or None and the reason; `cached` if it was known before."""

    text: str | None
    reason: str = ""
    cached: bool = False


class _Failure(NamedTuple):
    """A try without an answer; `lost` if nobody seems to be there, `wait` in seconds."""

    reason: str
    again: bool = True
    lost: bool = False
    wait: float = 0.0


class Endpoint:
    """An endpoint, a model and how to ask it. `base_url` is kept without user, password and query.

    `timeout` in seconds bounds a whole reply, `max_tokens` its length, `spending` what is asked;
    `where` begins the errors, `purpose` names what cannot be had without the `openai` package.
    Raises InputError if `base_url` is no http address.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        *,
        temperature: float = 0.0,
        timeout: float = 60.0,
        concurrency: int = 8,
        tries: int = 5,
        max_tokens: int | None = None,
        spending: Spending | None = None,
        cache: Path | None = None,
        where: str = "endpoint",
        purpose: str = "answers",
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.model, self.temperature, self.cache = model, temperature, cache
        self.timeout, self.concurrency, self.tries = timeout, concurrency, tries
        self.max_tokens, self.spending = max_tokens, spending or Spending()
        self.api_key_env, self.where, self.purpose, self.sleep = api_key_env, where, purpose, sleep
        try:
            parts = urlsplit(base_url)
            # Reading the port and encoding the host checks them: both raise ValueError.
            named = parts.port != 0 and (parts.hostname or "").encode("idna")
            clean = base_url.isascii() and base_url.isprintable()
            valid = parts.scheme in ("http", "https") and named and clean
        except ValueError:
            valid = False
        if not valid:
            # It is not shown: it may hold a password.
            raise InputError(f"{where}: base_url is not an address that begins http:// or https://")
        self._user, _, host = parts.netloc.rpartition("@")
        self._query = dict(parse_qsl(parts.query))
        self.base_url = urlunsplit((parts.scheme, host, parts.path, "", ""))

    def ask_all(
        self, prompts: Sequence[str], *, seed: int, accept: Accept = lambda text: True
    ) -> Iterator[Reply]:
        """One reply for each prompt, in their order; equal prompts are asked once.

        Tried again, with exponential backoff: busy (429 and its Retry-After), 5xx, timeouts, lost
        connections, bodies that are no chat completion, and texts that `accept` turns down. What
        still fails is a reply without a text. Only texts that `accept` takes are kept or reused.
        Raises InputError for a refused key, an unknown model or address and a damaged cache,
        RunError if nobody answers.
        """
        client, cache = self._client(), AnswerCache(self.cache)
        asking = _Asking(self, client, cache, seed, accept)
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            futures = {prompt: pool.submit(asking.ask, prompt) for prompt in dict.fromkeys(prompts)}
            for prompt in prompts:
                reply = futures[prompt].result()
                if asking.error is not None:
                    raise asking.error
                yield reply
        finally:
            asking.stop.set()
            pool.shutdown(cancel_futures=True)
            client.close()
            cache.close()

    def key(self, prompt: str, seed: int) -> str:
        """The name of an answer in the cache: SHA-256 of all that it depends on."""
        # The address belongs to it: one model's name may be served in many precisions.
        asked = {"base_url": self.base_url, **self.request(prompt, seed)}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def request(self, prompt: str, seed: int) -> dict[str, Any]:
        """The body of a request: the prompt as one user turn."""
        turns, temperature = [{"role": "user", "content": prompt}], self.temperature
        body = {"model": self.model, "messages": turns, "temperature": temperature, "seed": seed}
        return body if self.max_tokens is None else {**body, "max_tokens": self.max_tokens}

    def _client(self) -> Any:
        try:
            import openai
        except ImportError:
            raise InputError(
                f'{self.purpose} from an endpoint need `pip install "accord[endpoints]"`'
            ) from None
        secret = os.environ.get(self.api_key_env, "").strip()
        if not (secret.isascii() and secret.isprintable()):
            raise InputError(f"{self.where}: ${self.api_key_env} holds what no key can; set it")
        basic = base64.b64encode(unquote(self._user).encode()).decode()
        return openai.OpenAI(
            base_url=self.base_url,
            api_key=secret or "none",
            timeout=self.timeout,
            max_retries=0,  # the tries are counted here
            default_headers={"Authorization": f"Basic {basic}"} if self._user else None,
            default_query=self._query or None,
        )


class _Asking:
    """One call of `ask_all`: what its threads share."""

    def __init__(
        self, endpoint: Endpoint, client: Any, cache: AnswerCache, seed: int, accept: Accept
    ) -> None:
        self.endpoint, self.client, self.cache = endpoint, client, cache
        self.seed, self.accept = seed, accept
        self.stop, self.answered = threading.Event(), False
        self.error: AccordError | None = None

    def ask(self, prompt: str) -> Reply:
        """The reply from the cache or the endpoint; an error that ends all is left in `error`."""
        key = self.endpoint.key(prompt, self.seed)
        known = self.cache.known.get(key)
        if known is not None and self.accept(known):
            return Reply(known, cached=True)
        try:
            reply = self._try(prompt, key)
            if reply.text is not None:
                self.cache.add(key, reply.text)
            return reply
        except AccordError as error:
            self.error = self.error or error
            self.stop.set()
            return Reply(None, STOPPED)

    def _try(self, prompt: str, key: str) -> Reply:
        failure, rejected = _Failure(STOPPED), 0
        for attempt in range(self.endpoint.tries):
            if attempt:
                (self.endpoint.sleep or self.stop.wait)(max(failure.wait, backoff(attempt, key)))
            if self.stop.is_set():
                return Reply(None, STOPPED)
            # The same seed would only bring the same unwanted text again.
            outcome = self._paid(prompt, self.seed + rejected)
            if outcome is None:
                return Reply(None, SPENT)
            if isinstance(outcome, Reply):
                return outcome
            failure, rejected = outcome, rejected + (outcome.reason == REJECTED)
            if not failure.again or failure.wait > LONGEST_WAIT:
                break
        if failure.lost:
            raise RunError(
                f"{self.endpoint.where}: no answer from {self.endpoint.base_url} after "
                f"{self.endpoint.tries} tries; is it running?"
            )
        return Reply(None, failure.reason)

    def _paid(self, prompt: str, seed: int) -> Reply | _Failure | None:
        """One request, if what may be spent allows for it; else None."""
        spending = self.endpoint.spending
        most = tokens_at_most(prompt, self.endpoint.max_tokens)
        if not spending.reserve(most):
            return None
        used = most  # what is lost on the way may have been written, and be paid for
        try:
            used, outcome = self._once(prompt, seed, most)
            return outcome
        finally:
            spending.settle(most, used)

    def _once(self, prompt: str, seed: int, most: int) -> tuple[int, Reply | _Failure]:
        """The outcome of one request and the tokens it took."""
        import httpx
        import openai

        request = self.endpoint.request(prompt, seed)
        completions = self.client.chat.completions.with_streaming_response
        until = time.monotonic() + self.endpoint.timeout
        try:
            with completions.create(**request) as raw:
                body = _read(raw.iter_bytes(), until)
        except (openai.APIConnectionError, httpx.TransportError) as error:
            late = isinstance(error, openai.APITimeoutError | httpx.TimeoutException)
            # A prompt may take too long where others do not: then only this one fails.
            reason = openai.APITimeoutError if late else openai.APIConnectionError
            return most, _Failure(reason.__name__, lost=not (late and self.answered))
        except openai.APIStatusError as error:
            self.answered = True
            return 0, self._refused(error)
        self.answered = True
        text, used = content(body), tokens_used(body, prompt)
        if text is None:
            return used, _Failure(MALFORMED)
        return used, Reply(text) if self.accept(text) else _Failure(REJECTED)

    def _refused(self, error: Any) -> _Failure:
        """A failure by its status. The endpoint's own words are not used: they may quote a key."""
        if error.status_code in (401, 403):
            raise InputError(
                f"{self.endpoint.where}: {self.endpoint.base_url} refused the key; "
                f"set ${self.endpoint.api_key_env}"
            ) from None
        if error.status_code == 404:
            raise InputError(
                f"{self.endpoint.where}: {self.endpoint.base_url} has no model "
                f"`{self.endpoint.model}`, or is not the address of an endpoint (status 404)"
            ) from None
        again = error.status_code in _BUSY or error.status_code >= 500
        return _Failure(type(error).__name__, again, wait=retry_after(error.response.headers))


def _read(chunks: Iterator[bytes], until: float) -> bytes:
    """A body; httpx.ReadTimeout where it is not whole in time or does not end.

    The client's own timeout is for each piece: a reply that trickles would never be late.
    """
    import httpx

    body = bytearray()
    for chunk in chunks:
        body += chunk
        if time.monotonic() > until or len(body) > LONGEST_REPLY:
            raise httpx.ReadTimeout("the reply does not end")
    return bytes(body)


def content(body: str | bytes) -> str | None:
    """The text of a chat completion, "" where it is null; None if `body` is no such thing."""
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
        text = "" if text is None else text
        text.encode()  # only a str can; and half a surrogate pair, which no file takes, cannot
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return str(text)


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
    except ValueError:
        return 0.0
