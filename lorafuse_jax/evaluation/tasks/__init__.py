"""Benchmarks by name, one a file.

To add one: a file with a ``BENCHMARK``, and its name in ``BENCHMARKS``.
"""

from lorafuse_jax.evaluation.benchmark import Benchmark
from lorafuse_jax.evaluation.tasks import (
    humaneval,
    humaneval_plus,
    mbpp,
    mbpp_plus,
)

BENCHMARKS: dict[str, Benchmark] = {
    one.name: one
    for one in (
        humaneval.BENCHMARK,
        humaneval_plus.BENCHMARK,
        mbpp.BENCHMARK,
        mbpp_plus.BENCHMARK,
    )
}

__all__ = ["BENCHMARKS"]
