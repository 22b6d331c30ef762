"""A gate on scores: read and checked before the work, decided and written after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accord.errors import InputError
from accord.evaluate.answers import Entrant, check_answers, entrants
from accord.evaluate.compare import compare
from accord.evaluate.gate import BASELINE, choose_model, decide, parse
from accord.evaluate.scoring import JUDGE, choose
from accord.evaluate.stage import ALWAYS
from accord.evaluate.verdict import Verdict, junit, markdown
from accord.measure.sources import Measures, Sources, read_sources
from accord.records import write_text


@dataclass(frozen=True)
class Gate:
    """What is asked of which model, and where the verdict goes.

    `summary` is a Markdown file; by default it lies beside SCORES.
    """

    expression: str
    model: str | None = None
    baseline: Path | None = None
    junit: Path | None = None
    summary: Path | None = None


class Gatekeeper:
    """Decides a gate. Raises InputError for an expression that is none as soon as it is made."""

    def __init__(self, gate: Gate, measures: Measures) -> None:
        known = {*ALWAYS, *measures.accuracy, *measures.consistency, JUDGE}
        self.gate, self.measures = gate, measures
        self.clauses = parse(gate.expression, metrics=known)
        self._differences: dict[str, dict[str, Any]] = {}

    def prepare(self, sources: Sources, references: Sequence[Path]) -> None:
        """Find the gated model and the others it is compared with, or raise InputError."""
        rows = {row.name: row for row in entrants(sources.files)}
        self.model = choose_model(list(rows), self.gate.model)
        self.references = sources.references
        self.measures = replace(self.measures, trained=self.measures.trained or sources.trained)
        for clause in self.clauses:
            if clause.versus == BASELINE and self.gate.baseline is None:
                raise InputError(
                    f"--gate: `{clause}` names {BASELINE}; give --baseline ANSWERS_OR_RUN"
                )
            if clause.versus is not None and clause.metric.rpartition(".")[2] == JUDGE:
                raise InputError(f"--gate: `{clause}`: the judge's scores take a bar, as `>= .9`")
            if clause.versus not in {None, BASELINE, *rows}:
                shown = ", ".join(f"`{name}`" for name in rows)
                raise InputError(
                    f"--gate: `{clause}`: no model `{clause.versus}`; there are {shown}"
                )
        if self.gate.baseline is not None:
            rows[BASELINE] = self._baseline(self.gate.baseline, references)
        self.rows = rows

    def _baseline(self, path: Path, references: Sequence[Path]) -> Entrant:
        """The row of the baseline: the gated model there, else the only one."""
        other = read_sources([path], references)
        self.references = other.references | self.references
        check_answers(other.files, self.references)
        rows = {row.name: row for row in entrants(other.files)}
        name = self.model if self.model in rows else choose_model(list(rows), None)
        return replace(rows[name], name=f"{name} of {path}")

    def decide(self, scores: dict[str, Any]) -> Verdict:
        """The verdict on SCORES, which gets it under `gate`."""
        verdict = decide(self.clauses, scores, self.model, self._difference)
        outcomes = [
            {"clause": str(o.clause), "passed": o.passed, "why": o.sentence}
            for o in verdict.outcomes
        ]
        scores["gate"] = {"model": self.model, "passed": verdict.passed, "clauses": outcomes}
        return verdict

    def write(self, verdict: Verdict, scores: Mapping[str, Any], out: Path) -> None:
        """The Markdown summary, and the JUnit file where one is wanted."""
        write_text(self.gate.summary or out.with_suffix(".md"), markdown(verdict, scores))
        if self.gate.junit is not None:
            write_text(self.gate.junit, junit(verdict))

    def _difference(self, metric: str, name: str) -> Mapping[str, Any] | None:
        """The gated model - `name` in a metric given by its path; None where it is not known."""
        if name not in self._differences:
            self._differences[name] = self._compare(self.rows[name])
        found: Any = self._differences[name]
        for step in metric.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else None

    def _compare(self, other: Entrant) -> dict[str, Any]:
        own = self.measures
        chosen = choose(own.accuracy, own.consistency, T=own.T, resources=own.resources)
        return compare(
            self.rows[self.model],
            other,
            self.references,
            chosen,
            trained=own.trained,
            resamples=own.resamples,
            seed=own.seed,
        )
