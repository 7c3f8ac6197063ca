"""MBPP+ (EvalPlus, 2305.01210): 378 problems of MBPP, mended, with 35 times the tests."""

from dataclasses import replace

from lorafuse_jax.evaluation.benchmark import Source
from lorafuse_jax.evaluation.code import evalplus
from lorafuse_jax.evaluation.code.scoring import scorer
from lorafuse_jax.evaluation.tasks import mbpp

BENCHMARK = replace(
    mbpp.BENCHMARK,
    name="mbpp+",
    about="378 functions of MBPP with 35 times the tests (EvalPlus, 2305.01210)",
    licence="Apache-2.0",
    source=Source(hub="evalplus/mbppplus"),
    columns=("task_id", "code", "test_list", "test"),
    conventions={"evalplus": mbpp.BASE, "chat": mbpp.CHAT, "3-shot": mbpp.THREE_SHOT},
    score=scorer(evalplus.LIMITS),
)
