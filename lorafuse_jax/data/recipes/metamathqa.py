"""MetaMathQA (2309.12284): GSM8K and MATH training problems, rephrased and worked in new ways."""

from lorafuse_jax.data.recipes.recipe import Recipe
from lorafuse_jax.worked import after_said

RECIPE = Recipe(
    about="395,000 worked maths problems, augmented from GSM8K and MATH",
    licence="MIT",
    hub="meta-math/MetaMathQA",
    columns=("query", "response", "original_question"),
    to_row=lambda row: {
        "prompt": row["query"],
        "completion": row["response"],
        "answer": after_said(row["response"]),
    },
    # All versions of a problem stay together, or validation would ask what training has answered.
    group="original_question",
    held_out=1,
    template="metamath",
)
