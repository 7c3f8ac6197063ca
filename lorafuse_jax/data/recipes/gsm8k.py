"""GSM8K (2110.14168): grade-school word problems with worked answers."""

from lorafuse_jax.data.recipes.recipe import Recipe
from lorafuse_jax.worked import after_hashes, without_calculator

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
        "answer": after_hashes(row["answer"]),
    },
    held_out=5,
    template="qa",
)
