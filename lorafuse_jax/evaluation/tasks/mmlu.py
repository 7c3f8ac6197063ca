"""MMLU (2009.03300): 57 subjects, four choices, answered with a letter."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorafuse_jax.evaluation.benchmark import Source
from lorafuse_jax.evaluation.tasks.choices import Item, choice_benchmark, conventions_of

LETTERS = ("A", "B", "C", "D")


def _question(row: Mapping[str, Any]) -> str:
    listed = "".join(f"\n{a}. {b}" for a, b in zip(LETTERS, row["choices"], strict=True))
    return f"{row['question'].strip()}{listed}\nAnswer:"


def _prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    subject = str(row.get("subject") or "").replace("_", " ")
    about = f" about {subject}" if subject else ""
    head = f"The following are multiple choice questions (with answers){about}.\n\n"
    worked = "".join(f"{_question(one)} {LETTERS[one['answer']]}\n\n" for one in shots)
    return head + worked + _question(row)


def _item(row: Mapping[str, Any]) -> Item:
    if len(row["choices"]) != len(LETTERS):
        raise ValueError(f"{len(row['choices'])} choices, not {len(LETTERS)}")
    return Item(LETTERS, row["answer"], str(row.get("subject") or ""))


ZERO = conventions_of(_prompt, "lm-eval's mmlu 1.0, 0-shot; letters are scored")
FIVE = replace(
    ZERO["lm-eval"], about="the same after the five of the subject's dev questions", shots=5
)

BENCHMARK = choice_benchmark(
    name="mmlu",
    about="MMLU (2009.03300), test: 14,042 questions on 57 subjects, which are the groups",
    licence="MIT",
    source=Source(hub="cais/mmlu", config="all", shots_split="dev", asset="mmlu-2842"),
    columns=("question", "choices", "answer"),
    item=_item,
    conventions={"lm-eval": ZERO["lm-eval"], "5-shot": FIVE, **ZERO},
    shots_by="subject",
)
