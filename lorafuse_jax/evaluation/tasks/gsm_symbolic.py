"""GSM-Symbolic (2410.05229): GSM8K problems made again with other names and numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorafuse_jax.evaluation.benchmark import Benchmark, Convention, Question, Row, Source, each
from lorafuse_jax.evaluation.tasks import word_problems
from lorafuse_jax.evaluation.tasks.word_problems import METRICS


def _pose(row: Row, convention: Convention, shots: Sequence[Mapping[str, Any]]) -> Question:
    template, instance = row.value["id"], row.value["instance"]
    question = word_problems.pose(row, convention, shots)
    return replace(question, id=f"{template}-{instance}", group=str(template))


def _from_asset(row: Mapping[str, Any]) -> dict[str, Any]:
    template, _, instance = row["id"].removeprefix("t").partition("-")
    return {
        "id": template,
        "instance": instance,
        "question": row["prompt"],
        "answer": row["completion"],
    }


BENCHMARK = Benchmark(
    name="gsm-symbolic",
    version=1,
    about="5,000 GSM8K-like problems, 50 of each of 100 templates (2410.05229); without a hub, "
    "240 of 6 templates, and 240 of 12 others in transfer",
    licence="CC BY-NC-ND 4.0; without a hub Apache-2.0",
    source=Source(
        hub="apple/GSM-Symbolic", config="main", asset="gsm-symbolic", from_asset=_from_asset
    ),
    columns=("id", "instance", "question", "answer"),
    conventions={
        "trained": word_problems.TRAINED,
        "8-shot-cot": word_problems.CHAIN_OF_THOUGHT,
        "metamath": word_problems.METAMATH,
    },
    pose=_pose,
    score=each(word_problems.score, METRICS),
    metrics=METRICS,
)
