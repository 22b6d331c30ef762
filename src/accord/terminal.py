"""What a person sees of a command: results on stdout, all else on stderr."""

import json
import sys
from typing import Any

from accord.progress import Progress, clock, open_progress


class Terminal:
    """Where a command speaks. `--json` keeps stdout for one JSON document; `--quiet` says less."""

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet

    def say(self, text: str) -> None:
        """A line for the person, on stderr; none with `--quiet`."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def watch(self, label: str) -> Progress:
        """The progress of a piece of work."""
        return open_progress(label, self.quiet)

    def stage(self, name: str, what: str, seconds: float) -> None:
        """What a stage of a run does."""
        from accord.config import STAGES

        place = f"{STAGES.index(name) + 1}/{len(STAGES)}"
        if what == "began":
            self.say(f"{place} {name}")
        elif what == "kept":
            self.say(f"{place} {name}: kept, its inputs have not changed")
        elif what == "done":
            self.say(f"    done in {clock(seconds)}")
        else:
            self.say(f"    {what}")

    def result(self, value: Any, shown: Any = None) -> None:
        """The result: JSON alone, or for people `shown` (text or a rich renderable)."""
        if self.as_json:
            print(json.dumps(value, indent=1, ensure_ascii=False))
        elif isinstance(shown, str):
            print(shown)
        elif shown is not None:
            from rich.console import Console

            # Not a terminal: the width of the table, so that nothing wraps in a log.
            Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(shown)
