"""Benchmarks by name, one a file.

To add one: a file with a ``BENCHMARK``, and its name in ``BENCHMARKS``.
"""

from lorafuse_jax.evaluation.benchmark import Benchmark
from lorafuse_jax.evaluation.tasks import (
    asdiv,
    gsm8k,
    gsm_symbolic,
    math,
)

BENCHMARKS: dict[str, Benchmark] = {
    one.name: one
    for one in (
        gsm8k.BENCHMARK,
        gsm_symbolic.BENCHMARK,
        asdiv.BENCHMARK,
        math.MATH,
        math.MATH_500,
    )
}

__all__ = ["BENCHMARKS"]
