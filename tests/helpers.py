"""Running the command line as users do, and configs of the example with a tiny model."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from conftest import HELPDESK

ROWS = ["B", "SFT", "SFT+TL", "HTD", "SEM", "SPA", "ALL", "Merged"]
ROWS += ["B+canonical", "Merged+canonical"]
ENVIRONMENT = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
PROGRAM = "from accord.cli import main; main()"


# A run of a second or two, for a backend of the tests.
SMALL = {
    "vary": {"types": ["how_to_do", "i_we"], "max_per_question": 2},
    "data": {"limit": {"train": 6, "dev": 4, "test": 3}},
    "train": {
        "loss": "ce",
        "specialists": {"H": ["how_to_do"], "I": ["i_we"]},
        "batch_size": 4,
        "learning_rate": 1e-3,
    },
    "generate": {"backend": "parrot", "max_new_tokens": 4},
}


def accord(*args, cwd=None, env=None, shim=""):
    """Run `accord ARGS` in a process of its own; `shim` is Python that runs before it."""
    return subprocess.run(
        [sys.executable, "-c", f"{shim}\n{PROGRAM}", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT | (env or {}),
        timeout=120,
        check=False,
    )


def heed_interrupts():
    """As `preexec_fn`: what a shell starts in the background ignores interrupts, and so would its
    children.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def tree(folder):
    """Every path under a folder, with the bytes of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
    }


def refusal(result, code=2):
    """The one sentence a command ended with; fails on a traceback or a second line."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("accord: ")]
    assert result.stderr.rstrip().endswith(line)  # it is the last word
    return line.removeprefix("accord: ")


def example_config(folder, base, **sections):
    """A config of examples/helpdesk cut down for a tiny model; returns its path."""
    import yaml

    tree = {
        "base": str(base),
        "data": {
            "qa": str(HELPDESK / "qa.jsonl"),
            "passages": str(HELPDESK / "passages.jsonl"),
            "variations": str(HELPDESK / "paraphrases.jsonl"),
            "limit": {"train": 21, "dev": 4, "test": 3},
        },
        "vary": {"max_per_question": 3},
        "train": {"epochs": 1},
        "generate": {"max_new_tokens": 8, "workers": 1},
        "evaluate": {"resamples": 200},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "accord.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def result(folder):
    """What must not depend on kills: the table, the merged weights, and which files there are."""
    volatile = {"events.jsonl", ".hashes.json", ".lock"}
    paths = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - volatile
    names = {re.sub(r"-[0-9a-f]{16}\.jsonl$", ".jsonl", path) for path in paths}
    merged = (folder / "merge" / "model" / "model.safetensors").read_bytes()
    return (folder / "table.json").read_bytes(), merged, names
