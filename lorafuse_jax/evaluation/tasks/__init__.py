"""Benchmarks by name, one a file.

To add one: a file with a ``BENCHMARK``, and its name in ``BENCHMARKS``.
"""

from lorafuse_jax.evaluation.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {one.name: one for one in ()}

__all__ = ["BENCHMARKS"]
