"""An http address without what may be secret in it: user, password and query stay apart."""

import base64
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from accord.errors import InputError


class Address(NamedTuple):
    """`url` can be shown and written; `user` (with its password) and `query` cannot."""

    url: str
    user: str = ""
    query: tuple[tuple[str, str], ...] = ()

    @property
    def basic(self) -> dict[str, str]:
        """The header that user and password make; none without them."""
        if not self.user:
            return {}
        encoded = base64.b64encode(unquote(self.user).encode()).decode()
        return {"Authorization": f"Basic {encoded}"}


def read_address(text: str, where: str) -> Address:
    """Take an address apart. Raises InputError, which begins with `where`, if it is none."""
    try:
        parts = urlsplit(text)
        # Reading the port and encoding the host checks them: both raise ValueError.
        named = parts.port != 0 and (parts.hostname or "").encode("idna")
        clean = text.isascii() and text.isprintable()
        valid = parts.scheme in ("http", "https") and named and clean
    except ValueError:
        valid = False
    if not valid:
        # It is not shown: it may hold a password.
        raise InputError(f"{where} is not an address that begins http:// or https://")
    user, _, host = parts.netloc.rpartition("@")
    url = urlunsplit((parts.scheme, host, parts.path, "", ""))
    # A name without a value may be a switch: `?debug`.
    return Address(url, user, tuple(parse_qsl(parts.query, keep_blank_values=True)))
