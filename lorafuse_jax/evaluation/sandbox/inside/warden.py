"""The process that watches over one program: isolates, starts test and program, waits, ends both.

It gets two files: the job, and the test, which it does not read, so that the program's process, a
copy of this one, has never had it. Its standard input ends with the process that started it, and
then it ends everything. Its answer is a line of JSON.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from . import confine
from .judge import judge
from .program import serve
from .remote import ANSWERS, OF_THE_TEST, Peer

LOOK_SECONDS = 0.05


def main(job_file: int, test_file: int) -> None:
    """Run one job, and answer."""
    job = json.loads(read_all(job_file))
    sys.path += job["libraries"]
    sys.dont_write_bytecode = True
    try:
        cell = confine.prepare(job)
        answer = _run(job, test_file, cell)
    except OSError as error:
        answer = {"refused": str(error)}
    os.write(1, json.dumps(answer).encode() + b"\n")


def read_all(descriptor: int) -> bytes:
    """A file from where it stands, closed afterwards."""
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _run(job: dict[str, Any], test_file: int, cell: confine.Cell) -> dict[str, Any]:
    to_program, to_test, said = os.pipe(), os.pipe(), os.pipe()

    def run_test() -> None:
        test = read_all(test_file).decode()
        peer = Peer(to_test[0], to_program[1], allowed=OF_THE_TEST, most=job["message_bytes"])
        os.write(said[1], json.dumps(judge(peer, test, job["entry_point"])).encode())

    def run_program() -> None:
        peer = Peer(to_program[0], to_test[1], allowed=frozenset(ANSWERS), most=sys.maxsize)
        serve(peer, job["source"])

    started = time.monotonic()
    children: list[int] = []
    try:
        # The test's comes first: in a process namespace, all others end with the first process,
        # and none of them can end it.
        kept = {to_test[0], to_program[1], said[1], test_file}
        children.insert(0, _start(run_test, kept, job, cell))
        children.insert(0, _start(run_program, {to_program[0], to_test[1]}, job, cell))
        for descriptor in (*to_program, *to_test, said[1], test_file):
            os.close(descriptor)
        answer = _wait(said[0], started, job, cell)
    finally:
        ends = [_end(child) for child in children]
    if answer["outcome"] == "ended":
        answer = _how_it_ended(*ends[0], job, "program")
    elif answer["outcome"] == "silent":
        answer = _how_it_ended(*ends[1], job, "test")
    return {**answer, "seconds": time.monotonic() - started}


def _start(
    work: Callable[[], None], kept: set[int], job: dict[str, Any], cell: confine.Cell
) -> int:
    """A process in the cell that does some work; its number, once it is confined.

    Raises:
        OSError: it could not be confined.
    """
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            confine.enter(job, cell, kept | {says})
        except BaseException as error:
            os.write(says, str(error).encode() or b"refused")
            os._exit(1)
        os.close(says)
        try:
            work()
        finally:
            os._exit(0)
    os.close(says)
    if refusal := read_all(hears):
        _end(child)
        raise OSError(refusal.decode())
    return child


def _wait(said: int, started: float, job: dict[str, Any], cell: confine.Cell) -> dict[str, Any]:
    """What the test says; or why it is not waited for any longer."""
    until = started + job["seconds"]
    poll = select.poll()
    poll.register(said, select.POLLIN)
    poll.register(0, select.POLLHUP)
    while (left := until - time.monotonic()) > 0:
        ready = dict(poll.poll(min(left, LOOK_SECONDS) * 1000))
        if said in ready:
            data = read_all(said)
            return json.loads(data) if data else {"outcome": "silent"}
        if ready:
            return {"outcome": "failed", "detail": "the process that asked has ended"}
        if cell.watched and confine.bytes_in(cell.watched) > job["file_bytes"]:
            detail = f"its files are more than {job['file_bytes']} bytes"
            return {"outcome": "failed", "detail": detail}
    return {"outcome": "timed out", "detail": f"ran for more than {job['seconds']:g} s"}


def _end(child: int) -> tuple[int, float]:
    """Kill a process with its group: its exit status, and the seconds of processor it took."""
    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def _how_it_ended(code: int, used: float, job: dict[str, Any], who: str) -> dict[str, str]:
    if code == -signal.SIGXCPU or used >= job["cpu_seconds"]:
        detail = f"took more than {job['cpu_seconds']} s of the processor"
        return {"outcome": "timed out", "detail": detail}
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code}"
    return {"outcome": "failed", "detail": f"the {who} {how} before the test was over"}
