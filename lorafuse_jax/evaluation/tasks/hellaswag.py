"""HellaSwag (1905.07830): which of four sentences goes on."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lorafuse_jax.evaluation.benchmark import Source
from lorafuse_jax.evaluation.tasks.choices import (
    METRICS,
    Item,
    as_index,
    choice_benchmark,
    conventions_of,
)


def cleaned(text: str) -> str:
    """Without WikiHow's marks, in exactly lm-eval's steps (``tasks/hellaswag/utils.py``)."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    context = row["ctx_a"] + " " + row["ctx_b"].capitalize()
    return cleaned(f"{row['activity_label']}: {context}")


def _item(row: Mapping[str, Any]) -> Item:
    return Item([cleaned(ending) for ending in row["endings"]], as_index(row["label"]))


BENCHMARK = choice_benchmark(
    name="hellaswag",
    about="HellaSwag (1905.07830), validation: 10,042 beginnings with four ends each",
    licence="MIT",
    source=Source(hub="Rowan/hellaswag", split="validation", asset="hellaswag-100"),
    columns=("activity_label", "ctx_a", "ctx_b", "endings", "label"),
    item=_item,
    metrics=METRICS[::-1],
    conventions=conventions_of(_prompt, "activity: beginning (lm-eval's hellaswag 1.0)"),
)
