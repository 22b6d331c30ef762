"""A cap on what is asked of an endpoint: requests and tokens, counted over all tries.

A request is only sent if the most it can take is still left, so the cap is never passed as far as
the estimate of a prompt's length holds: a token for every two bytes, where English has one for
four. What is known afterwards, from the endpoint's own count, replaces the estimate.
"""

import json
import threading

SPENT = "the budget is spent"
_BYTES_A_TOKEN = 2
_FRAME = 16  # tokens of a chat template around one prompt


class Spending:
    """What may be spent, and what was: `requests` and `tokens`; None is no limit. Thread-safe."""

    def __init__(self, requests: int | None = None, tokens: int | None = None) -> None:
        self.most_requests, self.most_tokens = requests, tokens
        self.requests = self.tokens = 0
        self._held, self._in_flight = 0, 0
        self._spent = False
        self._changed = threading.Condition()

    def reserve(self, tokens: int) -> bool:
        """Hold one request of at most `tokens`; False for ever after the first that is too much.

        It waits for requests under way, whose tokens may turn out to be fewer.
        """
        with self._changed:
            while not self._spent and not self._fits(tokens):
                if not self._in_flight or self._no_request_left():
                    self._spent = True
                    self._changed.notify_all()
                else:
                    self._changed.wait()
            if self._spent:
                return False
            self.requests += 1
            self._in_flight += 1
            self._held += tokens
            return True

    def settle(self, reserved: int, used: int) -> None:
        """A request of `reserved` tokens is over and took `used`."""
        with self._changed:
            self._in_flight -= 1
            self._held -= reserved
            self.tokens += used
            self._changed.notify_all()

    def _fits(self, tokens: int) -> bool:
        if self._no_request_left():
            return False
        return self.most_tokens is None or self.tokens + self._held + tokens <= self.most_tokens

    def _no_request_left(self) -> bool:
        return self.most_requests is not None and self.requests >= self.most_requests


def tokens_at_most(prompt: str, max_tokens: int | None) -> int:
    """The most tokens that a prompt and its reply are taken to have."""
    return estimate(prompt) + _FRAME + (max_tokens or 0)


def tokens_used(body: bytes, prompt: str) -> int:
    """The tokens of a request as the endpoint counts them, else an estimate from the bytes."""
    try:
        used = json.loads(body)["usage"]["total_tokens"]
    except (ValueError, LookupError, TypeError, RecursionError):
        used = None
    if isinstance(used, int) and used > 0:
        return used
    return estimate(prompt) + _FRAME + len(body) // _BYTES_A_TOKEN


def estimate(text: str) -> int:
    """A number of tokens that a text hardly exceeds."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)
