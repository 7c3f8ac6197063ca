"""Programs in parallel, and their verdicts."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from lorafuse_jax.evaluation.sandbox.isolation import find_isolation
from lorafuse_jax.evaluation.sandbox.program import Limits, Program, Verdict
from lorafuse_jax.evaluation.sandbox.verdicts import Verdicts, key_of
from lorafuse_jax.evaluation.sandbox.warden import ask_warden


def run_programs(
    programs: Iterable[Program],
    limits: Limits | None = None,
    *,
    workers: int | None = None,
    unsafe: bool = False,
    cache: Path | None = None,
) -> Iterator[Verdict]:
    """Whether each program passes its test, in the order of the programs.

    Equal programs are run once.

    Args:
        programs: each is run in processes of its own.
        limits: of each; the defaults of ``Limits``.
        workers: programs at once; as many as processors.
        unsafe: run them with the caller's own rights, under the limits alone.
        cache: a folder for verdicts, which are then not made again.

    Raises:
        UserError: the system cannot isolate programs; at the call, before anything is run.
    """
    limits = limits or Limits()
    kind = "none" if unsafe else find_isolation()
    return _run(list(programs), limits, kind, workers or os.cpu_count() or 1, Verdicts(cache))


def _run(
    programs: list[Program], limits: Limits, kind: str, workers: int, known: Verdicts
) -> Iterator[Verdict]:
    keys = [key_of(program, limits, kind) for program in programs]
    running: dict[str, Future[Verdict]] = {}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")
    try:
        for key, program in zip(keys, programs, strict=True):
            if key not in running and known.get(key) is None:
                running[key] = pool.submit(ask_warden, program, limits, kind)
        for key in keys:
            if (verdict := known.get(key)) is None:
                verdict = running[key].result()
                known.add(key, verdict)
            yield verdict
    finally:
        pool.shutdown(cancel_futures=True)
