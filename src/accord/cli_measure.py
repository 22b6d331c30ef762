"""The commands that measure answers from anywhere: evaluate and compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from accord.errors import InputError
from accord.options import Json, Quiet, Verbose
from accord.terminal import Terminal

if TYPE_CHECKING:
    from accord.evaluate.verdict import Verdict
    from accord.measure.scores import Judging
    from accord.measure.sources import Measures

GATE_FAILED = 3
Encoder = Annotated[
    str,
    typer.Option(help="Sentence encoder of BS: a folder, package:NAME, a hub id, or none."),
]
Accuracy = Annotated[str, typer.Option(help="Metrics of answers against references.")]
Consistency = Annotated[str, typer.Option(help="Metrics of two answers to one question.")]
Trained = Annotated[
    Optional[str],
    typer.Option(metavar="KINDS", help="Kinds trained on; the others are scored as unseen."),
]
Resamples = Annotated[int, typer.Option(min=100, help="Bootstrap resamples and sign flips.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the resamples.")]
_KEY = "OPENAI_API_KEY"
_ENCODER = "package:all-minilm-l6-v2"
_ACCURACY, _CONSISTENCY = "rouge_l,bleu", "em,rs,bs,containment"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _measures(T: float, trained: str | None, lists: tuple[str, str], **rest: Any) -> "Measures":
    from accord.measure.sources import Measures

    accuracy, consistency = (_names(text) for text in lists)
    kinds = None if trained is None else _names(trained)
    return Measures(T=T, accuracy=accuracy, consistency=consistency, trained=kinds, **rest)


def evaluate(
    answers: Annotated[
        Optional[list[Path]],
        typer.Argument(
            metavar="ANSWERS...",
            help="answers.jsonl or a run folder; several are the seeds of one recipe.",
        ),
    ] = None,
    references: Annotated[
        Optional[list[Path]],
        typer.Option(metavar="QA", help="qa.jsonl; a run folder brings its own."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option("-o", metavar="SCORES", help="The JSON file to write.")
    ] = None,
    T: Annotated[
        Optional[float],
        typer.Option("--T", help="RS counts pairs with ROUGE-L F1 above T; .7, or calibrated."),
    ] = None,
    encoder: Encoder = _ENCODER,
    accuracy: Accuracy = _ACCURACY,
    consistency: Consistency = _CONSISTENCY,
    trained: Trained = None,
    focus: Annotated[
        Optional[str],
        typer.Option(metavar="MODEL", help="Compared with every other; Merged, else the first."),
    ] = None,
    gate: Annotated[
        Optional[str],
        typer.Option(
            metavar="EXPR", help='As "rs>=.4 and rs not worse than BASELINE by .01"; exit code 3.'
        ),
    ] = None,
    gate_model: Annotated[
        Optional[str], typer.Option(metavar="NAME", help="Merged, else the only one.")
    ] = None,
    baseline: Annotated[
        Optional[Path], typer.Option(metavar="ANSWERS_OR_RUN", help="BASELINE of the gate.")
    ] = None,
    junit: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="The gate's verdict as JUnit XML.")
    ] = None,
    summary: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="The gate's verdict as Markdown; SCORES with .md."),
    ] = None,
    calibrate: Annotated[
        Optional[Path],
        typer.Option(metavar="LABELLED", help="Choose T on pairs of answers labelled by people."),
    ] = None,
    calibrate_metric: Annotated[
        str, typer.Option(metavar="NAME", help="A metric, or a number in LABELLED.")
    ] = "rs",
    precision: Annotated[float, typer.Option(help="Target of --calibrate.")] = 0.9,
    judge: Annotated[
        Optional[str],
        typer.Option(metavar="URL", help="OpenAI-compatible endpoint of a model that judges."),
    ] = None,
    judge_model: Annotated[Optional[str], typer.Option(help="The model there.")] = None,
    judge_rubric: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="A jinja2 file; the built-in one.")
    ] = None,
    judge_labels: Annotated[
        Optional[Path],
        typer.Option(metavar="LABELLED", help="Report the judge's agreement with people."),
    ] = None,
    judge_key_env: Annotated[
        str, typer.Option(metavar="NAME", help="The environment variable with the key.")
    ] = _KEY,
    judge_concurrency: Annotated[int, typer.Option(min=1, max=64)] = 8,
    judge_cache: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Verdicts, never asked twice; SCORES with .judge.jsonl."),
    ] = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Accuracy and consistency of any system's answers."""
    terminal = Terminal(as_json, quiet)
    _refuse_stray(gate, calibrate, judge, locals())
    lists = (accuracy, consistency)
    rest = {"encoder": encoder, "resamples": resamples, "seed": seed}
    measures = _measures(0.7 if T is None else T, trained, lists, **rest)
    found = None
    if calibrate is not None:
        from accord.evaluate.calibrate import render as shown
        from accord.measure.thresholds import calibrate_file

        found = calibrate_file(calibrate, calibrate_metric, precision, measures)
        if not answers:
            _write(out, {"calibration": found})
            terminal.result({"calibration": found}, shown(found, calibrate_metric))
            return
        if calibrate_metric == "rs" and T is None:
            measures = _measures(_threshold(found, calibrate), trained, lists, **rest)
        terminal.say(shown(found, calibrate_metric))
    from accord.evaluate.table import render, table
    from accord.measure.gating import Gate
    from accord.measure.scores import evaluate_files

    if not answers or out is None:
        raise InputError(f"evaluate: give {'ANSWERS' if not answers else '-o SCORES'}")
    judging = _judging(
        (judge, judge_model), judge_key_env, judge_rubric, judge_labels, judge_concurrency,
        judge_cache or out.with_suffix(".judge.jsonl"),
    )  # fmt: skip
    with terminal.watch("evaluate") as progress:
        scores, verdict = evaluate_files(
            answers,
            references or [],
            out,
            measures,
            focus=focus,
            calibration=found,
            judging=judging,
            gate=Gate(gate, gate_model, baseline, junit, summary) if gate else None,
            progress=progress,
        )
    terminal.result(scores, render(table(scores)))
    if verdict is not None:
        _end(verdict, terminal)


