"""Tulu 2's mixture (2311.10702): chats of one and of many turns, from eleven sources."""

from collections.abc import Mapping
from typing import Any

from lorafuse_jax.data.recipes.recipe import Recipe


def to_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The chat up to its last answer; what a user said after that teaches nothing."""
    turns = list(row["messages"])
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    return {"messages": turns}


RECIPE = Recipe(
    about="326,000 chats of the Tulu 2 mixture, loss on every answer",
    licence="ODC-BY 1.0; its sources have their own",
    hub="allenai/tulu-v2-sft-mixture",
    columns=("messages",),
    to_row=to_row,
    held_out=1,
    template="chat",
)
