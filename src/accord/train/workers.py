"""Jobs one after the other, or several side by side in processes with a GPU each."""

import json
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accord import config
from accord.errors import InputError, RunError
from accord.progress import Progress
from accord.train import launch

if TYPE_CHECKING:
    from accord.train.job import Job

DONE = "training.json"


def is_done(target: Path, key: str) -> bool:
    """Whether a row was finished under this key."""
    try:
        found = json.loads((target / DONE).read_text("utf-8"))["key"]
    except (OSError, ValueError, KeyError):
        return False
    return bool(found == key)


def run_all(jobs: Sequence["Job"], settings: config.Train, progress: Progress) -> list[str]:
    """Train all jobs; each model appears complete or not at all. Returns notes for the user.

    Raises InputError for jobs side by side in a launch of several processes.
    """
    if not jobs:
        return []
    at_once = min(_at_once(settings), len(jobs))
    if at_once > 1:
        return _side_by_side(jobs, at_once, progress)
    notes = []
    for job in jobs:
        notes += _run(job, progress)
    return notes


def _run(job: "Job", progress: Progress) -> list[str]:
    from accord.train.job import finish, prepare, work

    notes = prepare(job)
    launch.announce(job)
    notes += work(job, progress)
    finish(job)
    return notes


def _at_once(settings: config.Train) -> int:
    if launch.world_size() > 1:
        if (settings.side_by_side or 1) > 1:
            raise InputError(
                "train.side_by_side: the processes of a launch work on one row together; leave it "
                "out, or run without the launcher"
            )
        return 1
    return settings.side_by_side or max(1, len(_gpus()))


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [n.strip() for n in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if n.strip()]
    return named[:count] if len(named) >= count else [str(n) for n in range(count)]


class _Told(Progress):
    """Progress of a worker, told to the process that shows it."""

    def __init__(self, told: Any) -> None:
        self.told = told

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Put it into the queue."""
        self.told.put((amount, note))


_told: Any = None  # the queue of this worker


def _side_by_side(jobs: Sequence["Job"], at_once: int, progress: Progress) -> list[str]:
    context = multiprocessing.get_context("spawn")
    told, places = context.Queue(), context.SimpleQueue()
    gpus = _gpus()
    for n in range(at_once):
        places.put(gpus[n % len(gpus)] if gpus else "")
    pool = ProcessPoolExecutor(
        at_once, mp_context=context, initializer=_start, initargs=(told, places, at_once)
    )
    try:
        waiting: set[Future[list[str]]] = {pool.submit(_run_told, job) for job in jobs}
        notes = []
        while waiting:
            done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            _tell(told, progress)
            notes += [note for future in done for note in future.result()]
        _tell(told, progress)
        return notes
    except BrokenProcessPool:
        raise RunError(
            "train: a process was killed, most likely for want of memory; set "
            f"train.side_by_side below {at_once} or a smaller train.micro_batch_size and run again"
        ) from None
    finally:
        # An interrupt must not wait for rows that are being trained; they go on where they were.
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)


def _tell(told: Any, progress: Progress) -> None:
    while True:
        try:
            amount, note = told.get_nowait()
        except queue.Empty:
            return
        progress.advance(amount, note)


def _start(told: Any, places: Any, at_once: int) -> None:
    global _told
    _told = told
    if gpu := places.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    from accord.models.base import set_threads

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    set_threads(max(1, cores // at_once))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker must not outlive a killed run: it would hold a model's worth of memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_told(job: "Job") -> list[str]:
    return _run(job, _Told(_told))