def _refuse_stray(gate: Any, calibrate: Any, judge: Any, given: dict[str, Any]) -> None:
    """Raise InputError for an option that would do nothing without another."""
    needs = (
        (gate, "--gate", ("gate_model", "baseline", "junit", "summary")),
        (judge, "--judge", ("judge_model", "judge_rubric", "judge_labels", "judge_cache")),
    )
    for leader, name, others in needs:
        stray = [other for other in others if given[other] is not None]
        if leader is None and stray:
            option = "--" + stray[0].replace("_", "-")
            raise InputError(f"{option}: does nothing without {name}; give {name} or leave it out")
    if judge is None and (given["judge_key_env"], given["judge_concurrency"]) != (_KEY, 8):
        raise InputError("--judge-key-env and --judge-concurrency do nothing without --judge")
    if calibrate is None and (given["calibrate_metric"], given["precision"]) != ("rs", 0.9):
        raise InputError("--calibrate-metric and --precision do nothing without --calibrate")


def _threshold(found: dict[str, Any], labelled: Path) -> float:
    if found["threshold"] is None:
        raise InputError(
            f"--calibrate {labelled}: {found['why']}; give --T, or a lower --precision"
        )
    return float(found["threshold"])


def _judging(
    asked: tuple[str | None, str | None],
    key: str,
    rubric: Path | None,
    labels: Path | None,
    concurrency: int,
    cache: Path,
) -> "Judging | None":
    from accord.measure.scores import Judging

    url, model = asked
    if url is None:
        return None
    if model is None:
        raise InputError("--judge: give --judge-model, the model to ask there")
    return Judging(url, model, key, rubric, labels, concurrency, cache)


def _write(out: Path | None, value: Any) -> None:
    from accord.records import write_json

    if out is not None:
        write_json(out, value)


def _end(verdict: "Verdict", terminal: Terminal) -> None:
    """Say what the gate decided; exit code 3 where it failed."""
    for outcome in verdict.outcomes:
        terminal.say(f"{'passed' if outcome.passed else 'FAILED'}: {outcome.sentence}")
    terminal.say(f"gate on {verdict.model}: {verdict.headline}")
    if not verdict.passed:
        raise typer.Exit(GATE_FAILED)


def compare(
    run_a: Annotated[
        str,
        typer.Argument(
            metavar="RUN_A", help="A run folder or answers.jsonl; seeds of one, comma-separated."
        ),
    ],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="The same, of the other.")],
    references: Annotated[
        Optional[list[Path]],
        typer.Option(metavar="QA", help="qa.jsonl; run folders bring their own."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option("-o", metavar="FILE", help="A JSON file to write.")
    ] = None,
    model: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help="On both sides; Merged, else the only one."),
    ] = None,
    model_a: Annotated[Optional[str], typer.Option(metavar="NAME", help="In RUN_A.")] = None,
    model_b: Annotated[Optional[str], typer.Option(metavar="NAME", help="In RUN_B.")] = None,
    T: Annotated[float, typer.Option("--T", help="RS counts pairs with ROUGE-L F1 above T.")] = 0.7,
    encoder: Encoder = _ENCODER,
    accuracy: Accuracy = _ACCURACY,
    consistency: Consistency = _CONSISTENCY,
    trained: Trained = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Two runs compared: what can be claimed of their differences."""
    from accord.evaluate.table import differences
    from accord.measure.differences import compare_files

    lists = (accuracy, consistency)
    measures = _measures(T, trained, lists, encoder=encoder, resamples=resamples, seed=seed)
    sides = [[Path(part) for part in side.split(",") if part] for side in (run_a, run_b)]
    terminal = Terminal(as_json, quiet)
    found = compare_files(
        sides[0],
        sides[1],
        references or [],
        out,
        measures,
        models=(model_a or model, model_b or model),
    )
    for note in found["notes"]:
        terminal.say(f"note: {note}")
    terminal.result(found, differences(found))
