"""MATH (2103.03874): competition problems with solutions in LaTeX."""

from lorafuse_jax.data.recipes.recipe import Recipe
from lorafuse_jax.worked import MATH_SUBJECTS, in_box

RECIPE = Recipe(
    about="12,500 competition problems of seven subjects with solutions",
    licence="MIT",
    hub="EleutherAI/hendrycks_math",
    configs=MATH_SUBJECTS,
    splits={"train": "train", "test": "test"},
    columns=("problem", "solution"),
    to_row=lambda row: {
        "prompt": row["problem"],
        "completion": row["solution"],
        "answer": in_box(row["solution"]),
    },
    held_out=5,
    template="qa",
)
