"""From sums by question to the numbers of an attribution, with intervals and tests."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from accord.evaluate import ratios, statistics
from accord.evaluate.aggregate import Path, Sums
from accord.evaluate.observed import Kind, standardise
from accord.evaluate.ratios import Share

How = Literal["fixed", "observed", "none"]
E2E, GEN, FLOOR, SAME = "e2e", "gen", "floor", "same"
FLOORED = "e2e of the pairs asked again"  # what the floor is compared with
DIFFERENCE = "difference"
GOLD = "gold"


class Shares:
    """The numbers of one row: one draw of questions resamples all of them."""

    def __init__(
        self, how: How, sums: Sums, kinds: Sequence[str], *, resamples: int, seed: int
    ) -> None:
        self.how, self.sums, self.kinds = how, sums, kinds
        self.columns = {path: index for index, path in enumerate(sums.paths)}
        self.estimates = statistics.bootstrap(
            sums.matrix, sums.combine, clusters=sums.clusters, resamples=resamples, seed=seed
        )
        self.differences = self._differences(resamples, seed)

    def overall(self) -> dict[str, Any]:
        """The numbers over all pairs."""
        return self._part((), self.kinds)

    def by_type(self) -> dict[str, Any]:
        """The numbers of each kind of rewording."""
        return {kind: self._part(("by_type", kind), [kind]) for kind in self.kinds}

    def _part(self, path: Path, kinds: Sequence[str]) -> dict[str, Any]:
        entry = self._fixed if self.how == "fixed" else self._observed
        metrics = {
            at[-1]: own for at in self._metrics(path) if (own := entry(at, kinds)) is not None
        }
        gold = [at for at in self.columns if at[:-2] == (*path, GOLD) and at[-1] == GOLD]
        found = {at[-2]: own for at in gold if (own := self._compared(at[:-1], GOLD)) is not None}
        return {
            "retriever": self._retriever((*path, "retriever")),
            "metrics": metrics,
            **({GOLD: found} if found else {}),
        }

    def _metrics(self, path: Path) -> list[Path]:
        """Where the metrics of a part stand."""
        ends = [at for at in self.columns if at[:-2] == (*path, "metrics")]
        return list(dict.fromkeys(at[:-1] for at in ends))

    def _retriever(self, path: Path) -> dict[str, Any] | None:
        """C_ret: means over pairs, each with its interval; `n` and `pairs` are the most of any."""
        names = [at for at in self.columns if at[:-1] == path and self._has(at)]
        if not names:
            return None
        return {
            **{at[-1]: self._value(at) for at in names},
            "ci": {at[-1]: self._interval(at) for at in names},
            "n": max(int(self.estimates.clusters[self.columns[at]]) for at in names),
            "pairs": max(self._pairs(at) for at in names),
        }

    def _compared(self, at: Path, other: str) -> dict[str, Any] | None:
        """Two consistencies over the same pairs; None where there is no pair."""
        e2e, held = (*at, E2E), (*at, other)
        if not self._has(e2e):
            return None
        return {
            E2E: self._value(e2e),
            other: self._value(held),
            "n": int(self.estimates.clusters[self.columns[e2e]]),
            "pairs": self._pairs(e2e),
            "ci": {E2E: self._interval(e2e), other: self._interval(held)},
        }

    def _fixed(self, at: Path, kinds: Sequence[str]) -> dict[str, Any] | None:
        """One metric with the original's passages held fixed beside it end to end."""
        found = self._compared(at, GEN)
        if found is None:
            return None
        difference, ends, p, adjusted = self.differences[at]
        retriever = self._share((*at, GEN), (*at, E2E))
        found |= {DIFFERENCE: difference, "p": p, "p_holm": adjusted}
        found["ci"][DIFFERENCE] = ends
        return self._with_shares(found, retriever, at)

    def _observed(self, at: Path, kinds: Sequence[str]) -> dict[str, Any] | None:
        """One metric over pairs with the same passages beside all pairs, by kind standardised."""
        found = standardise({k: self._kind(_of(k, at)) for k in kinds})
        if found is None:
            return None
        left_out = [k for k in kinds if k not in found.names and self._has((*_of(k, at), E2E))]
        entry = {
            E2E: found.e2e,
            GEN: found.gen,
            "n": found.clusters,
            "pairs": round(found.pairs),
            "same_pairs": round(found.pairs_same),
            **({"kinds_left_out": left_out} if left_out else {}),
            "ci": {
                E2E: _ends(found.e2e, found.e2e_error, found.clusters),
                GEN: _ends(found.gen, found.gen_error, found.clusters),
            },
        }
        return self._with_shares(entry, found.retriever, at)

    def _kind(self, at: Path) -> Kind:
        (total, pairs), (total_same, pairs_same) = (self._columns((*at, w)) for w in (E2E, SAME))
        return Kind(total, pairs, total_same, pairs_same)

    def _with_shares(self, found: dict[str, Any], retriever: Share, at: Path) -> dict[str, Any]:
        """`found` with the shares of the retriever, of the generator, and of noise in that."""
        shares = {"retriever_share": retriever, "generator_share": _rest(retriever)}
        if self._has((*at, FLOOR)):
            shares["noise_share"] = _rest(self._share((*at, FLOOR), (*at, FLOORED)))
            found[FLOOR] = self._value((*at, FLOOR))
            found["ci"][FLOOR] = self._interval((*at, FLOOR))
        found |= {name: own.number for name, own in shares.items()}
        found["ci"] |= {name: own.ends for name, own in shares.items()}
        return found

    def _share(self, held: Path, e2e: Path) -> Share:
        """What part of the inconsistency end to end is gone when something is held."""
        (kept, pairs), (found, _) = self._columns(held), self._columns(e2e)
        asked = pairs > 0
        kept, found, pairs = kept[asked], found[asked], pairs[asked]
        missing = float((pairs - found).sum())
        lowest = 0.0 - float(found.sum()) / missing if missing > 0 else 0.0
        return ratios.share(kept - found, pairs - found, lowest)

    def _differences(
        self, resamples: int, seed: int
    ) -> dict[Path, tuple[float, list[float] | None, float, float]]:
        """C_gen - C_e2e of each metric, overall and by kind: interval, p, p after Holm."""
        ats = [at[:-1] for at in self.columns if at[-1] == GEN]
        if not ats:
            return {}
        gen, e2e = (self._picked([(*at, what) for at in ats]) for what in (GEN, E2E))
        settings = {"resamples": resamples, "seed": seed}
        found = statistics.bootstrap(
            gen.matrix, gen.combine, minus=e2e.matrix, clusters=gen.clusters, **settings
        )
        p = statistics.sign_flip(gen.matrix, e2e.matrix, gen.combine, **settings)
        known = [i for i in range(len(ats)) if not np.isnan(p[i])]
        adjusted = dict(zip(known, statistics.holm([float(p[i]) for i in known]), strict=True))
        return {
            ats[i]: (float(found.values[i]), found.interval(i), float(p[i]), adjusted[i])
            for i in known
        }

    def _picked(self, paths: Sequence[Path]) -> Sums:
        columns = [self.columns[path] for path in paths]
        return Sums(
            list(paths), self.sums.numerators[:, columns], self.sums.denominators[:, columns]
        )

    def _columns(self, path: Path) -> tuple[Any, Any]:
        """Summed scores and pairs of each question."""
        column = self.columns[path]
        return self.sums.numerators[:, column], self.sums.denominators[:, column]

    def _value(self, path: Path) -> float | None:
        return self.estimates.value(self.columns[path])

    def _interval(self, path: Path) -> list[float] | None:
        return self.estimates.interval(self.columns[path])

    def _has(self, path: Path) -> bool:
        """Whether any pair of any seed has a score."""
        return path in self.columns and bool(self._columns(path)[1].any())

    def _pairs(self, path: Path) -> int:
        return round(float(self.sums.denominators[:, self.columns[path]].sum()))


def _of(kind: str, at: Path) -> Path:
    """The same number of one kind of rewording."""
    return ("by_type", kind, *at[-2:])


def _ends(value: float, error: float, clusters: int) -> list[float] | None:
    low, high = statistics.ends(value, error, clusters, (0.0, 1.0))
    return None if np.isnan(low) else [low, high]


def _rest(share: Share) -> Share:
    """1 - a share."""
    return Share(1 - share.value, 1 - share.high, 1 - share.low)
