"""MATH (2103.03874): competition problems with solutions in LaTeX."""

from lorafuse_jax.data.recipes.recipe import Recipe
from lorafuse_jax.worked import in_box

SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)

RECIPE = Recipe(
    about="12,500 competition problems of seven subjects with solutions",
    licence="MIT",
    hub="EleutherAI/hendrycks_math",
    configs=SUBJECTS,
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
