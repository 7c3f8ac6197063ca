"""Benchmarks by name, one a file.

To add one: a file with a ``BENCHMARK``, and its name in ``BENCHMARKS``.
"""

from lorafuse_jax.evaluation.benchmark import Benchmark
from lorafuse_jax.evaluation.tasks import (
    arc,
    asdiv,
    boolq,
    gsm8k,
    gsm_symbolic,
    hellaswag,
    humaneval,
    humaneval_plus,
    ifbench,
    ifeval,
    math,
    mbpp,
    mbpp_plus,
    mmlu,
    perplexity,
    truthfulqa,
)

BENCHMARKS: dict[str, Benchmark] = {
    one.name: one
    for one in (
        gsm8k.BENCHMARK,
        gsm_symbolic.BENCHMARK,
        asdiv.BENCHMARK,
        math.MATH,
        math.MATH_500,
        mmlu.BENCHMARK,
        truthfulqa.BENCHMARK,
        truthfulqa.MC1,
        hellaswag.BENCHMARK,
        arc.EASY,
        arc.CHALLENGE,
        boolq.BENCHMARK,
        ifeval.BENCHMARK,
        ifbench.BENCHMARK,
        perplexity.BENCHMARK,
        perplexity.WIKITEXT,
        humaneval.BENCHMARK,
        humaneval_plus.BENCHMARK,
        mbpp.BENCHMARK,
        mbpp_plus.BENCHMARK,
    )
}

__all__ = ["BENCHMARKS"]
