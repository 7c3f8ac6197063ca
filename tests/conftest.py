"""Settings of the test run: they must be made before jax is imported."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# OpenBLAS and XLA would contend for the same cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Tests compile hundreds of small programs and run each once or twice.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)


class ByFile(LoadScopeScheduling):
    """Keeps on one process what shares compiled programs or a trained run: one file's tests.

    The contract's are as many as those of all other files, and are kept together by operator, which
    is the last of their parameters.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if not file.endswith("test_contract.py"):
            return file
        return f"{file} {test.partition('[')[2].rstrip(']').rpartition('-')[2]}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """xdist's own groups by mark do nothing under pytest 9.2."""
    return ByFile(config, log)


MOST_MAPS = 20_000
"""Memory maps of a process; Linux allows 65,530, and XLA crashes in compiling where they end."""


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_let_go() -> Iterator[None]:
    """Between two files: every compiled program takes a few maps, and is kept while jax lives."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        import jax  # noqa: PLC0415

        jax.clear_caches()
