"""GSM8K (2110.14168): 1,319 grade-school word problems."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorafuse_jax.evaluation.benchmark import Benchmark, Convention, Decoding, Source, each
from lorafuse_jax.evaluation.tasks import word_problems
from lorafuse_jax.evaluation.tasks.word_problems import CLOSING, HARNESS_TOKENS, METRICS, shown


def _asked(row: Mapping[str, Any]) -> str:
    return f"Question: {row['question']}\nAnswer:"


def _five_shot_prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    return shown([(_asked(shot), shot["answer"]) for shot in shots], _asked(row))


FIVE_SHOT = Convention(
    about="lm-eval's gsm8k, with the first five training problems for every question, where "
    "lm-eval draws five for each; strict is '#### n'",
    prompt=_five_shot_prompt,
    decoding=Decoding(HARNESS_TOKENS, ("Question:", *CLOSING)),
    shots=5,
    reference=lambda row: f" {row['answer']}",
    form="#### n",
)

BENCHMARK = Benchmark(
    name="gsm8k",
    version=1,
    about="1,319 grade-school word problems (2110.14168); without a hub, 95 of them",
    licence="MIT",
    source=Source(
        hub="openai/gsm8k",
        config="main",
        asset="gsm8k-100",
        from_asset=lambda row: {
            "id": row["id"],
            "question": row["prompt"],
            "answer": row["completion"],
        },
    ),
    columns=("question", "answer"),
    conventions={
        "metamath": word_problems.METAMATH,
        "5-shot": FIVE_SHOT,
        "8-shot-cot": word_problems.CHAIN_OF_THOUGHT,
        "trained": word_problems.TRAINED,
    },
    pose=word_problems.pose,
    score=each(word_problems.score, METRICS),
    metrics=METRICS,
)
