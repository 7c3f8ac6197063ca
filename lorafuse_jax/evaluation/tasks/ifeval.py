"""IFEval (2311.07911): instructions of 25 kinds, checked by lm-eval's copy of the paper's rules."""

from functools import cache

from lorafuse_jax.evaluation.benchmark import Source
from lorafuse_jax.evaluation.checkers.instructions import Rules
from lorafuse_jax.evaluation.checkers.library import library
from lorafuse_jax.evaluation.checkers.sentences import provide_sentences
from lorafuse_jax.evaluation.tasks.rule_checks import rule_benchmark

NEEDED_BY = "IFEval's rules"
MAY_DRAW = frozenset(["keywords:letter_frequency"])
"""Takes any letter where it is asked to count something else: "#" and "!" in two prompts."""


@cache
def rules() -> Rules:
    """The rules; that of the language draws at random, here always the same.

    Raises:
        UserError: lm-eval or what its rules need is not installed.
    """
    provide_sentences()
    library("langdetect", NEEDED_BY).DetectorFactory.seed = 0
    registry = library("lm_eval.tasks.ifeval.instructions_registry", NEEDED_BY)
    return Rules(registry.INSTRUCTION_DICT, bool, MAY_DRAW)


BENCHMARK = rule_benchmark(
    name="ifeval",
    about="IFEval (2311.07911): 541 prompts with instructions that a program checks",
    licence="Apache-2.0",
    source=Source(hub="google/IFEval", split="train", asset="ifeval"),
    rules=rules,
)
