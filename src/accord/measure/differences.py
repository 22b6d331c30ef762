"""`accord compare`: two runs, or two files of answers, on the questions they share."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accord.errors import InputError
from accord.evaluate import statistics
from accord.evaluate.answers import Entrant, check_answers, entrants
from accord.evaluate.compare import compare
from accord.evaluate.gate import choose_model
from accord.evaluate.metrics import signatures
from accord.evaluate.scoring import choose
from accord.measure.sources import Measures, Sources, read_sources
from accord.records import write_json
from accord.runs import read_config

Side = Sequence[Path]  # a run folder or a file of answers for each seed
_SAME = ("generate", "prompt", "encoder")  # sections that should not differ between two runs


def compare_files(
    first: Side,
    second: Side,
    references: Sequence[Path],
    out: Path | None,
    measures: Measures,
    *,
    models: tuple[str | None, str | None] = (None, None),
) -> dict[str, Any]:
    """The paired differences of a model of `first` and one of `second`; written where `out` says.

    `models`: the model on each side; None: Merged, else the only one.
    Raises InputError where the sides share no question, or where a question has two references.
    """
    sides = [read_sources(paths, references) for paths in (first, second)]
    known = _references(sides)
    rows = []
    for side, paths, wanted in zip(sides, (first, second), models, strict=True):
        check_answers(side.files, known)
        rows.append(_entrant(side, paths, wanted))
    if rows[0].name == rows[1].name:
        rows = [
            replace(row, name=f"{row.name} of {paths[0]}")
            for row, paths in zip(rows, (first, second), strict=True)
        ]
    if rows[0].name == rows[1].name:
        raise InputError(f"compare: both sides are {rows[0].name}; give --model-a and --model-b")
    trained = sides[0].trained if sides[0].trained == sides[1].trained else None
    resources = measures.resources
    chosen = choose(measures.accuracy, measures.consistency, T=measures.T, resources=resources)
    found = compare(
        rows[0],
        rows[1],
        known,
        chosen,
        trained=measures.trained or trained,
        resamples=measures.resamples,
        seed=measures.seed,
    )
    result = {
        "a": rows[0].name,
        "b": rows[1].name,
        "differences": found,
        "sentence": found.pop("sentence"),
        "notes": _notes(first, second),
        "signatures": {
            **signatures(measures.T, resources.encoder),
            **statistics.signatures(measures.resamples, measures.seed),
            "seeds": {row.name: list(row.seeds) for row in rows},
        },
    }
    if out is not None:
        write_json(out, result)
    return result


def _entrant(side: Sources, paths: Side, wanted: str | None) -> Entrant:
    rows = {row.name: row for row in entrants(side.files)}
    try:
        return rows[choose_model(list(rows), wanted)]
    except InputError:
        shown = ", ".join(f"`{name}`" for name in rows) or "none"
        found = f"no model `{wanted}`" if wanted else "more than one model"
        raise InputError(
            f"{paths[0]}: {found}; there are {shown}: give --model, or --model-a and --model-b"
        ) from None


def _references(sides: Sequence[Sources]) -> dict[str, str | None]:
    first, second = (side.references for side in sides)
    for id_ in first.keys() & second.keys():
        if first[id_] != second[id_]:
            raise InputError(
                f"question `{id_}` has one reference answer on one side and another on the other; "
                "give --references with the right ones"
            )
    return first | second


def _notes(first: Side, second: Side) -> list[str]:
    """What besides the models differs between two runs: part of a difference may be due to it."""
    if not (first[0].is_dir() and second[0].is_dir()):
        return []
    one, other = (read_config(side[0]).model_dump(mode="json") for side in (first, second))
    return [
        f"the runs differ in `{name}`, and part of a difference may be due to that: "
        f"{one[name]} and {other[name]}"
        for name in _SAME
        if one[name] != other[name]
    ]
