"""BoolQ (1905.10044): yes or no, about a passage."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorafuse_jax.evaluation.benchmark import Source
from lorafuse_jax.evaluation.tasks.choices import (
    Item,
    as_index,
    choice_benchmark,
    conventions_of,
)

CHOICES = ("no", "yes")


def _prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    return f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"


def _item(row: Mapping[str, Any]) -> Item:
    return Item(CHOICES, as_index(row["label"]))


BENCHMARK = choice_benchmark(
    name="boolq",
    about="BoolQ (1905.10044), validation: 3,270 questions to be answered with yes or no",
    licence="CC BY-SA 3.0",
    source=Source(hub="aps/super_glue", config="boolq", split="validation", asset="boolq"),
    columns=("passage", "question", "label"),
    item=_item,
    conventions=conventions_of(_prompt, "passage, question, Answer: (lm-eval's boolq 2.0)"),
)
