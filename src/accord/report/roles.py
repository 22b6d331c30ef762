"""Which part a row of the table plays; the charts give each role a shape and a colour."""

from collections.abc import Iterable, Mapping

from accord.report.svg import NORMAL, mark, text, width_of

_FIXED = {"B": "baseline", "SFT": "baseline", "SFT+TL": "baseline", "ALL": "all"}
_FIXED["Merged"] = "merged"
_LEGEND = {
    "baseline": "base and baselines",
    "specialist": "specialists",
    "all": "ALL: one model, every kind",
    "merged": "merged model",
    "other": "other models",
}


def roles_of(names: Iterable[str], specialists: Iterable[str]) -> dict[str, str]:
    """Row name -> role. Rows that are neither of ours nor a specialist are `other`."""
    known = set(specialists)
    return {n: _FIXED.get(n, "specialist" if n in known else "other") for n in names}


def legend(roles: Mapping[str, str], used: Iterable[str], width: float) -> tuple[list[str], float]:
    """Key to the shapes of the `used` names, wrapped to `width`; its parts and its height."""
    present = {roles.get(name, "other") for name in used}
    parts, x, y = [], 8.0, 12.0
    for role in (role for role in _LEGEND if role in present):
        needed = width_of(_LEGEND[role], NORMAL) + 28
        if x > 8 and x + needed > width:
            x, y = 8.0, y + 20
        parts += [mark(role, x, y - 4), text(x + 12, y, _LEGEND[role], "muted")]
        x += needed
    return parts, y + 12
