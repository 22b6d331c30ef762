"""The one door to models behind OpenAI-compatible chat endpoints.

Every finished answer is appended to the cache at once, so a run that was killed asks nothing
twice. The key comes from the environment, and neither it nor the credentials of an address is in
anything that is shown or written.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accord.errors import InputError, RunError
from accord.models.address import read_address
from accord.models.answers import AnswerCache
from accord.models.asking import Asker, Failure, Manners, in_order
from accord.models.posting import NOT_FOUND, REFUSED, Poster
from accord.models.spending import SPENT, Spending, tokens_at_most, tokens_used

Accept = Callable[[str], bool]
COMPLETIONS = "/chat/completions"
MALFORMED, REJECTED = "malformed reply", "no acceptable reply"


class Reply(NamedTuple):
    """An answer, or None and the reason; `cached` if it was known before."""

    text: str | None
    reason: str = ""
    cached: bool = False


class Endpoint:
    """An endpoint, a model and how to ask it. `base_url` is kept without user, password and query.

    `timeout` in seconds bounds a whole reply, `max_tokens` its length, `spending` what is asked,
    `rate` the requests a second; `where` begins the errors, `purpose` names what cannot be had
    without the extra `endpoints`. Raises InputError if `base_url` is no http address.
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
        rate: float | None = None,
        max_tokens: int | None = None,
        spending: Spending | None = None,
        cache: Path | None = None,
        where: str = "endpoint",
        purpose: str = "answers",
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.model, self.temperature, self.cache = model, temperature, cache
        self.max_tokens, self.spending = max_tokens, spending or Spending()
        self.api_key_env, self.where, self.purpose = api_key_env, where, purpose
        self.manners = Manners(timeout, concurrency, tries, rate, sleep)
        address = read_address(base_url, f"{where}: base_url")
        self.base_url = address.url
        self._address = completions(address.url), address

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
        poster, cache = self._poster(), AnswerCache(self.cache)
        call = _Call(self, poster, cache, seed, accept)
        known = {p: t for p in dict.fromkeys(prompts) if (t := call.cached(p)) is not None}
        todo = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        asker = Asker(
            call.once, self.manners, name=call.key, given_up=call.given_up, close=poster.close
        )
        arrivals = asker.arrivals(todo)
        replies, asked = in_order(arrivals), dict[str, Reply]()
        try:
            for prompt in prompts:
                if prompt in known:
                    yield Reply(known[prompt], cached=True)
                    continue
                if prompt not in asked:
                    asked[prompt] = _reply(next(replies))
                yield asked[prompt]
        finally:
            arrivals.close()
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

    def _poster(self) -> Poster:
        url, address = self._address
        headers = bearer(self.api_key_env, self.where)
        purpose = f"{self.purpose} from an endpoint"
        return Poster(address._replace(url=url), headers, self.manners, purpose)


def completions(base_url: str) -> str:
    """Where chat completions are asked for, of a base URL or of that address itself."""
    base = base_url.rstrip("/")
    return base if base.endswith(COMPLETIONS) else base + COMPLETIONS


def bearer(api_key_env: str, where: str) -> dict[str, str]:
    """The header with the key of an environment variable; none without one.

    Raises InputError for what no header can hold, without showing it.
    """
    secret = os.environ.get(api_key_env, "").strip()
    if not (secret.isascii() and secret.isprintable()):
        raise InputError(f"{where}: ${api_key_env} holds what no key can; set it")
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def _reply(outcome: Reply | Failure) -> Reply:
    return Reply(None, outcome.reason) if isinstance(outcome, Failure) else outcome


class _Call:
    """One call of `ask_all`: what its threads share."""

    def __init__(
        self, endpoint: Endpoint, poster: Poster, cache: AnswerCache, seed: int, accept: Accept
    ) -> None:
        self.endpoint, self.poster, self.cache = endpoint, poster, cache
        self.seed, self.accept = seed, accept

    def key(self, prompt: str) -> str:
        return self.endpoint.key(prompt, self.seed)

    def cached(self, prompt: str) -> str | None:
        known = self.cache.known.get(self.key(prompt)) if self.cache.known else None
        return known if known is not None and self.accept(known) else None

    def once(self, prompt: str, failures: Sequence[Failure]) -> Reply | Failure:
        """One request, if what may be spent allows for it; its answer is kept."""
        spending = self.endpoint.spending
        most = tokens_at_most(prompt, self.endpoint.max_tokens)
        if not spending.reserve(most):
            return Failure(SPENT, again=False)
        # The same seed would only bring the same unwanted text again.
        seed = self.seed + sum(failure.reason == REJECTED for failure in failures)
        used = most  # what is lost on the way may have been written, and be paid for
        try:
            used, outcome = self._request(prompt, seed, most)
        finally:
            spending.settle(most, used)
        if isinstance(outcome, Reply) and outcome.text is not None:
            self.cache.add(self.key(prompt), outcome.text)
        return outcome

    def _request(self, prompt: str, seed: int, most: int) -> tuple[int, Reply | Failure]:
        """The outcome of one request and the tokens it took."""
        arrived = self.poster.post(self.endpoint.request(prompt, seed))
        if isinstance(arrived, Failure):
            self._end(arrived.reason)
            return 0 if arrived.refused else most, arrived
        text, used = content(arrived.body), tokens_used(arrived.body, prompt)
        if text is None:
            return used, Failure(MALFORMED)
        return used, Reply(text) if self.accept(text) else Failure(REJECTED)

    def _end(self, reason: str) -> None:
        """Raise what makes it useless to ask on."""
        at = f"{self.endpoint.where}: {self.endpoint.base_url}"
        if reason == REFUSED:
            raise InputError(f"{at} refused the key; set ${self.endpoint.api_key_env}")
        if reason == NOT_FOUND:
            raise InputError(
                f"{at} has no model `{self.endpoint.model}`, or is not the address of an endpoint "
                "(status 404)"
            )

    def given_up(self, failure: Failure) -> None:
        if failure.lost:
            raise RunError(
                f"{self.endpoint.where}: no answer from {self.endpoint.base_url} after "
                f"{failure.tries} tries; is it running?"
            )


def content(body: str | bytes) -> str | None:
    """The text of a chat completion, "" where it is null; None if `body` is no such thing."""
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
        text = "" if text is None else text
        text.encode()  # only a str can; and half a surrogate pair, which no file takes, cannot
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return str(text)
