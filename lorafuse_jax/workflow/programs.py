"""Programs that models wrote: whether they may be run here is decided before anything is asked."""

from dataclasses import replace
from functools import partial

from lorafuse_jax.assets.cache import cache_folder
from lorafuse_jax.evaluation.benchmark import Benchmark
from lorafuse_jax.evaluation.sandbox.isolation import find_isolation


def with_programs(benchmark: Benchmark, *, unsafe: bool) -> Benchmark:
    """The benchmark, ready to run programs if it does that, and to keep the verdicts.

    Args:
        benchmark: any.
        unsafe: run programs where they cannot be isolated.

    Raises:
        UserError: they cannot be isolated here, and ``unsafe`` is not set.
    """
    if not benchmark.runs_programs:
        return benchmark
    if not unsafe:
        find_isolation()
    # Scorers of programs take these two as well (code.scoring).
    score = partial(benchmark.score, unsafe=unsafe, cache=cache_folder() / "verdicts")  # pyrefly: ignore
    return replace(benchmark, score=score)
