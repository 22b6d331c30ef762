"""Runs a command, and ends it with all that it started when this process's standard input ends.

A program of its own, `python leash.py GRACE COMMAND...`, with GRACE in seconds between asking the
command to end and ending it. Its input is a pipe that the process which started it holds open: a
pipe ends with its holder however that is killed, so a server on a GPU never outlives its run.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence


def main(grace: float, command: Sequence[str]) -> int:
    """Run the command; returns its exit code, or 128 and the number of the signal it died of."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # A session of its own: what a terminal sends, an interrupt say, is not for it.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_input, args=(child, grace), daemon=True).start()
    try:
        code = child.wait()
    finally:
        _send(child, signal.SIGKILL)  # what it started and left behind
    return code if code >= 0 else 128 - code


def _end_with_input(child: "subprocess.Popen[bytes]", grace: float) -> None:
    while os.read(0, 1024):  # a buffered reader could not be left alone at the end
        pass
    _send(child, signal.SIGTERM)
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        _send(child, signal.SIGKILL)


def _send(child: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
