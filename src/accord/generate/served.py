"""What an OpenAI-compatible server says of itself, asked before thousands of questions are."""

import json
from collections.abc import Mapping
from typing import Any

from accord.errors import InputError
from accord.models.address import Address, read_address
from accord.models.endpoint import bearer
from accord.models.posting import NO_ROUTE, TIMEOUT

WHERE = "generate"
PURPOSE = "answers from an endpoint"
_ENDINGS = ("/", "/chat/completions", "/completions")
_BUSY = (429, 500, 502, 503, 504)
_ASIDE = 5.0  # seconds for what a server answers without thinking


class Door:
    """The address of a server: `url` is its base without what may be secret, as in `.../v1`.

    Raises InputError if `base_url` is no http address, or the key is none.
    """

    def __init__(self, base_url: str, api_key_env: str | None) -> None:
        found = read_address(base_url, f"{WHERE}.base_url: the address")
        url = found.url
        for ending in _ENDINGS:
            url = url.removesuffix(ending)
        self.url, self._address = url, found
        self.api_key_env = api_key_env
        self.headers = bearer(api_key_env, WHERE) if api_key_env else {}

    def at(self, path: str) -> Address:
        """The address of a path under the base."""
        return self._address._replace(url=self.url + path)

    def models(self, timeout: float = _ASIDE) -> dict[str, int | None] | str:
        """The models that it lists, each with the tokens it takes, if that is told.

        Empty where it has no such list; a text where nobody answers. Raises InputError if the key
        is refused.
        """
        found = self._get(self.url + "/models", timeout)
        if isinstance(found, str):
            return found
        status, body = found
        if status in (401, 403):
            name = f"${self.api_key_env}" if self.api_key_env else f"{WHERE}.api_key_env"
            raise InputError(f"{WHERE}: {self.url} refused the key; set {name}")
        listed = _parsed(body).get("data") if status == 200 else None
        entries = listed if isinstance(listed, list) else []
        named = [one for one in entries if isinstance(one, dict) and "id" in one]
        return {str(one["id"]): _window(one) for one in named}

    def is_ready(self) -> bool:
        """Whether it has loaded what it serves: by its `/health` and its list of models."""
        health = self._get(self.url.removesuffix("/v1") + "/health", _ASIDE)
        # llama-server lists its model before it has loaded it, and says so at /health only.
        busy = isinstance(health, str) or health[0] in _BUSY
        return not busy and not isinstance(self.models(), str)

    def _get(self, url: str, timeout: float) -> tuple[int, bytes] | str:
        try:
            import httpx
        except ImportError:
            raise InputError(f'{PURPOSE} need `pip install "accord[endpoints]"`') from None
        headers = {**self.headers, **self._address.basic}
        try:
            found = httpx.get(
                url, headers=headers, params=list(self._address.query) or None, timeout=timeout
            )
        except httpx.TimeoutException:
            return TIMEOUT
        except httpx.RequestError:
            return NO_ROUTE
        except httpx.InvalidURL as error:  # of a host such as 256.1.1.1
            raise InputError(
                f"{WHERE}.base_url: {self.url} is no address that can be asked: {error}"
            ) from None
        except (ImportError, ValueError):  # of a proxy that the environment names
            raise InputError(
                f"{PURPOSE}: the proxy that the environment names cannot be used; mend HTTP_PROXY, "
                "HTTPS_PROXY or ALL_PROXY"
            ) from None
        return found.status_code, found.content


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _window(entry: Mapping[str, Any]) -> int | None:
    found = entry.get("max_model_len")  # of vLLM and SGLang
    return found if isinstance(found, int) else None
