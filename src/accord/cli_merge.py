"""The commands that merge models outside a run, and put one on the model hub."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from accord.errors import InputError
from accord.options import Json, Quiet, Seed, Verbose
from accord.terminal import Terminal


def merge(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="base, models, layer_weights, merge, seed.")
    ],
    out: Annotated[Path, typer.Option("-o", metavar="DIR", help="The model folder to write.")],
    seed: Seed = None,
    threads: Annotated[
        Optional[int], typer.Option(min=1, help="Threads; the processors, at most 8, if not given.")
    ] = None,
    kernel: Annotated[
        str, typer.Option(help="auto, numba or numpy: what computes; the bytes are the same.")
    ] = "auto",
    allow_nonfinite: Annotated[
        bool, typer.Option("--allow-nonfinite", help="Merge NaN and infinity, and count them.")
    ] = False,
    fsync: Annotated[
        bool, typer.Option("--fsync", help="Wait for the disk: safe from a power failure.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Merge models layer by layer; CONFIG is accord's or mergekit's."""
    from accord.merging import merge_file

    if kernel not in ("auto", "numba", "numpy"):
        raise InputError(f"--kernel: found {kernel}; auto, numba or numpy is wanted")
    terminal = Terminal(as_json, quiet)
    how = {"threads": threads, "kernel": kernel, "allow_nonfinite": allow_nonfinite, "fsync": fsync}
    with terminal.watch("merge") as progress:
        notes = merge_file(config, out, seed, progress, **how)
    for note in notes:
        terminal.say(f"note: {note}")
    terminal.result({"model": str(out), "notes": list(notes)}, f"wrote {out}")


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder, never a run.")],
    repo: Annotated[str, typer.Argument(metavar="REPO_ID", help="OWNER/NAME on the model hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="A new repository that only its owner sees.")
    ] = False,
    message: Annotated[
        Optional[str], typer.Option("-m", "--message", help="The commit's message.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Put a merged model on the model hub."""
    from accord.publish import push as upload

    terminal = Terminal(as_json, quiet)
    address = upload(folder, repo, private=private, message=message)
    terminal.result({"repo": repo, "address": address}, f"pushed to {address}")
