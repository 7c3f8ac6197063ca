"""Magicoder (2312.02120): its two sets, problems made from open code, and evolved instructions."""

from lorafuse_jax.data.recipes.recipe import Recipe

OSS_INSTRUCT = Recipe(
    about="75,000 coding problems and solutions that open-source snippets inspired",
    licence="MIT",
    hub="ise-uiuc/Magicoder-OSS-Instruct-75K",
    columns=("problem", "solution"),
    to_row=lambda row: {"prompt": row["problem"], "completion": row["solution"]},
    held_out=1,
    template="alpaca",
)

EVOL_INSTRUCT = Recipe(
    about="110,000 evolved coding instructions, decontaminated by Magicoder's authors",
    licence="Apache-2.0",
    hub="ise-uiuc/Magicoder-Evol-Instruct-110K",
    columns=("instruction", "response"),
    to_row=lambda row: {"prompt": row["instruction"], "completion": row["response"]},
    held_out=1,
    template="alpaca",
)
