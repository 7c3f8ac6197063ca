"""Many processes as one: each has devices of its own, and all of them run the same program.

What only one of them may do (write a file, print a line) the first does; what all must do alike
(stop, start with the same configuration) they settle here, between two steps of the program.
"""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from lorafuse_jax.types import UserError

Result = TypeVar("Result")

AUTO = "auto"

GONE = re.compile(
    r"\b(gloo|nccl|connection|socket|peer|unavailable|deadline|coordination|heartbeat)",
    re.IGNORECASE,
)
"""What errors speak of when a collective operation has lost one of its processes."""


SECONDS_TO_LEAVE = 30
"""After an error that only one process met, it waits so long for the others to end as well."""

HOST_LOST_STATUS = 75
"""EX_TEMPFAIL: the same command may be repeated."""


class HostLost(UserError):
    """Another process of the job is gone; this one cannot go on, nor wait for it at the end."""


@dataclass(frozen=True)
class Hosts:
    """How the processes of a job find each other.

    Attributes:
        coordinator: address and port of the first process; None is found from the environment
            (SLURM, Open MPI, Cloud TPU and GKE, by jax itself), and so are the others then.
        process: number of this one, from 0.
        count: of all processes.
    """

    coordinator: str | None = None
    process: int | None = None
    count: int | None = None


def parse_hosts(text: str) -> Hosts:
    """``auto``, or ``10.0.0.1:1234,0/4``: the first process's address, this one's number, of four.

    Raises:
        UserError: it is not written like that.
    """
    if text == AUTO:
        return Hosts()
    found = re.fullmatch(r"(\S+:\d+),(\d+)/(\d+)", text)
    if not found or int(found[2]) >= int(found[3]):
        raise UserError(
            f"--hosts {text} is not understood: it is auto, or ADDRESS:PORT of process 0, the "
            "number of this process and that of all, as in 10.0.0.1:1234,0/4"
        )
    return Hosts(found[1], int(found[2]), int(found[3]))


def join(hosts: Hosts) -> None:
    """Meet the other processes; before anything else is done with jax.

    Raises:
        UserError: the environment names no job, or they did not all come.
    """
    try:
        jax.distributed.initialize(
            hosts.coordinator,
            hosts.count,
            hosts.process,
            shutdown_timeout_seconds=SECONDS_TO_LEAVE,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the processes of the job did not find each other ({error}); start the same command "
            "on every host, and where there is no SLURM, Open MPI or TPU environment that jax "
            "knows, say --hosts ADDRESS:PORT,NUMBER/COUNT"
        ) from error


def is_first() -> bool:
    """Whether this process writes files and prints."""
    return jax.process_index() == 0


def are_many() -> bool:
    """Whether there are others."""
    return jax.process_count() > 1


def gather(value: Any) -> list[Any]:
    """What every process gives, JSON-able, in their order; all must call it."""
    if not are_many():
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(text)]))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [
        json.loads(row[: int(size)].tobytes())
        for row, size in zip(rows, np.ravel(sizes), strict=True)
    ]


def of_first(value: Any) -> Any:
    """What the first process gives; all must call it."""
    return gather(value)[0]


def together(work: Callable[[], Result]) -> Result:
    """``work`` on every process; an error of one of them is an error of all.

    Raises:
        UserError: what one said, and which.
    """
    if not are_many():
        return work()
    result, mine = None, None
    try:
        result = work()
    except Exception as error:
        mine = error
    said = gather(None if mine is None else str(mine) or type(mine).__name__)
    if mine is not None and not isinstance(mine, UserError):
        raise mine
    failed = {number: text for number, text in enumerate(said) if text is not None}
    if failed:
        number, text = next(iter(failed.items()))
        raise UserError(f"process {number} of {len(said)}: {text}") from mine
    return result  # pyrefly: ignore


def check_same(about: dict[str, Any]) -> None:
    """Raise UserError on every process if one has another value of anything than the first."""
    every = gather(about)
    for number, one in enumerate(every):
        different = [key for key in every[0] | one if one.get(key) != every[0].get(key)]
        if different:
            listed = "\n".join(
                f"  {key}: {every[0].get(key)!r} on 0, {one.get(key)!r} on {number}"
                for key in different
            )
            raise UserError(
                f"processes 0 and {number} of {len(every)} do not do the same:\n{listed}\n"
                "start the same command with the same files and versions on every host"
            )


def fetch(tree: Any) -> Any:
    """Arrays in every process's own memory, whole; all must call it."""

    def one(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        return np.asarray(leaf)

    return jax.tree.map(one, tree)


def wait(name: str) -> None:
    """Until all are here."""
    if are_many():
        multihost_utils.sync_global_devices(name)


def leave() -> NoReturn:
    """End this process after another was lost: at once, as jax would wait for it.

    The first waits a little: the others are ended by jax, with less to say, once it is gone.
    """
    if is_first():
        time.sleep(2)
    os._exit(HOST_LOST_STATUS)


def lost(error: Exception) -> bool:
    """Whether it says that another process is gone."""
    kinds = (ValueError, RuntimeError)  # of jax's own, and of orbax's
    return isinstance(error, kinds) and are_many() and bool(GONE.search(str(error)))
