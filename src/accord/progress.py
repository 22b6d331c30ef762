"""Progress with time left: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from types import TracebackType
from typing import TextIO


class Progress:
    """Silent progress, and the interface of the others: `start(total)`, then `advance(n)`."""

    def start(self, total: int, unit: str = "") -> None:
        """Begin work of `total` units."""

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """`amount` more units are done; `note` says what is being worked on."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to put away."""


class Lines(Progress):
    """One plain line every few seconds, and one at the end: for logs and pipes."""

    def __init__(self, label: str, out: TextIO | None = None, every: float = 10.0) -> None:
        self.label, self.out, self.every = label, out or sys.stderr, every
        self.total, self.done, self.unit = 0, 0, ""
        self.began = self.said = time.monotonic()

    def start(self, total: int, unit: str = "") -> None:
        """Begin work of `total` units."""
        self.total, self.done, self.unit = total, 0, unit
        self.began = self.said = time.monotonic()

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Count, and now and then say a line."""
        self.done += amount
        now = time.monotonic()
        finished = self.total > 0 and self.done >= self.total
        if now - self.said >= self.every or finished:
            self.said = now
            self._say(now - self.began, note)

    def _say(self, spent: float, note: str | None) -> None:
        left = spent / self.done * (self.total - self.done) if self.done else 0.0
        tail = f" ({note})" if note else ""
        rate = self.done / spent if spent > 0 else 0.0
        print(
            f"  {self.label}: {counted(self.done, self.total, self.unit, rate)}, "
            f"{clock(spent)} spent, {clock(left)} left{tail}",
            file=self.out,
            flush=True,
        )


class Bar(Progress):
    """A rich bar with time spent and time left."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            ProgressColumn,
            Task,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress
        from rich.table import Column
        from rich.text import Text

        class Counted(ProgressColumn):
            """How much of how much."""

            def render(self, task: Task) -> Text:
                """As `counted` says it."""
                unit = task.fields["unit"]
                total, rate = int(task.total or 0), task.speed or 0.0
                return Text(counted(int(task.completed), total, unit, rate))

        def whole() -> Column:
            return Column(no_wrap=True, min_width=7)

        # On a narrow terminal the note gives way, never the numbers.
        rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self.bars = RichProgress(
            TextColumn("  {task.description:<9}"),
            BarColumn(bar_width=16),
            Counted(table_column=whole()),
            TimeElapsedColumn(table_column=whole()),
            TextColumn("left", table_column=Column(no_wrap=True, min_width=4)),
            TimeRemainingColumn(table_column=whole()),
            TextColumn("{task.fields[note]}", table_column=rest),
            console=Console(stderr=True),
            expand=True,
        )
        self.task = self.bars.add_task(label, total=None, unit="", note="")

    def start(self, total: int, unit: str = "") -> None:
        """Begin work of `total` units."""
        self.bars.reset(self.task, total=total, unit=unit, note="")

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Move the bar."""
        if note is not None:
            self.bars.update(self.task, note=note)
        self.bars.advance(self.task, amount)

    def __enter__(self) -> "Progress":
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bars.stop()


SILENT = Progress()


def open_progress(label: str, quiet: bool = False) -> Progress:
    """The progress that fits where stderr goes; use it in a `with`."""
    if quiet:
        return SILENT
    return Bar(label) if sys.stderr.isatty() else Lines(label)


def counted(done: int, total: int, unit: str, rate: float) -> str:
    """`3/7 tensors`; bytes as `1.2/11.0 GB at 3.40 GB/s`."""
    if unit == "bytes":
        return f"{done / 1e9:.1f}/{total / 1e9:.1f} GB at {rate / 1e9:.2f} GB/s"
    return f"{done}/{total} {unit}"


def clock(seconds: float) -> str:
    """3725 -> 1:02:05."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
