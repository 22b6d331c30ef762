"""The command that makes variations, writes them for review, and takes back what was marked."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from accord.errors import InputError
from accord.options import Json, Quiet, Verbose
from accord.terminal import Terminal

_HELP = "semantic: "


def vary(
    out: Annotated[Path, typer.Option("-o", metavar="VARIATIONS", help="The file to write.")],
    qa: Annotated[
        Optional[Path], typer.Argument(metavar="QA", help="qa.jsonl; none with --from-log.")
    ] = None,
    types: Annotated[
        str, typer.Option(help="Kinds of variation, comma-separated.")
    ] = "how_to_do,i_we,singular_plural_article",
    review: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Also write a table (.csv, .tsv, .md) to mark."),
    ] = None,
    accept: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Write what is marked in such a table; make nothing."),
    ] = None,
    from_log: Annotated[
        Optional[Path],
        typer.Option(metavar="LOG", help="Find rewordings in a query log (.jsonl or lines)."),
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="--from-log: the sentence encoder.")
    ] = "package:all-minilm-l6-v2",
    base_url: Annotated[
        Optional[str], typer.Option(help=_HELP + "an OpenAI-compatible endpoint.")
    ] = None,
    model: Annotated[Optional[str], typer.Option(help=_HELP + "the model there.")] = None,
    local: Annotated[
        Optional[str], typer.Option(help=_HELP + "a local model instead: folder or package:NAME.")
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help=_HELP + "the environment variable with the key.")
    ] = "OPENAI_API_KEY",
    k: Annotated[int, typer.Option("-k", min=1, max=20, help=_HELP + "paraphrases a query.")] = 2,
    prompt: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help=_HELP + "a jinja2 prompt.")
    ] = None,
    judge: Annotated[
        bool, typer.Option("--judge", help=_HELP + "ask the model whether the meaning is kept.")
    ] = False,
    budget: Annotated[
        Optional[int], typer.Option(min=0, help=_HELP + "at most so many requests.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Variations of every question of a file.

    Those that could not be made go to STEM.skipped.jsonl beside it, each with its reason.
    """
    from accord.standalone import accept_file, log_file, vary_file

    terminal = Terminal(as_json, quiet)
    if from_log is not None:
        if qa is not None or accept is not None:
            raise InputError("vary: --from-log stands alone; leave out QA and --accept")
        with terminal.watch("vary") as progress:
            found = log_file(from_log, out, encoder, progress, review=review)
        shown = f"{found['queries']} queries: {found['questions']} questions asked in other words"
        terminal.result(found, f"{shown}, {found['variations']} variations\nwrote {out}")
        return
    if qa is None:
        raise InputError("vary: give QA (qa.jsonl), or --from-log LOG")
    semantic = (base_url, model, local, prompt, judge or None, budget)
    if "semantic" not in types.split(",") and any(given is not None for given in semantic):
        raise InputError("vary: the options of semantic do nothing without it; add it to --types")
    if accept is not None:
        if review is not None:
            raise InputError("vary: --review writes a table and --accept reads one; give one")
        taken = accept_file(qa, accept, out)
        terminal.result({"variations": taken}, f"{taken} variations taken\nwrote {out}")
        return
    options: dict[str, Any] = {
        "base_url": base_url,
        "model": model,
        "local": local,
        "api_key_env": api_key_env,
        "k": k,
        "prompt": prompt,
        "judge": judge,
        "budget": None if budget is None else {"requests": budget},
        "cache": out.with_name(f"{out.stem}.asked.jsonl"),
    }
    with terminal.watch("vary") as progress:
        summary = vary_file(qa, out, types.split(","), options, seed, progress, review=review)
    lines = [f"{kind}: {n['made']} made, {n['skipped']} skipped" for kind, n in summary.items()]
    terminal.result(summary, "\n".join([*lines, f"wrote {out}"]))
