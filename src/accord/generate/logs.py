"""The log of a program that answers for us: where it is, and how it ends."""

from pathlib import Path
from tempfile import gettempdir

_SHOWN = 400  # characters of a log in a message


def log_of(cache: Path | None, model: str, kind: str) -> Path:
    """The log file of a row's server or engine: in `logs`, beside the cache of the answers."""
    folder = Path(gettempdir()) / "accord" if cache is None else cache.parent
    return folder / "logs" / f"{model}.{kind}.log"


def tail(log: Path) -> str:
    """`LOG ends: ...`, on one line."""
    try:
        text = log.read_bytes()[-10 * _SHOWN :].decode("utf-8", "replace")
    except OSError:
        text = ""
    words = "".join(c if c.isprintable() else " " for c in text).split()
    shown = " ".join(words)
    shown = shown if len(shown) <= _SHOWN else "..." + shown[-_SHOWN:]
    return f"{log} ends: {shown}" if shown else f"{log} is empty"
