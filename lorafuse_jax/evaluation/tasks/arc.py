"""ARC (1803.05457): science questions of an examination at school, in an easy and a hard set."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorafuse_jax.evaluation.benchmark import Benchmark, Source
from lorafuse_jax.evaluation.tasks.choices import METRICS, Item, choice_benchmark, conventions_of


def _prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    return f"Question: {row['question']}\nAnswer:"


def _item(row: Mapping[str, Any]) -> Item:
    choices = row["choices"]
    return Item(choices["text"], list(choices["label"]).index(row["answerKey"]))


def _benchmark(name: str, config: str, count: str) -> Benchmark:
    return choice_benchmark(
        name=name,
        about=f"{config} (1803.05457), test: {count} science questions",
        licence="CC BY-SA 4.0",
        source=Source(hub="allenai/ai2_arc", config=config),
        columns=("question", "choices", "answerKey"),
        item=_item,
        metrics=METRICS[::-1],
        conventions=conventions_of(_prompt, "Question: ... Answer: (lm-eval's arc 1.0, 0-shot)"),
    )


EASY = _benchmark("arc-easy", "ARC-Easy", "2,376")
CHALLENGE = _benchmark("arc-challenge", "ARC-Challenge", "1,172")
