"""Stanford Alpaca: instructions, some with an input that they are about."""

from collections.abc import Mapping
from typing import Any

from lorafuse_jax.data.recipes.recipe import Recipe
from lorafuse_jax.data.templates import INPUT_MARK


def to_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The input, where there is one, follows the instruction under its own heading."""
    about = (row["input"] or "").strip()
    prompt = (row["instruction"] or "").strip()
    return {
        "prompt": f"{prompt}{INPUT_MARK}{about}" if about and prompt else prompt,
        "completion": row["output"],
    }


RECIPE = Recipe(
    about="52,000 instructions with and without input, answered by text-davinci-003",
    licence="CC BY-NC 4.0",
    hub="tatsu-lab/alpaca",
    columns=("instruction", "input", "output"),
    to_row=to_row,
    held_out=2,
    template="alpaca",
)
