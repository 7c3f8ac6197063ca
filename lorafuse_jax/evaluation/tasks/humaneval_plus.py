"""HumanEval+ (EvalPlus, 2305.01210): the functions of HumanEval with 80 times the tests."""

from dataclasses import replace

from lorafuse_jax.evaluation.benchmark import Source
from lorafuse_jax.evaluation.code import evalplus
from lorafuse_jax.evaluation.code.scoring import scorer
from lorafuse_jax.evaluation.tasks import humaneval

BENCHMARK = replace(
    humaneval.BENCHMARK,
    name="humaneval+",
    about="the functions of HumanEval with 80 times the tests (EvalPlus, 2305.01210)",
    licence="Apache-2.0",
    source=Source(hub="evalplus/humanevalplus"),
    conventions={
        "evalplus": humaneval.BASE,
        "chat": humaneval.CHAT,
        "completion": humaneval.GREEDY,
        "sampled": humaneval.SAMPLED,
    },
    score=scorer(evalplus.LIMITS),
)
