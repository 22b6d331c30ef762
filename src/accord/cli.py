"""The command line: thin commands over the stages and the pipeline.

Exit codes: 0 done, 1 failed while running, 2 usage, config or input data, 3 a gate failed,
130 interrupted. Everything heavy is imported inside the commands: `accord --help` is instant.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from accord import __version__, cli_measure, cli_merge, cli_probe, cli_vary
from accord.errors import InputError
from accord.options import ConfigFile, Guarded, Json, Limit, Quiet, RunFolder, Seed, Sets, Verbose
from accord.terminal import Terminal

# Threads that spin while they wait for a core collapse beside any other load; waiting ones do not.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


app = typer.Typer(
    cls=Guarded,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich takes longer than all else that --help does
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The same answer to the same question, however it is asked.",
)


def _version(value: bool) -> None:
    if value:
        print(f"accord {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """The same answer to the same question, however it is asked."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR")] = Path(),
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a config and a toy data set to start from."""
    from accord.example import write_example

    files = write_example(folder)
    terminal = Terminal(as_json, quiet)
    shown = f"{folder}: wrote {', '.join(files)}\nnext: accord check {folder / 'accord.yaml'}"
    terminal.result({"folder": str(folder), "files": files}, shown)


@app.command()
def doctor(
    config: Annotated[Optional[Path], typer.Argument(metavar="[CONFIG]")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Versions, device, dtype, threads, and what a run will cost here."""
    from accord.doctor import examine, render

    found = examine(config)
    Terminal(as_json, quiet).result(found, render(found))


@app.command()
def check(
    config: ConfigFile,
    run_folder: RunFolder = None,
    sets: Sets = None,
    limit: Limit = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """All that can be known before work starts."""
    from accord.check import check_file, render

    findings = check_file(config, sets or [], seed=seed, limit=limit, run_folder=run_folder)
    Terminal(as_json, quiet).result([f._asdict() for f in findings], render(findings))
    if any(f.level == "error" for f in findings):
        raise typer.Exit(2)


@app.command()
def run(
    config: ConfigFile,
    run_folder: RunFolder = None,
    sets: Sets = None,
    first: Annotated[str, typer.Option("--from", metavar="STAGE")] = "vary",
    last: Annotated[str, typer.Option("--until", metavar="STAGE")] = "report",
    force: Annotated[Optional[str], typer.Option(metavar="STAGE")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    limit: Limit = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """The whole method: a merged model, the table and the report."""
    from accord import pipeline
    from accord.check import require_ready, require_stage
    from accord.configfile import load_config
    from accord.evaluate.table import render
    from accord.train import launch

    if not launch.is_main():
        launch.follow()
        return
    for option, stage in (("--from", first), ("--until", last), ("--force", force)):
        require_stage(option, stage)
    settings = load_config(config, sets or [], seed=seed, limit=limit)
    folder = run_folder or _default_folder(config)
    terminal = Terminal(as_json, quiet)
    if dry_run:
        steps = pipeline.plan(settings, folder, first=first, last=last, force=force)
        terminal.result(dict(steps), "\n".join(f"{name:<9} {what}" for name, what in steps))
        return
    for note in require_ready(settings, folder):
        terminal.say(f"note: {note}")
    with launch.leading():
        table = pipeline.run(
            settings,
            folder,
            first=first,
            last=last,
            force=force,
            watch=terminal.watch,
            say=terminal.stage,
        )
    if table is None:
        terminal.result({"run": str(folder)}, f"{folder}: done until {last}")
        return
    terminal.result(table, render(table))
    page = folder / "report.html"
    if settings.data.limit is not None and limit is None:
        terminal.say("this was the first part of the data; all of it: --set data.limit=null")
    terminal.say(f"report: {page}" if page.is_file() else f"table: {folder / 'table.json'}")


def _default_folder(config: Path) -> Path:
    return Path("runs") / config.resolve().parent.name


app.command()(cli_vary.vary)


def _stage_command(
    name: str, summary: str, found: Callable[[Path], tuple[dict[str, Any], str]] | None = None
) -> None:
    """A command that does one stage in a run's folder; the earlier ones must be complete.

    `found` reads from the stage's folder what it found, for the result and for people.
    """

    def command(
        config: ConfigFile,
        run_folder: RunFolder = None,
        sets: Sets = None,
        limit: Limit = None,
        seed: Seed = None,
        as_json: Json = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
    ) -> None:
        from accord import pipeline
        from accord.configfile import load_config
        from accord.train import launch

        if name == "train" and not launch.is_main():
            launch.follow()
            return
        settings = load_config(config, sets or [], seed=seed, limit=limit)
        folder = run_folder or _default_folder(config)
        terminal = Terminal(as_json, quiet)
        with launch.leading():
            pipeline.run(
                settings, folder, first=name, last=name, watch=terminal.watch, say=terminal.stage
            )
        more, shown = found(folder / name) if found else ({}, "")
        terminal.result({"stage": str(folder / name), **more}, f"{shown}{folder / name}: done")

    app.command(name, help=summary)(command)


def _steadiness(folder: Path) -> tuple[dict[str, Any], str]:
    """How steady the passages are, by kind of rewording."""
    from accord.records import read_records
    from accord.retrieve.consistency import Steadiness, by_kind, text_table

    found = by_kind(read_records(folder / "consistency.jsonl", Steadiness))
    return {"consistency": found}, f"{text_table(found)}\n"


_stage_command("retrieve", "Passages for every wording, in a run's folder.", _steadiness)
_stage_command("train", "One specialist for each kind of wording, in a run's folder.")
_stage_command("weigh", "Layer weights from activations, in a run's folder.")


app.command()(cli_merge.merge)
app.command()(cli_merge.push)
_stage_command("generate", "Answers of all models to all test wordings, in a run's folder.")


app.command()(cli_measure.evaluate)
app.command()(cli_probe.probe)
app.command()(cli_measure.compare)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the page of a finished run anew."""
    from accord import pipeline
    from accord.runs import read_config

    settings = read_config(folder)
    terminal = Terminal(as_json, quiet)
    pipeline.run(settings, folder, first="report", last="report", force="report")
    page = folder / "report.html"
    terminal.result({"report": str(page)}, f"report: {page}")


@app.command("list")
def list_(
    kind: Annotated[
        Optional[str],
        typer.Argument(metavar="[KIND]", help="variations, retrievers, methods, ..."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """The components and their options."""
    from accord.registry import KINDS, components, suggest

    if kind is not None and kind not in KINDS:
        raise InputError(f"list: no kind `{kind}`; {suggest(kind, KINDS)}")
    found = {k: components(k) for k in (KINDS if kind is None else (kind,))}
    as_data = {
        k: {n: {"summary": c.summary, "options": list(c.described)} for n, c in known.items()}
        for k, known in found.items()
    }
    lines = []
    for k, known in found.items():
        lines.append(k)
        for name, c in known.items():
            lines.append(f"  {name:<24} {c.summary}")
            lines += [f"      {parameter}" for parameter in c.described]
    Terminal(as_json, quiet).result(as_data, "\n".join(lines))


def main() -> None:
    """Entry point of the `accord` script."""
    sys.unraisablehook = _interrupt_again
    app(prog_name="accord")


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python drops an interrupt that lands in a finaliser: send it once more, a moment later."""
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
        return
    main_thread = threading.main_thread().ident
    if main_thread is not None:
        send = threading.Timer(0.05, signal.pthread_kill, (main_thread, signal.SIGINT))
        send.daemon = True
        send.start()
