"""The options that commands share, and what turns their errors into exit codes."""

import errno
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from accord.errors import AccordError


class Guarded(TyperGroup):
    """Turns errors into one sentence and the right exit code; `-v` shows the traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error of ours becomes a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except AccordError as error:
            self._end(ctx, str(error), error.exit_code, error)
        except KeyboardInterrupt as error:
            self._end(ctx, "interrupted; the same command resumes the work", 130, error)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            where = error.filename or "the disk"
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            way_out = f"{'make room' if full else 'mend it'} or {_WAY_OUT}"
            self._end(ctx, f"{where}: {(error.strerror or '').lower()}; {way_out}", 1, error)

    def _end(self, ctx: Any, message: str, code: int, error: BaseException) -> None:
        if (ctx.obj or {}).get("verbose"):
            import traceback

            traceback.print_exception(error)
        print(f"accord: {message}", file=sys.stderr)
        raise typer.Exit(code)


_WAY_OUT = "choose another place with -o, then run the same command to resume"


def _verbose(ctx: typer.Context, value: bool) -> None:
    if value:
        ctx.find_root().obj = {"verbose": True}


Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout, all else on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Verbose = Annotated[
    bool, typer.Option("-v", help="Show the traceback of an error.", callback=_verbose)
]
Seed = Annotated[Optional[int], typer.Option(help="Overrides the seed of the config.", min=0)]
Sets = Annotated[Optional[list[str]], typer.Option("--set", help="a.b=value over the config.")]
Limit = Annotated[
    Optional[int],
    typer.Option(help="Only the first N questions of each split.", min=1),
]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")]
RunFolder = Annotated[
    Optional[Path],
    typer.Option("-o", metavar="RUN", help="The run folder; default runs/<folder of the config>."),
]
