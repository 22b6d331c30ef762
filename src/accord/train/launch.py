"""Several processes on one training, as torchrun or `accelerate launch` start them.

The first process does the run; the others know nothing of it: they wait for jobs, take part in
each, and end with the first. So `torchrun --nproc-per-node 8 -m accord train CONFIG` works as users
know it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from accord.errors import AccordError

if TYPE_CHECKING:
    from accord.train.job import Job

PATIENCE = timedelta(days=30)  # the others wait while the first retrieves or generates


def world_size() -> int:
    """How many processes were launched together; 1 without a launch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process does the run."""
    return int(os.environ.get("RANK", "0")) == 0


def follow() -> None:
    """Take part in the jobs of the first process until it has no more."""
    from accord.train.job import work

    try:
        _join()
        while (job := _share(None)) is not None:
            work(job)
    except AccordError as error:  # the first process says it
        raise SystemExit(error.exit_code) from None


@contextmanager
def leading() -> Iterator[None]:
    """While the first process works; after it the others end.

    Where it fails they may be in the midst of a step, and whoever launched all ends them.
    """
    yield
    if world_size() > 1:
        _join()
        _share(None)


def announce(job: "Job") -> None:
    """Tell the other processes what to take part in."""
    if world_size() > 1:
        _join()
        _share(job)


def wait() -> None:
    """Until all processes are here."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def shards(arguments: Mapping[str, Any]) -> bool:
    """Whether weights are spread over the processes (FSDP, DeepSpeed), by launch or arguments."""
    asked = any(os.environ.get(f"ACCELERATE_USE_{n}") == "true" for n in ("FSDP", "DEEPSPEED"))
    return asked or bool(arguments.get("fsdp") or arguments.get("deepspeed"))


def _join() -> None:
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    from accord.models.base import device

    if not _joined():
        PartialState(cpu=device() == "cpu", timeout=PATIENCE)
    assert PartialState().distributed_type != DistributedType.NO


def _joined() -> bool:
    import torch.distributed

    return bool(torch.distributed.is_available() and torch.distributed.is_initialized())


def _share(job: Any) -> Any:
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([job])[0]
