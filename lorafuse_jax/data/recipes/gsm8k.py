"""GSM8K (2110.14168): grade-school word problems with worked answers."""

import re

from lorafuse_jax.data.recipes.recipe import Recipe

MARK = "####"


def without_calculator(worked: str) -> str:
    """The worked answer without the ``<<3*4=12>>`` that a calculator would fill in."""
    return re.sub(r"<<[^<>]*>>", "", worked)


def answer_of(worked: str) -> str | None:
    """What follows the last ``####``, without commas."""
    _, mark, after = worked.rpartition(MARK)
    return after.strip().replace(",", "") or None if mark else None


RECIPE = Recipe(
    about="8,800 grade-school word problems with worked answers",
    licence="MIT",
    hub="openai/gsm8k",
    configs=("main",),
    splits={"train": "train", "test": "test"},
    columns=("question", "answer"),
    to_row=lambda row: {
        "prompt": row["question"],
        "completion": without_calculator(row["answer"]),
        "answer": answer_of(row["answer"]),
    },
    held_out=5,
    template="qa",
)
