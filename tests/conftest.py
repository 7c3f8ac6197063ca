"""Settings of the test run: they must be made before jax is imported."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# OpenBLAS and XLA would contend for the same cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Tests compile hundreds of small programs and run each once or twice.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep on one process what shares compiled programs or a trained run: one file's tests.

    The contract's are as many as those of all other files, and are kept together by operator.
    xdist reads the groups in a hook of this name too, and may be asked first.
    """
    for item in items:
        operator = getattr(item, "callspec", None) and item.callspec.params.get("op")
        by_operator = item.path.name == "test_contract.py" and operator
        group = f"contract {operator.name}" if by_operator else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


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
