"""The stage: writes the page of a run."""

from pathlib import Path

from accord.records import write_text
from accord.report.content import AskedWording, Example, ReportContent
from accord.report.page import render

__all__ = ["AskedWording", "Example", "ReportContent", "report"]


def report(content: ReportContent, out: Path) -> None:
    """Write `content` as one self-contained HTML file; it appears complete or not at all."""
    write_text(out, render(content))
