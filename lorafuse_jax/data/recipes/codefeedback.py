"""CodeFeedback (2402.14658): filtered instructions about code, one turn each."""

from lorafuse_jax.data.recipes.recipe import Recipe

RECIPE = Recipe(
    about="157,000 instructions about code, filtered from four open sets",
    licence="Apache-2.0",
    hub="m-a-p/CodeFeedback-Filtered-Instruction",
    columns=("query", "answer"),
    to_row=lambda row: {"prompt": row["query"], "completion": row["answer"]},
    held_out=1,
    template="alpaca",
)
